"""What was left open goes to a real server, is settled there, and comes back as the last word."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from annotate.consensus.adjudication import adjudication_title
from annotate.exchange.project import Project
from annotate.page.label_config import label_config, page_of
from annotate.page.results import Context, to_results
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pipelines.cli import run
from pride_mm.records import Annotation, Item, write_records
from pride_mm.schema import Schema, Turn, Value

pytestmark = pytest.mark.label_studio
MARKUP = "<b>bold</b> <script>alert(1)</script>"
NAMES = ("clear", "split", "torn")


def said(item: str, annotator: str, **values: Value) -> Annotation:
    return Annotation(item=item, annotator=annotator, values={}).model_copy(update={"values": values})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> Path:
    """Three items by two annotators, who disagree on two of them; the server is the environment's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.credentials.token)
    talk = (Turn(speaker="client", text="It was all for nothing."), Turn(speaker="helper", text="What happened?"))
    items = [Item(id=name, corpus="test", group=name, inputs={}) for name in NAMES]
    write_records(Path("items.jsonl"), [i.model_copy(update={"inputs": {"dialogue": talk}}) for i in items])
    write_records(Path("annotations.jsonl"), [
        said("clear", "ana", emotion="sad", situation="one", turn_emotion=("sad", None)),
        said("clear", "ben", emotion="sad", situation="one and more", turn_emotion=("sad", None)),
        said("split", "ana", emotion="sad", situation="a loss", turn_emotion=("sad", "calm")),
        said("split", MARKUP, emotion="angry", situation="a quarrel", turn_emotion=("angry", "calm")),
        said("torn", "ana", emotion="calm", expression=0),
        said("torn", "ben", emotion="calm", expression=2),
    ])  # fmt: skip
    return tmp_path


def tasks_of(studio: Studio, schema: Schema, title: str) -> dict[str, Any]:
    found = Project(studio, schema, adjudication_title(schema, title))
    (number,) = found.numbers
    answer = studio.read("listing", "api/tasks/", project=number, page_size=100, fields="all", include="id,data")
    return {task["data"]["Item"]: task for task in answer["tasks"]}


def test_the_adjudicators_word_comes_back(
    folder: Path, studio: Studio, pride: Schema, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    title = f"Adj {uuid.uuid4().hex[:6]}"
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    assert run(["label", "adjudicate", "annotations.jsonl", "items.jsonl", *where]) == 0
    printed = capsys.readouterr().out
    assert "3 fields of 2 items are left open\n2 tasks added, 0 updated, 0 were there unchanged\n" in printed
    assert f"pride label pull --project '{title} adjudication' \\\n" in printed
    assert run(["label", "adjudicate", "annotations.jsonl", "items.jsonl", *where]) == 0
    assert "0 tasks added, 0 updated, 2 were there unchanged" in capsys.readouterr().out
    tasks = tasks_of(studio, pride, title)
    assert tasks.keys() == {"split", "torn"}, "exactly what is open"
    assert tasks["split"]["data"]["said"] == (
        f"Emotion of each turn (majority of 2, each turn; 1 of 2 turns left open)\n{MARKUP}: 1 angry, 2 calm\n"
        f"ana: 1 sad, 2 calm\n\nEmotion of the clip (tie 1/2)\n{MARKUP}: angry\nana: sad"
    )

    settle(studio, pride, tasks, title)
    pulled = ["--data-dir", os.fspath(server.data_dir), "--project", adjudication_title(pride, title)]
    assert run(["label", "pull", *pulled, "--out", "adjudicated.jsonl"]) == 0
    lines = [json.loads(line) for line in Path("adjudicated.jsonl").read_text().splitlines()]
    (judge,) = {line["annotator"] for line in lines}
    assert judge.startswith("expert-")
    capsys.readouterr()
    files = ["annotations.jsonl", "adjudicated.jsonl", "--adjudicator", judge]
    assert run(["label", "agree", *files]) == 0
    assert "left open" not in capsys.readouterr().out
    notes = {note["item"]: note for note in map(json.loads, Path("privileged.jsonl").read_text().splitlines())}
    assert notes["split"]["targets"]["emotion"] == "angry"
    assert notes["split"]["how"]["emotion"] == f"adjudicated: {judge}"
    assert notes["split"]["privileged"]["turn_emotion"] == ["angry", "calm"], "the settled turn stays as it was"
    assert notes["torn"]["privileged"]["expression"] == 1
    assert notes["clear"]["how"]["emotion"] == "majority 2/2"
    page = Path("agreement.html").read_text()
    assert f'href="{server.url}/projects/' in page
    assert run(["label", "adjudicate", *files[:2], "items.jsonl", *files[2:], *where]) == 0
    assert capsys.readouterr().out == "nothing is left open\n"


def settle(studio: Studio, schema: Schema, tasks: dict[str, Any], title: str) -> None:
    """The server's owner settles what is open, and nothing else: no field is required there."""
    talk = tasks["split"]["data"]["dialogue"]
    page = page_of(schema, {"dialogue": talk})
    answers: dict[str, dict[str, Value]] = {
        "split": {"emotion": "angry", "turn_emotion": ("angry", None)},
        "torn": {"expression": 1},
    }
    for item, values in answers.items():
        results = to_results(values, Context(page, 2, 0.0), item)
        studio.client.annotations.create(id=tasks[item]["id"], result=results)
    assert "said" not in label_config(page)


def test_more_said_updates_the_task_and_leaves_its_annotation(
    folder: Path, studio: Studio, pride: Schema, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    title = f"Adj {uuid.uuid4().hex[:6]}"
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    assert run(["label", "adjudicate", "annotations.jsonl", "items.jsonl", *where]) == 0
    settle(studio, pride, tasks_of(studio, pride, title), title)
    write_records(Path("more.jsonl"), [said("torn", "cleo", emotion="angry"), said("gone", "ana", emotion="sad"),
                                       said("gone", "ben", emotion="calm")])  # fmt: skip
    capsys.readouterr()
    assert run(["label", "adjudicate", "annotations.jsonl", "more.jsonl", "items.jsonl", "--least", "0.9", *where]) == 0
    out, err = capsys.readouterr()
    assert "0 tasks added, 1 updated, 1 were there unchanged" in out
    assert "1 items with open fields are not in items.jsonl: gone" in err
    tasks = tasks_of(studio, pride, title)
    assert "Emotion of the clip (too few agree: 2/3)" in tasks["torn"]["data"]["said"]
    assert "cleo: angry" in tasks["torn"]["data"]["said"]
    raw = studio.read("reading", f"api/tasks/{tasks['torn']['id']}/")
    assert len(raw["annotations"]) == 1


@pytest.mark.browser
def test_the_page_shows_what_was_said_as_text(
    folder: Path, studio: Studio, server: LocalServer, open_task: Any, pride: Schema
) -> None:
    title = f"Adj {uuid.uuid4().hex[:6]}"
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    assert run(["label", "adjudicate", "annotations.jsonl", "items.jsonl", *where]) == 0
    project = Project(studio, pride, adjudication_title(pride, title))
    page = open_task(project.addresses[0])
    shown = page.inner_text(".pride-page")
    assert "Left open, and what was said" in shown
    assert f"{MARKUP}: angry" in shown, "as text"
    assert not page.evaluate("document.querySelectorAll('.pride-page script').length")
    assert not page.strayed
