"""One item and its notes -> the members of one sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pride_mm.data.members import META, REACHED, encode_value, is_media, suffix, to_json
from pride_mm.errors import SampleError
from pride_mm.media import Clip, MediaError, convert_audio, convert_video
from pride_mm.records import Item, Notes
from pride_mm.schema import AudioField, Field, Media, Schema, Value, jsonable, parse_value


@dataclass(frozen=True)
class Packed:
    """A sample's members by suffix, the seconds of its media by field, and the fields that were left out."""

    key: str
    base: Mapping[str, bytes]
    privileged: Mapping[str, bytes]
    seconds: Mapping[str, float]
    errors: tuple[SampleError, ...]


def pack_item(item: Item, notes: Notes | None, schema: Schema) -> Packed:
    """Convert an item's media and write every field as a member; a bad field is left out and named.

    The members of media come last, so that text and targets can be read without them.
    """
    errors: list[SampleError] = []
    turns = len(item.inputs[schema.dialogue.name])  # type: ignore[arg-type]
    inputs: dict[str, Value | bytes] = dict(item.inputs)
    clips = _clips(item, schema, errors)
    targets = dict(item.targets) | _agreed(item, notes.targets if notes else {}, schema.targets, turns, errors)
    privileged = _agreed(item, notes.privileged if notes else {}, schema.privileged, turns, errors)
    plain = {field.name: inputs[field.name] for field in schema.inputs if field.name in inputs and not is_media(field)}
    base = {META: to_json(_meta(item, clips, schema))}
    base |= _members(item, [f for f in schema.inputs if not is_media(f)], plain, errors)
    base |= _members(item, schema.targets, targets, errors)
    base |= {suffix(schema.by_name[name]): clip.data for name, clip in clips.items()}
    return Packed(
        key=item.id,
        base=base,
        privileged={REACHED: to_json(_reached(notes, schema)), **_members(item, schema.privileged, privileged, errors)},
        seconds={name: clip.seconds for name, clip in clips.items()},
        errors=tuple(errors),
    )


def _clips(item: Item, schema: Schema, errors: list[SampleError]) -> dict[str, Clip]:
    clips = {}
    for field in schema.inputs:
        media = item.inputs.get(field.name)
        if is_media(field) and isinstance(media, Media):
            try:
                clips[field.name] = convert(field, media)
            except MediaError as error:
                errors.append(SampleError(item.id, field.name, f"{Path(media.path).name}: {error}"))
    return clips


def convert(field: Field, media: Media) -> Clip:
    """Read, cut and convert the media of one field; raises MediaError."""
    path = Path(media.path)
    if isinstance(field, AudioField):
        return convert_audio(path, field.rate, media.start, media.end)
    return convert_video(path, media.start, media.end)


def _agreed(
    item: Item, values: Mapping[str, Value], fields: tuple[Field, ...], turns: int, errors: list[SampleError]
) -> dict[str, Value]:
    """Values out of notes, seen together with the item's dialogue for the first time."""
    known = {field.name: field for field in fields}
    fitting = {}
    for name, value in values.items():
        try:
            fitting[name] = parse_value(known[name], jsonable(value), turns)
        except ValueError as error:
            errors.append(SampleError(item.id, name, str(error)))
    return fitting


def _members(
    item: Item, fields: Any, values: Mapping[str, Value | bytes], errors: list[SampleError]
) -> dict[str, bytes]:
    members = {}
    for field in fields:
        try:
            data = encode_value(field, values.get(field.name))
        except ValueError as error:
            errors.append(SampleError(item.id, field.name, str(error)))
            data = encode_value(field, None)
        assert data is not None
        members[suffix(field)] = data
    return members


def _reached(notes: Notes | None, schema: Schema) -> dict[str, Any]:
    """About the notes: the same keys in every sample, empty where nothing was agreed, or nothing is a draft."""
    fields = [field.name for field in schema.privileged + schema.targets]
    how, drafts = (notes.how, notes.drafts) if notes else ({}, {})
    return {"how": {name: how.get(name, "") for name in fields}, "drafts": {n: drafts.get(n, "") for n in fields}}


def _meta(item: Item, clips: Mapping[str, Clip], schema: Schema) -> dict[str, Any]:
    """About the sample: the same keys in every sample, as other readers need it."""
    meta: dict[str, Any] = {"corpus": item.corpus, "group": item.group}
    none = Clip(b"", 0.0, 0)
    media = {field.name: clips.get(field.name, none) for field in schema.inputs if is_media(field)}
    if media:
        meta["media"] = {name: {"seconds": clip.seconds, "frames": clip.frames} for name, clip in media.items()}
    return meta
