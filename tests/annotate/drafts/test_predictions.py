"""Drafts on a real Label Studio, by a real small model: in this process, and behind a real socket."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.drafts.predictions import version_of, write_drafts
from annotate.exchange.project import Project
from annotate.exchange.tasks import Listed
from annotate.page.provenance import predictions_of
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pipelines.cli import run
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Item, write_records
from pride_mm.schema import Kind, Role, Schema, Turn, Value
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.drafting import Drafter, DraftPrompt, drafted_fields
from pride_mm.teacher.local_writer import LocalWriter
from pride_mm.teacher.scoring import Teacher
from tests.openai_server import KEY, MODEL, OpenAIServer, openai_server

pytestmark = pytest.mark.label_studio


@pytest.fixture
def title() -> str:
    return f"D {uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def talks(data_dir: Path) -> list[Item]:
    """Three real dialogues without media."""
    with (data_dir / "empathetic_dialogues" / "valid.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(3)]
    made = []
    for number, row in enumerate(rows):
        turns = tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in row["turns"][:2])
        item = Item(id=f"talk-{number}", corpus="ed", group=str(number), inputs={})
        made.append(item.model_copy(update={"inputs": {"dialogue": turns}}))
    return made


@pytest.fixture(scope="module")
def storyteller(small_model: Path) -> Teacher:
    return Teacher(*load_backbone(small_model))


@pytest.fixture
def openai(storyteller: Teacher) -> Iterator[OpenAIServer]:
    with openai_server(storyteller) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, talks: list[Item], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run commands in, with the items."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "PRIDE_OPENAI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "items.jsonl", talks)
    return tmp_path


def listed(studio: Studio, schema: Schema, title: str) -> dict[str, Listed]:
    return {task.item: task for task in Project(studio, schema, title).tasks()}


def command(server: LocalServer, title: str, small_model: Path) -> list[str]:
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    fields = ["--field", "turn_emotion", "--field", "feelings", "--field", "expression"]
    return ["label", "draft", "items.jsonl", "--teacher", os.fspath(small_model), *fields, *where]


def test_the_whole_way(
    server: LocalServer, studio: Studio, pride: Schema, talks: list[Item], title: str, small_model: Path, here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(["label", "push", "items.jsonl", *command(server, title, small_model)[-4:]]) == 0
    assert run(command(server, title, small_model)) == 0
    assert "3 items drafted by stories260k-hf@" in capsys.readouterr().out
    tasks = listed(studio, pride, title)
    assert len(tasks) == 3
    for task in tasks.values():
        (prediction,) = task.predictions
        assert prediction["model_version"].startswith("stories260k-hf@")
        assert 0 < prediction["score"] < 1
        (drafted,) = predictions_of(task.predictions, task.context)
        assert {"feelings", "expression"} <= drafted.values.keys() <= {"turn_emotion", "feelings", "expression"}
        assert drafted.values["expression"] in (0, 1, 2)
    assert any("turn_emotion" in predictions_of(task.predictions, task.context)[0].values for task in tasks.values()), (
        "the server leaves these out in bulk"
    )
    project = studio.client.projects.get(next(iter(tasks.values())).project)
    assert project.model_version == drafted.model
    assert project.show_collab_predictions
    assert run(command(server, title, small_model)) == 0
    assert "0 items drafted" in (said := capsys.readouterr().out)
    assert "3 were drafted before" in said
    assert all(len(task.predictions) == 1 for task in listed(studio, pride, title).values())


def test_another_question_is_another_version(pride: Schema) -> None:
    prompt = DraftPrompt.load(pride)
    fields = drafted_fields(pride)
    assert version_of("hub/name/", prompt, fields) == version_of("name", prompt, fields)
    assert version_of("name", prompt, fields) != version_of("name", prompt, fields[:1])
    other = fields[0].model_copy(update={"guideline": "Other."})
    assert version_of("name", prompt, fields) != version_of("name", prompt, (other, *fields[1:]))
    assert version_of("name", DraftPrompt(pride, prompt.template + "!"), fields) != version_of("name", prompt, fields)


class Stopping:
    """A writer in whose third draft the person at the keyboard presses Ctrl-C."""

    def __init__(self, writer: LocalWriter) -> None:
        self.writer, self.left = writer, 3
        self.fits, self.choose = writer.fits, writer.choose

    def write(self, chat: Any) -> Any:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)
        return self.writer.write(chat)


def test_ctrl_c_keeps_what_is_drafted_and_the_next_run_does_the_rest(
    studio: Studio, pride: Schema, talks: list[Item], title: str, storyteller: Teacher
) -> None:
    project, prompt, fields = Project(studio, pride, title), DraftPrompt.load(pride), [pride.get("feelings")]
    project.push(talks)
    writer = LocalWriter(storyteller, max_tokens=6)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_drafts(project, talks, Drafter(prompt, Stopping(writer), BadSamples(0)), fields, "v-1")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [len(task.predictions) for _, task in sorted(listed(studio, pride, title).items())] == [1, 1, 0]
    written = write_drafts(project, talks, Drafter(prompt, writer, BadSamples(0)), fields, "v-1")
    assert (written.tasks, written.before) == (1, 2)
    assert [len(task.predictions) for task in listed(studio, pride, title).values()] == [1, 1, 1]


def test_an_openai_server_drafts_and_its_failures_are_one_line(
    server: LocalServer, studio: Studio, pride: Schema, talks: list[Item], title: str, openai: OpenAIServer, here: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Project(studio, pride, title).push(talks)
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title, "--field", "feelings"]
    remote = ["label", "draft", "items.jsonl", *where, "--server", openai.url]
    assert run([*remote, "--model", MODEL]) == 2
    assert "refuses the key" in capsys.readouterr().err
    monkeypatch.setenv("PRIDE_OPENAI_API_KEY", KEY)
    assert run(remote) == 2
    assert "--server and --model go together" in capsys.readouterr().err
    assert run([*remote, "--model", "other"]) == 2
    assert "no model 'other'" in capsys.readouterr().err
    assert run([*remote, "--model", MODEL]) == 0
    assert f"3 items drafted by {MODEL}@" in (said := capsys.readouterr().out)
    assert KEY not in said
    assert all(len(task.predictions) == 1 for task in listed(studio, pride, title).values())


def test_an_experts_note_is_never_asked_about_nor_drafted_over(
    studio: Studio, pride: Schema, talks: list[Item], title: str, openai: OpenAIServer
) -> None:
    """An expert's and a corpus's annotation lie on the server; the model is told nothing of either."""
    from pride_mm.teacher.client import Client
    from pride_mm.teacher.remote_writer import RemoteWriter

    secret = "zebra crossing at midnight"
    said: dict[str, Value] = {"situation": secret, "feelings": secret}
    expert = Annotation(item="talk-0", annotator="expert-1", values={}).model_copy(update={"values": said})
    corpus = expert.model_copy(update={"item": "talk-1", "annotator": "corpus", "origin": "corpus"})
    project = Project(studio, pride, title)
    project.push(talks, annotations=[expert, corpus])
    prompt, bad = DraftPrompt.load(pride), BadSamples(100)
    fields = [f for f in drafted_fields(pride) if f.kind is Kind.TEXT]
    drafter = Drafter(prompt, RemoteWriter(Client(openai.url, MODEL, KEY), max_tokens=8), bad)
    written = write_drafts(project, talks, drafter, fields, version_of(MODEL, prompt, fields))
    assert (written.tasks, written.annotated) == (2, 1), "an expert was faster; a corpus's notes are no expert's"
    asked = json.dumps(openai.seen)
    assert talks[1].inputs["dialogue"][0].text in json.dumps(openai.seen, ensure_ascii=False)  # type: ignore[union-attr,index]
    assert secret not in asked
    assert {f.role for f in fields} == {Role.PRIVILEGED}


def test_what_has_no_task_is_named_and_a_task_that_went_away_meanwhile_stops(
    studio: Studio, pride: Schema, talks: list[Item], title: str, storyteller: Teacher
) -> None:
    project, prompt, fields = Project(studio, pride, title), DraftPrompt.load(pride), [pride.get("feelings")]
    project.push(talks[:2])
    tasks = listed(studio, pride, title)

    class Deleting(LocalWriter):
        """A writer during whose work somebody deletes a task."""

        def write(self, chat: Any) -> Any:
            if tasks:
                studio.client.tasks.delete(str(tasks.pop("talk-1").number))
                tasks.clear()
            return super().write(chat)

    bad = BadSamples()
    with pytest.raises(UserError, match=r"adding a draft"):
        write_drafts(project, talks, Drafter(prompt, Deleting(storyteller, max_tokens=6), bad), fields, "v-1")
    written = write_drafts(project, talks, Drafter(prompt, LocalWriter(storyteller, max_tokens=6), bad), fields, "v-1")
    assert (written.tasks, written.before) == (0, 1)
    assert {str(error).partition(";")[0] for error in bad} == {
        f"talk-{number}: no task in '{title}'" for number in (1, 2)
    }
