"""Against a real Label Studio: a pull of what has changed is what a full pull would be, byte for byte."""

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange.project import Project
from annotate.exchange.pulling import PulledFile, cursor_path, pull_file
from annotate.exchange.table import read_table
from annotate.studio import Studio
from pipelines.cli import run
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Item, read_annotations
from pride_mm.schema import Schema, Turn, Value

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32


def item(name: str, turns: int = 2) -> Item:
    talk = tuple(Turn(speaker="ab"[turn % 2], text=f"turn {turn} of {name}") for turn in range(turns))
    return Item(id=name, corpus="t", group=name, inputs={}).model_copy(update={"inputs": {"talk": talk}})


def said(name: str, annotator: str, **values: Value) -> Annotation:
    return Annotation(item=name, annotator=annotator, values={}).model_copy(update={"values": values})


@pytest.fixture
def project(studio: Studio, every_kind: Schema) -> Project:
    return Project(studio, every_kind, f"T {uuid.uuid4().hex[:8]}")


def chosen(level: int) -> list[dict[str, Any]]:
    value = {"choices": [str(level)]}
    return [{"id": "x", "from_name": "warmth", "to_name": "talk", "type": "choices", "value": value}]


class Folder:
    """A file that is pulled with ``changed`` and one that is pulled whole, beside each other."""

    def __init__(self, project: Project, folder: Path, suffix: str) -> None:
        self.project = project
        self.out, self.whole = folder / f"a{suffix}", folder / f"whole{suffix}"
        self.bad = BadSamples(1000)

    def pull(self) -> PulledFile:
        pulled = pull_file(self.project, KEY, self.out, changed=True, bad=self.bad)
        whole = pull_file(self.project, KEY, self.whole)
        assert self.out.read_bytes() == self.whole.read_bytes()
        assert json.loads(cursor_path(self.out).read_text()) == json.loads(cursor_path(self.whole).read_text())
        assert (pulled.annotations, pulled.tasks) == (whole.annotations, whole.tasks)
        return pulled


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_pull_of_what_has_changed_equals_a_full_one(project: Project, tmp_path: Path, suffix: str) -> None:
    names = [f"i-{number}" for number in (3, 1, 4, 2, 5, 9, 7)]
    given = [said(name, who, warmth=1, note=f"{who} on {name}") for name in names for who in ("ben", "ana")]
    project.push([item(name) for name in names], annotations=given)
    client, folder = project.studio.client, Folder(project, tmp_path, suffix)
    assert folder.pull().read == 7, "the first time all are read"
    assert folder.pull().read == 0
    tasks = {task.item: task for task in project.tasks()}

    created = client.annotations.create(id=tasks["i-1"].number, result=chosen(2), lead_time=3.5)
    client.annotations.create(id=tasks["i-9"].number, result=[], was_cancelled=True)
    client.annotations.update(id=tasks["i-2"].annotations[0]["id"], result=chosen(0))
    client.annotations.delete(id=tasks["i-3"].annotations[0]["id"])
    pulled = folder.pull()
    assert (pulled.read, pulled.skipped, pulled.annotations) == (4, 1, 14)
    assert project.pull(KEY).annotations == tuple(read_table(folder.out, project.schema))

    client.tasks.delete(id=str(tasks["i-4"].number))
    client.annotations.update(id=created.id, result=chosen(1))
    project.push([item("i-0")], annotations=[said("i-0", "ana", warmth=2)])
    pulled = folder.pull()
    assert (pulled.read, pulled.deleted, pulled.annotations) == (2, 1, 13)

    prediction = client.predictions.create(task=tasks["i-5"].number, result=chosen(1), model_version="m", score=0.5)
    client.annotations.create(id=tasks["i-5"].number, result=chosen(1), parent_prediction=prediction.id)
    assert folder.pull().read == 1
    assert any(one.accepted("warmth") for one in read_table(folder.out, project.schema))
    client.predictions.update(id=prediction.id, result=chosen(2))
    folder.pull()
    assert not any(one.accepted("warmth") for one in read_table(folder.out, project.schema)), "it was another draft"
    client.predictions.delete(id=prediction.id)
    folder.pull()  # the annotation's draft is gone, which changes what is told of it

    numbers = [task.number for task in project.tasks()]
    client.actions.create(
        id="delete_tasks_annotations", project=project.numbers[0], selected_items={"all": False, "included": numbers}
    )
    pulled = folder.pull()
    assert (pulled.annotations, pulled.read) == (0, 7)


def test_a_cursor_is_of_one_project_one_schema_and_one_file(
    project: Project, studio: Studio, every_kind: Schema, tmp_path: Path
) -> None:
    project.push([item("i")], annotations=[said("i", "ana", warmth=1)])
    other = Project(studio, every_kind, f"{project.title} b")
    other.push([item("i")], annotations=[said("i", "ana", warmth=1)])
    out = tmp_path / "a.jsonl"
    pull_file(other, KEY, out)
    with pytest.raises(UserError, match="another project or server"):
        pull_file(project, KEY, out, changed=True)
    pull_file(project, KEY, out)
    pull_file(project, b"another key", out, changed=True)
    assert pull_file(project, b"another key", out, changed=True).read == 0
    changed = every_kind.model_copy(update={"description": "another"})
    with pytest.raises(UserError, match="another schema"):
        pull_file(Project(studio, changed, project.title), KEY, out, changed=True)
    out.write_bytes(out.read_bytes() + b"\n")
    before = out.read_bytes()
    with pytest.raises(UserError, match="was changed since it was pulled"):
        pull_file(project, KEY, out, changed=True)
    assert out.read_bytes() == before
    cursor_path(out).write_text("{}")
    with pytest.raises(UserError, match="is not what 'pride label pull' wrote"):
        pull_file(project, KEY, out, changed=True)


