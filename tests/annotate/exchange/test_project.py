"""Against a real Label Studio: what goes in comes out, once."""

import os
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate.exchange.project import Project
from annotate.people import Person, address, person_of
from annotate.server.local import LocalServer, ask
from annotate.studio import Studio
from pipelines.cli import app, run
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Item, read_annotations, write_records
from pride_mm.schema import Media, Schema, Span, Turn, Value

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32


def annotated(item: str, annotator: str, origin: str = "expert", **values: Value) -> Annotation:
    return Annotation.model_validate({"item": item, "annotator": annotator, "origin": origin, "values": {}}).model_copy(
        update={"values": values}
    )


@pytest.fixture
def title() -> str:
    return f"T {uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def annotations(items: list[Item]) -> list[Annotation]:
    """Two annotators on every item, in every kind that its page has; one of them is the corpus."""
    made = []
    for item in items:
        for annotator, origin, level in (("expert-1a2b", "expert", 0), ("Crème brûlée", "corpus", 2)):
            values: dict[str, Value] = {
                "turn_emotion": ("sad", None, "fearful"),
                "situation": f'{annotator} says: <img src=x onerror=alert(1)> & "quotes"\nאב 我 \x00end',
                "expression": level,
                "emotion": "sad",
                "response": "I am here.",
            }
            if item.id in ("both", "sound", "part"):
                values["shift"] = (Span(start=0.123456789, end=0.7, label="shift"),)
            if item.id == "silent":
                values["shift"] = (Span(start=3 / 24, end=9 / 24, label="silence"),)
            made.append(annotated(item.id, annotator, origin, **values))
    return sorted(made, key=lambda a: (a.item, a.origin, a.annotator))


def test_what_is_pushed_comes_back_once(
    studio: Studio, server: LocalServer, pride: Schema, items: list[Item], annotations: list[Annotation], title: str
) -> None:
    project = Project(studio, pride, title)
    bad = BadSamples()
    first = project.push(items, server.media_root, annotations, bad)
    assert (first.tasks, first.annotations) == (len(items), len(annotations))
    second = project.push(items, server.media_root, annotations, bad)
    assert (second.tasks, second.annotations) == (0, 0)
    assert (second.tasks_before, second.annotations_before) == (len(items), len(annotations))
    assert project.push_annotations(annotations).annotations == 0
    pulled = project.pull(KEY, bad)
    assert not list(bad)
    for given, back in zip(annotations, pulled.annotations, strict=True):
        if given.item == "silent":
            (one,), (other,) = given.values["shift"], back.values["shift"]  # type: ignore[misc]
            assert other.label == one.label  # type: ignore[union-attr]
            assert other.start == pytest.approx(one.start, abs=1 / 24)  # type: ignore[union-attr]
            back = back.model_copy(update={"values": {**back.values, "shift": given.values["shift"]}})
        assert back == given
    assert len(project.addresses) == 4, "one part for each set of media"
    shared = server.media_root / "projects"
    token = server.credentials.token
    for task in studio.client.tasks.list(project=int(project.addresses[0].split("/")[-2]), page_size=5):
        for url in (v for v in task.data.values() if isinstance(v, str) and v.startswith("/data/")):
            assert ask(server.port, url, token)[0] == 200
            assert ask(server.port, url)[0] in (401, 403)
    assert not [path for path in shared.rglob("*") if path.is_symlink() or path.name.endswith(".partial")]


def test_every_kind_survives_a_real_server(studio: Studio, every_kind: Schema, title: str) -> None:
    talk = (Turn(speaker="a", text="$talk {{idx}}"), Turn(speaker="b", text="b"))
    item = Item(id="i-1", corpus="t", group="g", inputs={}).model_copy(
        update={"inputs": {"talk": talk, "topic": "work"}}
    )
    given = annotated(
        "i-1", "a", note=" kept\n\n", cause="$loss", needs=("ear", "rest"), warmth=-1, depth=77, mood=(None, "down"),
        reply="x",
    )  # fmt: skip
    project = Project(studio, every_kind, title)
    assert project.push([item]).tasks == 1
    assert project.push_annotations([given]).annotations == 1, "one at a time, into a task that is there"
    assert project.push([item], annotations=[given]).annotations_before == 1
    assert project.pull(KEY).annotations == (given,)


def test_people_are_pseudonyms_and_models_stay_models(
    studio: Studio, server: LocalServer, every_kind: Schema, title: str
) -> None:
    talk = (Turn(speaker="a", text="b"),)
    item = Item(id="i", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"talk": talk}})
    project = Project(studio, every_kind, title)
    project.push([item], annotations=[annotated("i", "draft-1", "model", warmth=0)])
    number = int(project.addresses[0].split("/")[-2])
    (task,) = list(studio.client.tasks.list(project=number))
    chosen = {"id": "x", "from_name": "warmth", "to_name": "talk", "type": "choices", "value": {"choices": ["1"]}}
    create = studio.client.annotations.create
    create(id=task.id, result=[chosen])
    prediction = studio.client.predictions.create(task=task.id, result=[chosen], model_version="m-1", score=0.5)
    create(id=task.id, result=[{**chosen, "origin": "prediction"}], parent_prediction=prediction.id)
    create(id=task.id, result=[])
    create(id=task.id, result=[chosen], was_cancelled=True)
    create(id=task.id, result=[{**chosen, "value": {"choices": ["99"]}}])
    bad = BadSamples()
    pulled = project.pull(KEY, bad)
    assert (pulled.skipped, pulled.empty) == (1, 1)
    (listed,) = project.tasks()
    assert (listed.item, listed.number, listed.project) == ("i", task.id, number)
    assert [(p["id"], p["model_version"], p["score"]) for p in listed.predictions] == [(prediction.id, "m-1", 0.5)]
    said = [(a.annotator.split("-")[0], a.origin, a.values["warmth"], a.accepted("warmth")) for a in pulled.annotations]
    assert sorted(said) == [("draft", "model", 0, False), ("expert", "expert", 1, False), ("expert", "expert", 1, True)]
    assert server.credentials.email not in str(pulled)
    (error,) = bad
    assert f"task {task.id} (i), annotator expert-" in str(error)
    assert "warmth" in str(error)
    assert project.pull(b"another key").annotations != pulled.annotations


