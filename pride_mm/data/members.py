"""A field's value as a member of a tar, by kind, and back.

A member is called ``<key>.<role>.<field>.<ext>``; a clip that is kept as pictures has one member a picture,
``<key>.<role>.<field>.<NNN>.<ext>``. Absent media have no member. Every other field has
one in every sample, and its JSON has every key in every sample, with an empty value of the right type
where the field is absent: readers that guess types from the first samples then lose nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pride_mm.schema import Field, Kind, MediaData, Role, Span, StoredFile, Turn, Value, VideoField, parse_value

MEDIA_KINDS = (Kind.VIDEO, Kind.AUDIO)
# What a JSON member writes for the time of a turn that the corpus doesn't know.
UNKNOWN_TIME = -1.0
# About the sample itself: not a field, hence a name that no role has.
META = "meta.item.json"
# About its notes, beside them: how each value was reached, and which are a model's drafts.
REACHED = "meta.notes.json"
# What the teacher said of it.
LESSON = "teacher.cache.safetensors"


@dataclass(frozen=True)
class _Form:
    """How one kind is written: ``dump`` takes the value or None; ``load`` gives what parse_value reads, or None."""

    extension: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def _dump_dialogue(turns: tuple[Turn, ...] | None) -> dict[str, Any]:
    turns = turns or ()
    return {
        "speakers": [turn.speaker for turn in turns],
        "texts": [turn.text for turn in turns],
        "starts": [_time(turn.start) for turn in turns],
        "ends": [_time(turn.end) for turn in turns],
    }


def _time(seconds: float | None) -> float:
    if seconds is None:
        return UNKNOWN_TIME
    if seconds < 0:
        raise ValueError("a turn's time is before the clip begins")
    return float(seconds)


def _load_dialogue(raw: Any) -> Any:
    speakers, texts, starts, ends = _take(raw, "speakers", "texts", "starts", "ends")
    if not len(speakers) == len(texts) == len(starts) == len(ends):
        raise ValueError("speakers, texts, starts and ends differ in number")
    return [
        {
            "speaker": speaker,
            "text": text,
            "start": None if start == UNKNOWN_TIME else start,
            "end": None if end == UNKNOWN_TIME else end,
        }
        for speaker, text, start, end in zip(speakers, texts, starts, ends, strict=True)
    ] or None


def _one(empty: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def load(raw: Any) -> Any:
        present, value = _take(raw, "present", "value")
        return value if present else None

    return lambda value: {"present": value is not None, "value": empty if value is None else value}, load


def _dump_list(values: tuple[str | None, ...] | None) -> dict[str, Any]:
    # null would change a column's type for other readers
    return {"present": values is not None, "values": ["" if v is None else v for v in values or ()]}


def _load_list(raw: Any) -> Any:
    present, values = _take(raw, "present", "values")
    return values if present else None


def _load_turn_list(raw: Any) -> Any:
    values = _load_list(raw)
    return None if values is None else [value or None for value in values]


def _dump_spans(spans: tuple[Span, ...] | None) -> dict[str, Any]:
    return {
        "present": spans is not None,
        "starts": [float(span.start) for span in spans or ()],
        "ends": [float(span.end) for span in spans or ()],
        "labels": [span.label for span in spans or ()],
    }


def _load_spans(raw: Any) -> Any:
    present, starts, ends, labels = _take(raw, "present", "starts", "ends", "labels")
    if not len(starts) == len(ends) == len(labels):
        raise ValueError("starts, ends and labels differ in number")
    if not present:
        return None
    return [{"start": s, "end": e, "label": label} for s, e, label in zip(starts, ends, labels, strict=True)]


def _take(raw: Any, *names: str) -> tuple[Any, ...]:
    if not isinstance(raw, dict) or set(raw) != set(names):
        raise ValueError(f"must be a JSON object of exactly {', '.join(names)}")
    if any(name.endswith("s") and not isinstance(raw[name], list) for name in names):
        raise ValueError("holds no list where one belongs")
    if "present" in names and not isinstance(raw["present"], bool):
        raise ValueError("'present' is not true or false")
    return tuple(raw[name] for name in names)


_FORMS: dict[Kind, _Form] = {
    Kind.DIALOGUE: _Form("json", _dump_dialogue, _load_dialogue),
    Kind.CHOICE: _Form("json", *_one("")),
    Kind.SCALE: _Form("json", *_one(0)),
    Kind.CHOICES: _Form("json", _dump_list, _load_list),
    Kind.TURN_CHOICE: _Form("json", _dump_list, _load_turn_list),
    Kind.SPANS: _Form("json", _dump_spans, _load_spans),
}
# What media may be written as; the pack's settings choose.
_STREAMS = {Kind.VIDEO: ("mp4",), Kind.AUDIO: ("flac", "opus")}
_PICTURES = ("jpg", "webp")


def is_media(field: Field) -> bool:
    """Whether the field's value is bytes of a clip or of sound."""
    return field.kind in MEDIA_KINDS