def test_an_item_that_is_there_twice_is_pulled_twice(project: Project, tmp_path: Path) -> None:
    project.push([item("i-1"), item("i-2")], annotations=[said("i-1", "ana", warmth=1)])
    folder = Folder(project, tmp_path, ".jsonl")
    folder.pull()
    again = {"data": {"Item": "i-1", "Fps": 0.0, "talk": [{"speaker": "a", "text": "b"}], "topic": "", "extra": 1}}
    project.studio.client.projects.import_tasks(id=project.numbers[0], request=[again])
    folder.pull()
    (_, second) = sorted(task.number for task in project.tasks() if task.item == "i-1")
    project.studio.client.annotations.create(id=second, result=chosen(2))
    assert folder.pull().annotations == 2
    project.studio.client.tasks.delete(id=str(second))
    assert folder.pull().annotations == 1


def test_drafts_are_counted_and_strange_results_named(project: Project, tmp_path: Path) -> None:
    project.push([item("i-1"), item("i-2")])
    studio, out = project.studio, tmp_path / "a.jsonl"
    task = next(project.tasks())
    studio.send("drafting", f"api/tasks/{task.number}/drafts", {"result": chosen(1), "lead_time": 1})
    strange = [{**chosen(1)[0], "from_name": "elsewhere"}, {**chosen(7)[0]}, *chosen(2)]
    studio.client.annotations.create(id=task.number, result=strange[:1])
    studio.client.annotations.create(id=task.number, result=strange[1:2])
    bad = BadSamples()
    pulled = pull_file(project, KEY, out, bad=bad)
    assert (pulled.annotations, pulled.unsubmitted) == (0, 1)
    named = sorted(map(str, bad))
    assert len(named) == 2
    for error, name in zip(named, ("elsewhere", "warmth"), strict=True):
        assert error.startswith(f"task {task.number} (i-1), annotator expert-")
        assert f": {name}: " in error


def load(path: Path, kind: str) -> Any:
    import datasets

    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))


@pytest.mark.parametrize("name", ["pride", "empathetic_dialogues"])
def test_datasets_opens_what_was_pulled(studio: Studio, name: str, tmp_path: Path, items: Sequence[Item]) -> None:
    from pride_mm.schema import load_schema

    schema = load_schema(name)
    words = next(one for one in items if one.id == "words")
    many = [words.model_copy(update={"id": f"w-{number}"}) for number in range(30)]
    more: dict[str, Value] = {"response": "I see."}
    if name == "pride":
        more |= {"expression": 2, "turn_emotion": ("sad", None, "calm")}
    few = [said(one.id, "ana", emotion="sad", situation="lost") for one in many[:20]]
    full = [said(one.id, "ben", emotion="sad", situation="אבד 我 🙂 <b>", **more) for one in many[10:]]
    project = Project(studio, schema, f"T {uuid.uuid4().hex[:8]}")
    project.push(many, annotations=few + full)
    expected = project.pull(KEY).annotations
    assert len(expected) == 40
    for kind, suffix in (("json", ".jsonl"), ("parquet", ".parquet")):
        out = tmp_path / f"{kind}{suffix}"
        pull_file(project, KEY, out)
        rows = load(out, kind)
        assert [row["item"] for row in rows] == [one.item for one in expected]
        assert [row["values"]["situation"] for row in rows] == [one.values["situation"] for one in expected]
        assert tuple(read_table(out, schema)) == expected
    assert tuple(read_annotations(tmp_path / "json.jsonl", schema, BadSamples(0))) == expected


def test_the_command_pulls_what_has_changed(
    project: Project, server: Any, every_kind: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import tomllib

    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    schema = tmp_path / "every_kind.toml"
    schema.write_text(_toml(every_kind))
    assert tomllib.loads(schema.read_text())["name"] == every_kind.name
    project.push([item("i-1"), item("i-2")], annotations=[said("i-1", "ana", warmth=1)])
    where = ["--data-dir", os.fspath(server.data_dir), "--project", project.title, "--schema", str(schema)]
    assert run(["label", "pull", "--changed", *where]) == 0
    project.push_annotations([said("i-2", "ana", warmth=1)])
    assert run(["label", "pull", "--changed", *where]) == 0
    shown = capsys.readouterr().out
    assert "2 annotations -> annotations.jsonl" in shown
    assert "1 of 2 tasks were new or changed, 0 are gone" in shown
    assert run(["label", "pull", "--changed", "--out", "a.parquet", *where]) == 0
    assert len(list(read_table(Path("a.parquet"), every_kind))) == 2


def _toml(schema: Schema) -> str:
    lines = [f'name = "{schema.name}"', f"version = {schema.version}"]
    for field in schema.field:
        lines.append("[[field]]")
        lines += [
            f"{name} = {json.dumps(value)}"
            for name, value in field.model_dump(mode="json").items()
            if value not in (None, "")
        ]
    return "\n".join(lines)
