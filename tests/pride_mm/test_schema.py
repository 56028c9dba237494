"""The contract says what is wrong with it, and nothing else names a field."""

import json
from pathlib import Path
from typing import Any

import pytest

from pride_mm.errors import UserError
from pride_mm.schema import Kind, Role, ScaleField, Schema, classes, load_schema, parse_value, parse_values

MARK = "a-note-that-nobody-may-see"
DIALOGUE = {"name": "talk", "kind": "dialogue", "role": "input"}
RESPONSE = {"name": "answer", "kind": "text", "role": "target"}
NOTE = {"name": "note", "kind": "text", "role": "privileged"}


def schema_of(*fields: dict[str, Any]) -> Schema:
    return Schema.model_validate({"name": "mine", "field": fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([DIALOGUE, RESPONSE, NOTE, NOTE], "fields given twice: note"),
        ([RESPONSE], "exactly one input of kind 'dialogue' is needed"),
        ([DIALOGUE, {**DIALOGUE, "name": "more"}, RESPONSE], "exactly one input of kind 'dialogue'"),
        ([DIALOGUE], "exactly one target of kind 'text' is needed: the response to learn"),
        ([DIALOGUE, RESPONSE, {**RESPONSE, "name": "more"}], "exactly one target of kind 'text'"),
        (
            [DIALOGUE, RESPONSE, {"name": "clip", "kind": "video", "role": "privileged"}],
            "always inputs, not clip",
        ),
        ([DIALOGUE, RESPONSE, {**NOTE, "kind": "choice", "options": ["a"]}], "at least 2 items"),
        ([DIALOGUE, RESPONSE, {**NOTE, "kind": "choice", "options": ["a", "a"]}], "an option is given twice"),
        ([DIALOGUE, RESPONSE, {**NOTE, "kind": "scale", "low": 2, "high": 2}], "'high' must be above 'low'"),
        ([DIALOGUE, RESPONSE, {**NOTE, "kind": "txet"}], "'txet' .*does not match any of the expected tags"),
        ([DIALOGUE, RESPONSE, {**NOTE, "role": "secret"}], "'input', 'target' or 'privileged'"),
        ([DIALOGUE, RESPONSE, {**NOTE, "name": "Note"}], "should match pattern"),
        ([DIALOGUE, RESPONSE, {**NOTE, "option": []}], "Extra inputs are not permitted"),
        ([DIALOGUE, RESPONSE, {**NOTE, "step": "advice"}], "'feelings', 'situation' or 'response'"),
    ],
)
def test_a_schema_that_is_none_says_why(fields: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        schema_of(*fields)


def test_a_file_names_all_its_mistakes_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nversoin = 2\n[[field]]\nname = "A"\nkind = "text"\nrole = "target"\n')
    with pytest.raises(UserError, match=r"mine.toml is not a schema:\n  field.0.text.name: (.|\n)*versoin: Extra"):
        load_schema(path)
    path.write_text("name = \n")
    with pytest.raises(UserError, match=r"mine.toml is not TOML: .*line 1"):
        load_schema(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"mine.toml is not text in UTF-8"):
        load_schema(path)
    with pytest.raises(UserError, match=r"No schema 'prode': give a path .* or one of: .*pride"):
        load_schema("prode")


def test_roles_part_the_fields_and_what_is_served_has_no_notes() -> None:
    schema = load_schema("pride")
    assert schema.inputs + schema.privileged + schema.targets == schema.of()
    assert schema.dialogue.kind is Kind.DIALOGUE
    assert (schema.response.kind, schema.response.role) == (Kind.TEXT, Role.TARGET)
    assert [head.name for head in schema.heads] == ["emotion", "sentiment"]
    served = schema.served()
    assert not served.privileged
    assert served.field == schema.inputs + schema.targets
    for note in schema.privileged:
        assert f'"name":"{note.name}"' not in served.model_dump_json()
        if note.guideline:
            assert note.guideline not in served.model_dump_json()


def test_the_hash_changes_with_the_schema_only() -> None:
    schema = load_schema("pride")
    again = Schema.model_validate(json.loads(schema.model_dump_json()))
    assert again.sha256 == schema.sha256
    assert schema.model_copy(update={"version": 2}).sha256 != schema.sha256
    assert schema.served().sha256 != schema.sha256


def test_a_field_that_is_not_there_has_a_hint() -> None:
    schema = load_schema("pride")
    assert schema.get("emotion").name == "emotion"
    with pytest.raises(
        UserError, match=r"No field 'emotoin' in schema 'pride' \(video, .*\)\. Did you mean 'emotion'\?"
    ):
        schema.get("emotoin")
    with pytest.raises(UserError, match=r"response\)\.$"):
        schema.get("qqqq")


def test_classes_are_in_the_order_of_the_logits() -> None:
    scale = ScaleField.model_validate({"name": "s", "kind": "scale", "role": "target", "low": -1, "high": 1})
    assert classes(scale) == ("-1", "0", "1")
    assert classes(load_schema("pride").heads[1]) == ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("emotion", "glad", "'glad' is not one of: neutral, calm"),
        ("emotion", 3, "3 is not one of: .*should be a valid string"),
        ("response", "  ", "empty text"),
        ("response", "x" * 100 + "\ud800", "text that is not Unicode"),
        ("video", "a.mp4", r"'a.mp4' is not \{\"path\": FILE"),
        ("video", {"path": "a.mp4", "start": -1}, r"start: Input should be greater than or equal to 0"),
        ("video", {"path": "a.mp4", "form": 1}, r"form: Extra inputs"),
        ("dialogue", [], "at least 1 item"),
        ("dialogue", [{"speaker": "a", "text": "Hi", "start": float("nan")}], "finite number"),
        ("expression", True, "the given value is not a whole number from 0 to 2"),
        ("expression", 1.0, "the given value is not a whole number from 0 to 2"),
        ("expression", 3, "the given value is not a whole number from 0 to 2"),
        ("turn_emotion", ["sad"], "1 entries for 2 turns"),
        ("turn_emotion", ["sad", MARK], "the given value is not a list with one entry a turn, null or one of"),
        ("turn_emotion", MARK, "the given value is not a list"),
        ("shift", [{"start": 2, "end": 1, "label": "shift"}], "a span ends before it starts"),
        ("shift", [{"start": 0, "end": 1, "label": MARK}], "L one of: shift, silence"),
        ("shift", [{"start": 0, "end": 1, "label": "shift", MARK: 0}], "Extra inputs are not permitted"),
        ("situation", [MARK], "the given value is not text that is not empty"),
        ("situation", f"{MARK}\udfff", "text that is not Unicode"),
    ],
)
def test_a_refused_value_says_what_is_allowed(name: str, raw: Any, said: str) -> None:
    field = load_schema("pride").get(name)
    with pytest.raises(ValueError, match=said) as refused:
        parse_value(field, raw, turns=2)
    assert MARK not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_choices_are_each_given_once() -> None:
    kinds = {**NOTE, "name": "needs", "kind": "choices", "options": ["ear", "rest"]}
    field = schema_of(DIALOGUE, RESPONSE, kinds).get("needs")
    assert parse_value(field, ["rest", "ear"]) == ("rest", "ear")
    assert parse_value(field, []) == ()
    with pytest.raises(ValueError, match="an option is given twice"):
        parse_value(field, ["ear", "ear"])


def test_all_that_is_refused_is_reported_and_the_rest_is_kept() -> None:
    schema = load_schema("pride")
    raw = {"situation": "A dog died.", "feelings": None, "expression": 9, "turn_emotion": [MARK], "age": MARK}
    values, refused = parse_values(schema.privileged, raw)
    assert values == {"situation": "A dog died."}
    assert [name for name, _ in refused] == ["expression", "turn_emotion", "age"]
    assert "not a field of this record (allowed: turn_emotion, " in dict(refused)["age"]
    assert MARK not in str(refused)