def suffix(field: Field) -> str:
    """The name behind its key of a member that is no media: ``<role>.<field>.<ext>``."""
    assert not is_media(field)
    return f"{_stem(field)}.{'txt' if field.kind is Kind.TEXT else _FORMS[field.kind].extension}"


def suffixes(fields: Iterable[Field]) -> dict[str, Field]:
    """Every name that a member of these fields may have behind its key."""
    names: dict[str, Field] = {}
    for field in fields:
        if not is_media(field):
            names[suffix(field)] = field
            continue
        names |= {f"{_stem(field)}.{extension}": field for extension in _STREAMS[field.kind]}
        if isinstance(field, VideoField):
            names |= {name: field for extension in _PICTURES for name in _picture_names(field, extension, field.frames)}
    return names


def media_members(field: Field, data: MediaData | StoredFile, extension: str) -> dict[str, bytes | StoredFile]:
    """The members of a clip or of sound, by what follows the key."""
    if isinstance(data, bytes | StoredFile):
        return {f"{_stem(field)}.{extension}": data}
    return dict(zip(_picture_names(field, extension, len(data)), data, strict=True))


def media_value(field: Field, members: Mapping[str, bytes]) -> MediaData | None:
    """What ``media_members`` wrote; None where the sample has none.

    Raises:
        ValueError: it is there in two forms, or a picture is missing between others.
    """
    stem = f"{_stem(field)}."
    given = sorted(name for name in members if name.startswith(stem))
    if not given:
        return None
    extension = given[0].rpartition(".")[2]
    if given == [f"{stem}{extension}"]:
        return members[given[0]]
    if given != _picture_names(field, extension, len(given)):
        raise ValueError("is there in more than one form, or a picture of it is missing")
    return tuple(members[name] for name in given)


def _stem(field: Field) -> str:
    return f"{field.role.value}.{field.name}"


def _picture_names(field: Field, extension: str, number: int) -> list[str]:
    return [f"{_stem(field)}.{picture:03d}.{extension}" for picture in range(number)]


def encode_value(field: Field, value: Value | None) -> bytes:
    """The member of a value that is no media; the value None gives a member that says absent.

    Raises:
        ValueError: the value has no such form; never shows it.
    """
    try:
        if field.kind is Kind.TEXT:
            return str(value or "").encode()
        return to_json(_FORMS[field.kind].dump(value))
    except UnicodeEncodeError:
        raise ValueError("text that is not Unicode: it has half of a surrogate pair") from None


def decode_value(field: Field, data: bytes, turns: int | None = None) -> Value | None:
    """The value of a member that is no media, checked against the schema; None where it says absent.

    ``turns`` is how many turns the sample has, where that is known.

    Raises:
        ValueError: the member is no such thing; never shows a privileged value.
    """
    if field.kind is Kind.TEXT:
        try:
            return parse_value(field, data.decode()) if data else None
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
    raw = _FORMS[field.kind].load(from_json(data))
    return None if raw is None else parse_value(field, raw, turns)


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8, keys in the order given."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_json(data: bytes) -> Any:
    """Read a JSON member; raises ValueError without showing it."""
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("not JSON") from None


def of_tar(role: Role) -> str:
    """What is added to a shard's name for the tar that holds a role: privileged fields lie apart."""
    return f".{role.value}" if role is Role.PRIVILEGED else ""
