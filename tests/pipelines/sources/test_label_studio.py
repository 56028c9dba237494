"""Exports of Label Studio: the tasks that we make, in the forms that its own converter writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange.tasks import task_of
from annotate.page.label_config import Page, label_config
from annotate.page.provenance import annotation_results
from annotate.page.results import Context, to_results
from annotate.people import Person, address
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Draft, Item
from pride_mm.schema import Media, Schema, Span, Turn, load_schema

TALK = (Turn(speaker="client", text="I <b>can't</b> sleep."), Turn(speaker="helper", text="Since when?"))
VALUES = {
    "turn_emotion": ("sad", None),
    "feelings": "Tired; she yawns.",
    "situation": "Her dog has died.\nShe is alone.",
    "shift": (Span(start=0.25, end=1.5, label="shift"), Span(start=1.75, end=2.0, label="silence")),
    "expression": 2,
    "emotion": "sad",
    "response": "Since when can't you sleep?",
}


@pytest.fixture
def schema() -> Schema:
    return load_schema("pride")


def annotation(item: str, **more: Any) -> Annotation:
    given = Annotation.model_validate({"item": item, "annotator": "a", "values": {}})
    return given.model_copy(update={"values": VALUES, **more})


@pytest.fixture
def tasks(schema: Schema, clips: list[Path], tmp_path: Path) -> list[dict[str, Any]]:
    """Two tasks as the server exports them; the second has a skipped annotation and a model's accepted draft."""
    page, made = Page(schema, ("video", "audio")), []
    (tmp_path / "served").mkdir()
    for number, name in enumerate(("one", "two"), 1):
        (tmp_path / "served" / f"{name}.mp4").write_bytes(clips[number].read_bytes())
        item = Item(id=name, corpus="c", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": TALK}})
        data = task_of(item, page, None)["data"]
        data |= dict.fromkeys(page.media, f"/data/local-files/?d=served/{name}.mp4")
        context = Context(page, len(TALK), 0.0)
        results = annotation_results(annotation(name), context, name)
        made.append({"id": number, "data": data, "annotations": [noted(10 * number, 4, results)], "predictions": []})
    drafted = {"situation": VALUES["situation"]}
    made[1]["predictions"] = [{"id": 7, "model_version": "m", "result": to_results(drafted, context, "x")}]
    made[1]["annotations"] += [
        noted(21, {"id": 5, "email": "jane@clinic.example"}, to_results(drafted, context, "x"), parent_prediction=7),
        noted(22, 6, to_results({"emotion": "happy"}, context, "x"), was_cancelled=True),
        noted(23, {"id": 9, "email": address(Person("the model", "model")), "first_name": "the model"}, results),
    ]
    return made


def noted(number: int, user: Any, result: list, **more: Any) -> dict[str, Any]:
    return {"id": number, "completed_by": user, "result": result, "was_cancelled": False, **more}


def test_json_gives_items_and_annotations(take_in, tasks, tmp_path) -> None:
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    items, annotations, bad = take_in("label_studio", tmp_path / "export.json")
    assert not len(bad)
    assert [item.id for item in items] == ["one", "two"]
    assert items[0].inputs["dialogue"] == TALK
    assert items[0].inputs["video"] == Media(path=str(tmp_path / "served" / "one.mp4"))
    assert not any(item.targets for item in items)
    assert [(a.item, a.annotator, a.origin) for a in annotations] == [
        ("one", "user-4", "expert"),
        ("two", "user-4", "expert"),
        ("two", "user-5", "expert"),
        ("two", "the model", "model"),
    ]
    assert annotations[0].values == VALUES
    assert annotations[2].drafts == {"situation": Draft(model="m", how="accepted", change=0.0)}
    assert "jane" not in (tmp_path / "out" / "annotations.jsonl").read_text()


def test_json_min_says_the_same_of_what_it_holds(take_in, tasks, schema, tmp_path) -> None:
    from label_studio_sdk.converter import Converter

    (tmp_path / "in").mkdir()
    whole = [{**task, "annotations": task["annotations"][:1], "predictions": []} for task in tasks]
    for task in whole:
        (tmp_path / "in" / f"{task['id']}.json").write_text(json.dumps(task))
    page = Page(schema, ("video", "audio"))
    Converter(label_config(page), project_dir=None).convert_to_json_min(str(tmp_path / "in"), str(tmp_path / "min"))
    short = tmp_path / "export.json"
    short.write_text((tmp_path / "min" / "result.json").read_text())
    items, annotations, _ = take_in("label_studio", short, change=(f"media={tmp_path}",))
    order = short.read_text()
    whole.sort(key=lambda task: order.find(f'"Item": "{task["data"]["Item"]}"'))
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    by_json = take_in("label_studio", tmp_path / "whole.json")
    assert items == by_json[0]
    # its converter drops what is said of single turns
    kept = {name: value for name, value in VALUES.items() if name != "turn_emotion"}
    assert [(note.item, note.annotator, note.values) for note in annotations] == [
        (note.item, note.annotator, kept) for note in by_json[1]
    ]
    assert len(annotations) == 2


def test_what_cannot_be_read_is_named_without_a_note(take_in, tasks, tmp_path) -> None:
    tasks[0]["annotations"][0]["result"].append(
        {"from_name": "analysis", "value": {"text": ["a secret", 5]}, "type": "textarea"}
    )
    tasks[0]["annotations"][0]["result"].append({"from_name": "edited", "value": {"text": ["a secret"]}})
    tasks[1]["data"]["video"] = "https://elsewhere.example/x.mp4"
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    items, annotations, bad = take_in("label_studio", tmp_path / "export.json", max_bad=5)
    assert [item.id for item in items] == ["one"]
    assert annotations[0].values == VALUES
    assert {(error.place.partition(" (")[0], error.field) for error in bad} == {
        ("export.json: entry 1", "edited"),
        ("export.json: entry 1", "analysis"),
        ("export.json: entry 2", "video"),
    }
    assert "secret" not in "".join(map(str, bad))


def test_no_export_says_what_to_give(take_in, tmp_path) -> None:
    with pytest.raises(UserError, match=r"No export at .*: give the .json file"):
        take_in("label_studio", tmp_path / "nothing.json")
