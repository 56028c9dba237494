"""Records come back as they were; what is bad is named by place and field and counted."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from pride_mm.errors import BadSamples, TooManyBadSamples
from pride_mm.records import (
    Annotation,
    Draft,
    Item,
    Notes,
    item_from_json,
    read_annotations,
    read_items,
    read_lines,
    read_notes,
    to_json,
    write_records,
)
from pride_mm.schema import Field, Kind, Media, Schema, Span, Turn, load_schema

MARK = "a-note-that-nobody-may-see"
TURNS = 3
OPTIONS = ("calm", "sad", "überrascht")


def every_kind() -> Schema:
    given_fields = [{"name": "talk", "kind": "dialogue", "role": "input"}]
    for kind in (
        Kind.VIDEO,
        Kind.AUDIO,
        Kind.TEXT,
        Kind.CHOICE,
        Kind.CHOICES,
        Kind.SCALE,
        Kind.TURN_CHOICE,
        Kind.SPANS,
    ):
        field: dict[str, Any] = {"name": f"a_{kind}", "kind": kind, "role": "privileged"}
        if kind in (Kind.VIDEO, Kind.AUDIO):
            field["role"] = "input"
        if kind in (Kind.CHOICE, Kind.CHOICES, Kind.TURN_CHOICE, Kind.SPANS):
            field["options"] = OPTIONS
        given_fields.append(field)
    given_fields.append({"name": "answer", "kind": "text", "role": "target"})
    given_fields.append({"name": "mood", "kind": "choice", "role": "target", "options": OPTIONS})
    return Schema.model_validate({"name": "every_kind", "field": given_fields})


SCHEMA = every_kind()
assert {field.kind for field in SCHEMA.field} == set(Kind), "the new kind is missing in every_kind()"

words = some.text(some.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(str.strip)
seconds = some.floats(0, 1e6)
option = some.sampled_from(OPTIONS)
media = some.builds(Media, path=words, start=some.none() | seconds, end=some.none() | some.floats(0.1, 1e6))
turn = some.builds(Turn, speaker=words, text=words, start=some.none() | seconds, end=some.none() | seconds)
span = some.tuples(seconds, seconds, option).map(
    lambda drawn: Span(start=min(drawn[:2]), end=max(drawn[:2]), label=drawn[2])
)
VALUES: dict[Kind, some.SearchStrategy[Any]] = {
    Kind.VIDEO: media,
    Kind.AUDIO: media,
    Kind.DIALOGUE: some.lists(turn, min_size=TURNS, max_size=TURNS).map(tuple),
    Kind.TEXT: words,
    Kind.CHOICE: option,
    Kind.CHOICES: some.lists(option, unique=True).map(tuple),
    Kind.SCALE: some.integers(0, 2),
    Kind.TURN_CHOICE: some.lists(some.none() | option, min_size=TURNS, max_size=TURNS).map(tuple),
    Kind.SPANS: some.lists(span, max_size=3).map(tuple),
}


def values_of(fields: tuple[Field, ...], *needed: str) -> some.SearchStrategy[dict[str, Any]]:
    drawn = {field.name: VALUES[field.kind] for field in fields}
    return some.fixed_dictionaries(
        {name: drawn[name] for name in needed},
        optional={name: values for name, values in drawn.items() if name not in needed},
    )


keys = some.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
items = some.builds(
    Item,
    id=keys,
    corpus=words,
    group=words,
    split=some.sampled_from([None, "train", "valid", "test"]),
    inputs=values_of(SCHEMA.inputs, "talk"),
    targets=values_of(SCHEMA.targets),
)
drafts = some.builds(
    Draft,
    model=words,
    how=some.sampled_from(["accepted", "edited", "written"]),
    change=some.none() | some.floats(0, 1),
)
annotations = some.builds(
    Annotation,
    item=keys,
    annotator=words,
    origin=some.sampled_from(["expert", "corpus", "model"]),
    values=values_of(SCHEMA.privileged + SCHEMA.targets),
).flatmap(
    lambda record: some.fixed_dictionaries({}, optional=dict.fromkeys(record.values, drafts)).map(
        lambda drawn: record.model_copy(update={"drafts": drawn})
    )
)
notes = some.builds(
    Notes,
    item=keys,
    privileged=values_of(SCHEMA.privileged),
    targets=values_of(SCHEMA.targets),
    how=some.dictionaries(words, words, max_size=2),
)
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@given(items)
def test_an_item_comes_back_equal(item: Item) -> None:
    bad = BadSamples(0)
    assert item_from_json(json.loads(json.dumps(to_json(item))), SCHEMA, "here", bad) == item


@often
@given(some.lists(annotations, max_size=3))
def test_annotations_come_back_equal(tmp_path: Path, records: list[Annotation]) -> None:
    path = tmp_path / "annotations.jsonl"
    assert write_records(path, records) == len(records)
    assert list(read_annotations(path, SCHEMA, BadSamples(0))) == records


@often
@given(some.lists(notes, max_size=3, unique_by=lambda record: record.item))
def test_notes_come_back_equal(tmp_path: Path, records: list[Notes]) -> None:
    path = tmp_path / "notes.jsonl"
    assert write_records(path, records) == len(records)
    assert list(read_notes(path, SCHEMA, BadSamples(0))) == records


def line(key: str, **more: Any) -> dict[str, Any]:
    inputs = {"dialogue": [{"speaker": "a", "text": "Hi"}]}
    return {"id": key, "corpus": "c", "group": "g", "inputs": inputs, "targets": {"response": "Oh."}, **more}


@pytest.fixture
def pride() -> Schema:
    return load_schema("pride")


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join((given if isinstance(given, str) else json.dumps(given)) + "\n" for given in lines))
    return path


def test_media_are_found_beside_the_file(tmp_path: Path, pride: Schema) -> None:
    given = line("x")
    given["inputs"] |= {"video": {"path": "clips/x.mp4"}, "audio": {"path": "/elsewhere/x.flac"}}
    (item,) = read_items(written(tmp_path / "items.jsonl", given), pride, BadSamples(0))
    assert item.inputs["video"] == Media(path=str(tmp_path / "clips" / "x.mp4"))
    assert item.inputs["audio"] == Media(path="/elsewhere/x.flac")


@pytest.mark.parametrize(
    ("bad_line", "said"),
    [
        ('{"id": "half", "inp', r"items.jsonl:2: not JSON \(.* at column \d+\)"),
        ("[1]", "items.jsonl:2: not a JSON object"),
        ("[" * 100_000, "items.jsonl:2: not JSON that can be read"),
        ('{"id": ' + "1" * 5000 + "}", "items.jsonl:2: not JSON that can be read"),
        (line("good"), "items.jsonl:2: id 'good' was already given at items.jsonl:1"),
        (line("a b"), "items.jsonl:2: id: String should match pattern"),
        (line("x", split="trian"), "items.jsonl:2: split: Input should be 'train', 'valid' or 'test'"),
        (line("x", speaker="me"), "items.jsonl:2: speaker: Extra inputs are not permitted"),
        (line("x", inputs={}), "items.jsonl:2: dialogue: missing; every item needs its turns"),
        (line("x", inputs=[]), "items.jsonl:2: values are not a JSON object"),
        (line("x", inputs={"dialogue": []}), r"items.jsonl:2: dialogue: \[\] is not \[\{\"speaker\""),
        (line("x", targets={"emotion": "wistful"}), "items.jsonl:2: emotion: 'wistful' is not one of: neutral, calm"),
        (
            line("x", targets={"emotoin": "sad"}),
            r"items.jsonl:2: emotoin: not a field of this record \(allowed: emotion,",
        ),
        (line("x", targets={"response": " "}), "items.jsonl:2: response: empty text"),
        (line("x", targets={"response": "\ud800"}), "items.jsonl:2: response: text that is not Unicode"),
        (line("x", targets={"situation": MARK}), "items.jsonl:2: situation: not a field of this record"),
        (line("x", privileged={"situation": MARK}), "items.jsonl:2: privileged: Extra inputs"),
    ],
)
def test_a_bad_item_is_named_by_line_and_field_and_left_out(
    tmp_path: Path, pride: Schema, bad_line: Any, said: str
) -> None:
    bad = BadSamples()
    path = written(tmp_path / "items.jsonl", line("good"), bad_line, line("also_good"))
    assert [item.id for item in read_items(path, pride, bad)] == ["good", "also_good"]
    (error,) = bad
    with pytest.raises(type(error), match=said):
        raise error
    assert MARK not in str(error)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, pride: Schema) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(json.dumps(line("x", targets={"response": "cafe"})).encode().replace(b"cafe", b"caf\xe9") + b"\n")
    bad = BadSamples()
    assert not list(read_items(path, pride, bad))
    assert "response: text that is not Unicode: a byte that is not UTF-8" in str(next(iter(bad)))


def test_more_than_allowed_stops(tmp_path: Path, pride: Schema) -> None:
    lines = [line(f"k{number}", targets={"emotion": "wistful"}) for number in range(5)]
    path = written(tmp_path / "items.jsonl", *lines)
    bad = BadSamples(5)
    assert not list(read_items(path, pride, bad))
    assert len(bad) == 5
    with pytest.raises(
        TooManyBadSamples, match=r"3 bad samples, 2 are allowed(.|\n)*items.jsonl:3: emotion(.|\n)*--max-bad"
    ):
        list(read_items(path, pride, BadSamples(2)))


@pytest.mark.parametrize(
    "values",
    [
        {"expression": MARK},
        {"expression": [MARK]},
        {"turn_emotion": [MARK]},
        {"turn_emotion": {MARK: 1}},
        {"situation": {MARK: MARK}},
        {"situation": [MARK]},
        {"shift": [{"start": 0, "end": 1, "label": MARK}]},
        {"shift": [{"start": 2, "end": 1, "label": MARK}]},
        {"shift": [{"start": 0, "end": 1, "label": "shift", MARK: 1}]},
        {"shift": [{"start": MARK, "end": math.inf, "label": "shift"}]},
        {"feelings": f"{MARK}\ud800"},
    ],
)
def test_a_refused_note_is_named_and_not_shown(tmp_path: Path, pride: Schema, values: dict[str, Any]) -> None:
    (name,) = values
    bad = BadSamples()
    record = {"item": "x", "annotator": "a", "values": values}
    assert not list(read_annotations(written(tmp_path / "a.jsonl", record), pride, bad))
    assert not list(read_notes(written(tmp_path / "n.jsonl", {"item": "x", "privileged": values}), pride, bad))
    first, second = map(str, bad)
    assert first.startswith(f"a.jsonl:1: {name}: ")
    assert second.startswith(f"n.jsonl:1: {name}: ")
    assert MARK not in first + second
    with pytest.raises(TooManyBadSamples) as stopped:
        list(read_annotations(tmp_path / "a.jsonl", pride, BadSamples(0)))
    assert MARK not in str(stopped.value)


def test_endless_numbers_are_refused(tmp_path: Path, pride: Schema) -> None:
    spans = [{"start": 0, "end": math.inf, "label": "shift"}]
    record = {"item": "x", "annotator": "a", "values": {"shift": spans}}
    bad = BadSamples()
    assert not list(read_annotations(written(tmp_path / "a.jsonl", record), pride, bad))
    assert "Input should be a finite number" in str(next(iter(bad)))


def test_notes_given_twice_and_records_that_lack_something(tmp_path: Path, pride: Schema) -> None:
    bad = BadSamples()
    path = written(tmp_path / "n.jsonl", {"item": "x"}, {"item": "x"}, {"privileged": {}}, {"item": "y", "who": MARK})
    assert [record.item for record in read_notes(path, pride, bad)] == ["x"]
    assert [str(error) for error in bad] == [
        "n.jsonl:2: item 'x' was already given",
        "n.jsonl:3: item: Field required",
        "n.jsonl:4: who: Extra inputs are not permitted",
    ]


def test_null_means_absent_and_empty_lines_mean_nothing(tmp_path: Path, pride: Schema) -> None:
    path = written(tmp_path / "a.jsonl", "", {"item": "x", "annotator": "a", "values": {"situation": None}}, "  ")
    (record,) = read_annotations(path, pride, BadSamples(0))
    assert record.values == {}
    assert [place for place, _ in read_lines(path, BadSamples(0))] == ["a.jsonl:2"]


def test_a_draft_that_was_only_accepted_is_nobodys_word_but_the_models(tmp_path: Path, pride: Schema) -> None:
    given = {
        "item": "x",
        "annotator": "a",
        "values": {"situation": "A dog died.", "feelings": "Grief.", "expression": 1, "emotion": "sad"},
        "drafts": {
            "situation": {"model": "m-1", "how": "accepted", "change": 0},
            "feelings": {"model": "m-1", "how": "edited", "change": 0.25},
            "expression": {"model": "m-1", "how": "written", "change": 1},
            "analysis": None,
        },
    }
    (record,) = read_annotations(written(tmp_path / "a.jsonl", given), pride, BadSamples(0))
    assert record.by_expert() == {"feelings": "Grief.", "expression": 1, "emotion": "sad"}
    assert record.drafts["feelings"] == Draft(model="m-1", how="edited", change=0.25)
    assert record.model_copy(update={"origin": "model"}).by_expert() == {}


@pytest.mark.parametrize(
    "drafts",
    [
        {MARK: {"model": "m", "how": "accepted"}},
        {"feelings": {"model": "m", "how": "accepted"}},
        {"situation": {"model": "m", "how": MARK}},
        {"situation": {"model": "m", "how": "edited", "change": 1.5}},
        {"situation": {"model": "m", "how": "edited", MARK: 1}},
        {"situation": MARK},
        MARK,
        [MARK],
    ],
)
def test_provenance_that_makes_no_sense_is_refused(tmp_path: Path, pride: Schema, drafts: Any) -> None:
    bad = BadSamples()
    record = {"item": "x", "annotator": "a", "values": {"situation": MARK}, "drafts": drafts}
    assert not list(read_annotations(written(tmp_path / "a.jsonl", record), pride, bad))
    (error,) = bad
    assert str(error).startswith("a.jsonl:1: ")
    assert "drafts" in str(error)


def test_a_value_of_notes_that_is_a_draft_is_named_and_nothing_else_is(tmp_path: Path, pride: Schema) -> None:
    given = {"item": "x", "privileged": {"situation": "A dog died."}, "targets": {"emotion": "sad"}}
    good = {**given, "drafts": {"situation": "m-1", "emotion": "m-1", "analysis": None}}
    (record,) = read_notes(written(tmp_path / "n.jsonl", good), pride, BadSamples(0))
    assert record.drafts == {"situation": "m-1", "emotion": "m-1"}
    for wrong in ({"analysis": "m-1"}, {"situation": 3}, {MARK: "m-1"}, [MARK]):
        bad = BadSamples()
        assert not list(read_notes(written(tmp_path / "n.jsonl", {**given, "drafts": wrong}), pride, bad))
        (error,) = bad
        assert MARK not in str(error)


def test_other_readers_infer_one_type(tmp_path: Path, pride: Schema) -> None:
    from datasets import load_dataset

    plain = Annotation(item="x", annotator="a", values={"situation": "A dog died.", "expression": 1})
    drafted = Annotation(
        item="y",
        annotator="a",
        values={"feelings": "Grief.", "expression": 1},
        drafts={"feelings": Draft(model="m", how="edited", change=0.5), "expression": Draft(model="m", how="written")},
    )
    write_records(tmp_path / "a.jsonl", [plain, drafted, plain])
    table = load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    write_records(tmp_path / "b.jsonl", [])
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    assert list(read_annotations(tmp_path / "b.jsonl", pride, BadSamples(0))) == [plain, drafted, plain]
