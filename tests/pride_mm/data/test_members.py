import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.members import (
    MEDIA_KINDS,
    decode_value,
    encode_value,
    is_media,
    media_members,
    media_value,
    suffix,
    suffixes,
)
from pride_mm.schema import Field, Kind, Schema, load_schema, parse_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
SECONDS = st.floats(0, 1e5, allow_nan=False)
OPTIONS = ("sad", "glad", "ünsure")
SCHEMA = Schema.model_validate(
    {
        "name": "every",
        "field": [
            {"name": "turns", "kind": "dialogue", "role": "input"},
            {"name": "clip", "kind": "video", "role": "input"},
            {"name": "voice", "kind": "audio", "role": "input"},
            {"name": "answer", "kind": "text", "role": "target"},
            {"name": "one", "kind": "choice", "role": "target", "options": OPTIONS},
            {"name": "some", "kind": "choices", "role": "target", "options": OPTIONS},
            {"name": "level", "kind": "scale", "role": "target", "low": -1, "high": 3},
            {"name": "each", "kind": "turn_choice", "role": "privileged", "options": OPTIONS},
            {"name": "parts", "kind": "spans", "role": "privileged", "options": OPTIONS},
        ],
    }
)


@st.composite
def span(draw: st.DrawFn) -> dict[str, Any]:
    start, end = sorted((draw(SECONDS), draw(SECONDS)))
    return {"start": start, "end": end, "label": draw(st.sampled_from(OPTIONS))}


TURN = st.fixed_dictionaries({"speaker": TEXT, "text": TEXT, "start": st.none() | SECONDS, "end": st.none() | SECONDS})
RAW: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.DIALOGUE: st.lists(TURN, min_size=1, max_size=5),
    Kind.TEXT: TEXT.filter(lambda text: bool(text.strip())),
    Kind.CHOICE: st.sampled_from(OPTIONS),
    Kind.CHOICES: st.lists(st.sampled_from(OPTIONS), unique=True),
    Kind.SCALE: st.integers(-1, 3),
    Kind.TURN_CHOICE: st.lists(st.none() | st.sampled_from(OPTIONS), max_size=6),
    Kind.SPANS: st.lists(span(), max_size=4),
}


def one_field(kind: Kind) -> Field:
    return SCHEMA.of(None, kind)[0]


def test_every_kind_is_covered() -> None:
    assert set(RAW) | set(MEDIA_KINDS) == set(Kind)


@pytest.mark.parametrize("kind", list(RAW))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_values_come_back_as_they_were(kind: Kind, data: st.DataObject) -> None:
    field = one_field(kind)
    value = parse_value(field, data.draw(RAW[kind]))
    member = encode_value(field, value)
    assert member is not None
    assert decode_value(field, member) == value
    assert encode_value(field, value) == member


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    return [] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("kind", list(RAW))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_absent_has_the_same_keys_and_types_as_present(kind: Kind, data: st.DataObject) -> None:
    field = one_field(kind)
    absent = encode_value(field, None)
    assert absent is not None
    assert decode_value(field, absent) is None
    if kind is Kind.TEXT:
        assert absent == b""
    else:
        present = encode_value(field, parse_value(field, data.draw(RAW[kind])))
        assert shape(json.loads(absent)) == shape(json.loads(present or b""))
        assert b"null" not in absent


def test_media_stay_bytes_and_absent_media_have_no_member() -> None:
    field = one_field(Kind.VIDEO)
    assert is_media(field)
    assert media_value(field, {"input.clips.mp4": b"another"}) is None
    assert media_members(field, b"mp4", "mp4") == {"input.clip.mp4": b"mp4"}
    assert media_value(field, {"input.clip.mp4": b"mp4"}) == b"mp4"
    assert media_members(one_field(Kind.AUDIO), b"opus", "opus") == {"input.voice.opus": b"opus"}
    assert suffix(one_field(Kind.SPANS)) == "privileged.parts.json"


def test_a_clip_may_lie_there_as_pictures() -> None:
    field = one_field(Kind.VIDEO)
    members = media_members(field, (b"one", b"two"), "jpg")
    assert members == {"input.clip.000.jpg": b"one", "input.clip.001.jpg": b"two"}
    assert members.keys() <= suffixes([field]).keys()
    assert media_value(field, members) == (b"one", b"two")
    for broken in ({"input.clip.001.jpg": b"two"}, {**members, "input.clip.mp4": b"mp4"}):
        with pytest.raises(ValueError, match="more than one form, or a picture"):
            media_value(field, broken)


@pytest.mark.parametrize(
    ("kind", "member", "reason"),
    [
        (Kind.CHOICE, b'{"present":true,"value":"angry"}', "is not one of: sad, glad"),
        (Kind.CHOICE, b'{"present":true}', "exactly present, value"),
        (Kind.CHOICE, b'{"present":1,"value":"sad"}', "not true or false"),
        (Kind.SCALE, b'{"present":true,"value":9}', "whole number from -1 to 3"),
        (Kind.SPANS, b'{"present":true,"starts":[1],"ends":[],"labels":["sad"]}', "differ in number"),
        (Kind.SPANS, b'{"present":true,"starts":3,"ends":[],"labels":[]}', "no list"),
        (Kind.DIALOGUE, b'{"speakers":["a"],"texts":[],"starts":[],"ends":[]}', "differ in number"),
        (Kind.DIALOGUE, b"{", "not JSON"),
        (Kind.TEXT, b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_member_that_does_not_fit_is_refused(kind: Kind, member: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_value(one_field(kind), member)


def test_turn_choices_must_fit_the_turns() -> None:
    field = one_field(Kind.TURN_CHOICE)
    member = encode_value(field, ("sad", None))
    assert member is not None
    assert decode_value(field, member, turns=2) == ("sad", None)
    with pytest.raises(ValueError, match="2 entries for 3 turns"):
        decode_value(field, member, turns=3)


def test_a_refusal_never_shows_a_privileged_value() -> None:
    field = one_field(Kind.TURN_CHOICE)
    with pytest.raises(ValueError, match="the given value") as caught:
        decode_value(field, b'{"present":true,"values":["my secret"]}')
    assert "secret" not in str(caught.value)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encode_value(one_field(Kind.TEXT), "half \ud800")
    turns = parse_value(SCHEMA.dialogue, [{"speaker": "a", "text": "b", "start": -1.0}])
    with pytest.raises(ValueError, match="before the clip begins"):
        encode_value(SCHEMA.dialogue, turns)


def test_shipped_schemas_have_a_member_for_every_field() -> None:
    for name in ("pride", "empathetic_dialogues"):
        for field in load_schema(name).field:
            if not is_media(field):
                assert suffix(field) in suffixes([field])
                assert encode_value(field, None) is not None
