"""Against a real Label Studio: a changed schema gets a project of its own, and what fits of the old annotations."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange.listing import read_tasks
from annotate.exchange.project import Project
from annotate.exchange.versions import Older, write_left
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pipelines.cli import run
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Draft, Item, write_records
from pride_mm.schema import Schema, Turn, Value, load_schema

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32


def item(name: str) -> Item:
    talk = (Turn(speaker="a", text="one"), Turn(speaker="b", text="two"))
    return Item(id=name, corpus="t", group=name, inputs={}).model_copy(update={"inputs": {"talk": talk}})


def said(name: str, annotator: str, drafts: dict[str, Draft] | None = None, **values: Value) -> Annotation:
    bare = Annotation(item=name, annotator=annotator, origin="corpus", values={})
    return bare.model_copy(update={"values": values, "drafts": drafts or {}})


@pytest.fixture
def newer(every_kind: Schema) -> Schema:
    """The second version: a field is gone, one is new, an option is gone, a scale is shorter, one kind is another."""
    raw = every_kind.model_dump(mode="json")
    fields = {field["name"]: field for field in raw["field"]}
    del fields["needs"]
    fields["cause"]["options"] = ["$loss", "é", "new"]
    fields["warmth"]["low"] = 0
    fields["depth"] = {"name": "depth", "kind": "text", "role": "privileged"}
    fields["more"] = {"name": "more", "kind": "text", "role": "privileged"}
    return Schema.model_validate({**raw, "version": 2, "field": list(fields.values())})


def stored(project: Project) -> list[Any]:
    entries = ("id", "data", "updated_at", "annotations", "result", "completed_by", "was_cancelled", "lead_time")
    return [raw for number in project.numbers for raw in read_tasks(project.studio, number, entries)]


def test_what_fits_is_carried_over_and_the_rest_named(
    studio: Studio, every_kind: Schema, newer: Schema, tmp_path: Path
) -> None:
    title = f"T {uuid.uuid4().hex[:8]}"
    old, new = Project(studio, every_kind, title), Project(studio, newer, f"{title} 2")
    items = [item("i-1"), item("i-2"), item("i-3")]
    accepted = Draft(model="m-1", how="accepted", change=0.0)
    full = said(
        "i-1", "ana", {"note": accepted}, note="lost her job, she says", cause="é", warmth=2, mood=("up", None),
        reply="Oh.", needs=("rest",),
    )  # fmt: skip
    misfit = said("i-2", "ana", cause='a "b" <c>', warmth=-1, depth=7)
    old.push(items, annotations=[full, misfit, said("i-3", "ben", warmth=1)])
    tasks = {task.item: task.number for task in old.tasks()}
    chosen = {"id": "x", "from_name": "warmth", "to_name": "talk", "type": "choices", "value": {"choices": ["0"]}}
    create = studio.client.annotations.create
    create(id=tasks["i-3"], result=[chosen], lead_time=12.5)
    create(id=tasks["i-2"], result=[], was_cancelled=True)
    before = stored(old)

    older = Older(new, title, KEY)
    pushed = new.push(items[:2], annotations=older.annotations(), users=older.users, refused=older.left)
    assert (pushed.tasks, pushed.annotations) == (2, 2), "one whole, one skipped; of the misfit nothing is left"
    gone = {(e.place, e.field) for e in older.left}
    assert {(f"item {name}, annotator {who}", field) for name, who, field in (
        ("i-1", "ana", "needs"), ("i-2", "ana", "cause"), ("i-2", "ana", "warmth"), ("i-2", "ana", "depth"),
        ("i-3", "ben", None),
    )} <= gone  # fmt: skip
    assert len(gone) == 6, "and the third item's other annotation, which has no task there yet"
    assert write_left(tmp_path / "left.jsonl", older.left) == 6
    rows = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
    assert {"item": "i-1", "annotator": "ana", "field": "needs"}.items() <= rows[0].items()
    assert '"b"' not in (tmp_path / "left.jsonl").read_text(), "no value is in it"

    again = Older(new, title, KEY)
    pushed = new.push(items, annotations=again.annotations(), users=again.users, refused=again.left)
    assert (pushed.tasks, pushed.annotations, pushed.annotations_before) == (1, 2, 2)
    third = Older(new, title, KEY)
    pushed = new.push(items, annotations=third.annotations(), users=third.users, refused=third.left)
    assert (pushed.tasks, pushed.annotations, pushed.annotations_before) == (0, 0, 4)
    assert stored(old) == before, "the old version is as it was"

    pulled = new.pull(KEY)
    kept = {name: value for name, value in full.values.items() if name != "needs"}
    assert pulled.skipped == 1
    assert pulled.annotations[0] == full.model_copy(update={"values": kept})
    whose = {(a.item, a.annotator): a for a in old.pull(KEY).annotations}
    for annotation in pulled.annotations:
        assert whose[annotation.item, annotation.annotator].origin == annotation.origin
    times = {given["lead_time"] for task in stored(new) for given in task["annotations"]}
    assert 12.5 in times, "how long it took stays known"


def test_an_older_version_that_is_not_there_is_said(studio: Studio, every_kind: Schema, newer: Schema) -> None:
    title = f"T {uuid.uuid4().hex[:8]}"
    Project(studio, every_kind, title).push([item("i")])
    with pytest.raises(UserError, match=rf"No project 'PRIDE every_kind v7' .*there are: .*'{title}'"):
        Older(Project(studio, newer), "7", KEY)
    with pytest.raises(UserError, match="is the project itself"):
        Older(Project(studio, newer), "v2", KEY)
    with pytest.raises(UserError, match=r"another schema, or its page was edited.*'push --from'"):
        Project(studio, newer, title).push([item("i")])


def test_the_command_carries_over_by_number(
    server: LocalServer, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    shipped = (Path(__file__).parents[3] / "configs/schema/empathetic_dialogues.toml").read_text()
    name = f"t{uuid.uuid4().hex[:6]}"
    first = shipped.replace('name = "empathetic_dialogues"', f'name = "{name}"')
    Path("1.toml").write_text(first)
    Path("2.toml").write_text(first.replace("version = 1", "version = 2").replace('"lonely", ', ""))
    schema = load_schema("1.toml")
    talk = (Turn(speaker="a", text="b"),)
    given = [
        Item(id=f"i-{n}", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": talk}})
        for n in range(2)
    ]
    said_ = [
        said(one.id, "ana", emotion=emotion, situation="x")
        for one, emotion in zip(given, ("sad", "lonely"), strict=True)
    ]
    write_records(Path("items.jsonl"), given)
    Project(studio, schema).push(given, annotations=said_)
    where = ["--data-dir", os.fspath(server.data_dir)]
    assert run(["label", "push", "items.jsonl", "--schema", "2.toml", "--from", "1", *where]) == 0
    shown = capsys.readouterr()
    assert f"2 annotations carried over from 'PRIDE {name} v1', 0 were there" in shown.out
    assert "1 values or annotations do not fit" in shown.err
    (left,) = map(json.loads, Path("left.jsonl").read_text().splitlines())
    assert (left["item"], left["annotator"], left["field"]) == ("i-1", "ana", "emotion")
    assert [a.values.get("emotion") for a in Project(studio, load_schema("2.toml")).pull(KEY).annotations] == [
        "sad",
        None,
    ]