def test_an_address_is_a_person_only_if_we_made_it() -> None:
    class User:
        email = address(Person("a", "model"))
        first_name = "a"

    assert person_of(User(), KEY) == Person("a", "model")
    User.first_name = "somebody else"
    renamed = person_of(User(), KEY)
    assert (renamed.origin, renamed.annotator.split("-")[0]) == ("model", "model"), "a model stays a model"
    User.email = "a@example.com"
    assert person_of(User(), KEY).origin == "expert"
    assert address(Person("Ä" * 150, "corpus")) != address(Person("Ö" * 150, "corpus"))


def test_bad_items_are_named_and_the_rest_is_pushed(
    studio: Studio, server: LocalServer, pride: Schema, items: list[Item], title: str, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(Path(items[0].inputs["video"].path).read_bytes()[:2000])  # type: ignore[union-attr]
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    talk = items[0].inputs["dialogue"]

    def broken(name: str, **inputs: Value) -> Item:
        item = Item(id=name, corpus="t", group="g", inputs={})
        return item.model_copy(update={"inputs": {"dialogue": talk, **inputs}})

    sound = items[1].inputs["audio"]
    assert isinstance(sound, Media)
    bad = BadSamples()
    pushed = Project(studio, pride, title).push(
        [
            broken("gone", audio=Media(path=str(tmp_path / "none.flac"))),
            broken("cut", video=Media(path=str(cut))),
            broken("empty", audio=Media(path=str(empty))),
            broken("mute", video=Media(path=sound.path)),
            broken("late", audio=Media(path=sound.path, start=50.0, end=60.0)),
            broken("half", dialogue=(Turn(speaker="a", text="\ud800"),)),
            *items,
        ],
        server.media_root,
        [
            annotated("nobody", "a", situation="x"),
            annotated("words", "a", shift=(Span(start=0, end=1, label="shift"),)),
        ],
        bad,
    )
    assert pushed.tasks == len(items)
    said = "\n".join(map(str, bad))
    for name in ("gone: audio", "cut: video", "empty: audio", "mute: video", "late: audio", "half", "nobody", "words"):
        assert name in said
    assert len(bad) == 8


def test_another_schema_or_an_edited_page_is_refused(studio: Studio, every_kind: Schema, title: str) -> None:
    talk = (Turn(speaker="a", text="b"),)
    item = Item(id="i", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"talk": talk}})
    Project(studio, every_kind, title).push([item])
    fewer = every_kind.model_copy(update={"field": every_kind.field[:-2] + every_kind.field[-1:]})
    other = fewer.model_copy(update={"field": tuple(f for f in fewer.field if f.name != "needs")})
    with pytest.raises(UserError, match=r"another schema, or its page was edited.*--project"):
        Project(studio, other, title).push([item])
    with pytest.raises(UserError, match=f"No project '{title} x'"):
        Project(studio, every_kind, f"{title} x").pull(KEY)
    with pytest.raises(UserError, match="too long"):
        Project(studio, every_kind, "x" * 60).push([item])


def test_the_commands_fit_together(
    server: LocalServer, items: list[Item], annotations: list[Annotation], title: str, pride: Schema, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    write_records(Path("items.jsonl"), items)
    write_records(Path("given.jsonl"), annotations)
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    assert run(["label", "push", "items.jsonl", "--annotations", "given.jsonl", *where]) == 0
    assert run(["label", "push", "items.jsonl", "--annotations", "given.jsonl", *where]) == 0
    assert f"0 tasks added, 0 updated, {len(items)} were there unchanged" in capsys.readouterr().out
    assert run(["label", "pull", *where]) == 0
    back = list(read_annotations(Path("annotations.jsonl"), pride, BadSamples()))
    assert [a.item for a in back] == [a.item for a in annotations]
    assert run(["label", "agree", "annotations.jsonl"]) == 0
    assert Path("privileged.jsonl").read_text().count("\n") == len(items)
    assert "<img" not in Path("agreement.html").read_text(), "markup in notes is shown as text"
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    assert run(["label", "pull", "--project", title]) == 2
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "c" * 40)
    assert run(["label", "pull", "--project", title]) == 2
    assert "refuses the token" in capsys.readouterr().err


def test_help_has_an_example_for_every_command() -> None:
    runner = CliRunner()
    for command in ("serve", "push", "pull", "agree"):
        assert f"Example: pride label {command}" in runner.invoke(app, ["label", command, "--help"]).output
