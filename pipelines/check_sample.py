"""All that is wrong with one sample: every member decoded, every clip and sound played to its end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as datum
from typing import Any

from pride_mm.data.members import META, REACHED, from_json, is_media, suffix
from pride_mm.data.shards import decode_role, read_reached
from pride_mm.data.teaching import MEMBER as TEACHER_MEMBER
from pride_mm.data.teaching import Lesson
from pride_mm.errors import SampleError
from pride_mm.media import MediaError, verify
from pride_mm.schema import AudioField, Field, Schema


@dataclass
class Checked:
    """One sample that was looked at; corpus and group are None where they cannot be read."""

    key: str
    corpus: str | None = None
    group: str | None = None
    findings: list[SampleError] = datum(default_factory=list)


def check_sample(key: str, schema: Schema, parts: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> Checked:
    """Check one sample.

    Args:
        key: the sample's.
        schema: its fields.
        parts: what was read of it: for ``base``, ``notes`` and ``teaching`` the tar's name and the members.
    """
    checked = Checked(key)
    tar, members = parts["base"]
    place = f"{tar}: {key}"
    turns = _check_dialogue(schema, members, place, checked)
    for field in schema.inputs + schema.targets:
        if not is_media(field) and field is not schema.dialogue:
            _decode(field, members, place, turns, checked)
    _check_meta(schema, members, place, checked)
    if "notes" in parts:
        tar, members = parts["notes"]
        for field in schema.privileged:
            _decode(field, members, f"{tar}: {key}", turns, checked)
        try:
            read_reached(members.get(REACHED), f"{tar}: {key}")
        except SampleError as error:
            checked.findings.append(error)
    if "teaching" in parts:
        tar, members = parts["teaching"]
        try:
            Lesson.from_bytes(members[TEACHER_MEMBER])
        except ValueError as error:
            checked.findings.append(SampleError(f"{tar}: {key}", None, f"{error}; run `pride teach` again"))
    return checked


def _check_dialogue(schema: Schema, members: Mapping[str, bytes], place: str, checked: Checked) -> int | None:
    before = len(checked.findings)
    value = _decode(schema.dialogue, members, place, None, checked)
    if value is None and len(checked.findings) == before:
        checked.findings.append(SampleError(place, schema.dialogue.name, "no turns; every sample needs its turns"))
    return None if value is None else len(value)


def _decode(field: Field, members: Mapping[str, bytes], place: str, turns: int | None, checked: Checked) -> Any:
    try:
        return decode_role((field,), members, place, turns).get(field.name)
    except SampleError as error:
        checked.findings.append(error)
        return None


def _check_meta(schema: Schema, members: Mapping[str, bytes], place: str, checked: Checked) -> None:
    try:
        meta = from_json(members[META])
        checked.corpus, checked.group = str(meta["corpus"]), str(meta["group"])
        packed = {name: (float(v["seconds"]), int(v["frames"])) for name, v in meta.get("media", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        checked.findings.append(SampleError(place, None, f"'{META}' is not what was packed"))
        return
    for field in schema.inputs:
        if is_media(field):
            seconds, frames = packed.get(field.name, (0.0, 0))
            reasons = _media_reasons(field, members.get(suffix(field)), seconds, frames)
            checked.findings += [SampleError(place, field.name, reason) for reason in reasons]


def _media_reasons(field: Field, data: bytes | None, seconds: float, frames: int) -> Iterator[str]:
    if data is None:
        if seconds > 0:
            yield "is missing, but was packed"
        return
    try:
        if isinstance(field, AudioField):
            sound = verify(data, audio=True).audio
            assert sound is not None
            if (sound.codec, sound.channels, sound.rate) != ("flac", 1, field.rate):
                yield f"is {sound.codec}, {sound.channels} channels, {sound.rate} Hz; not mono FLAC at {field.rate} Hz"
        else:
            pictures = verify(data, video=True).video
            assert pictures is not None
            if pictures.frames != frames:
                yield f"has {pictures.frames} frames, was packed with {frames}"
    except MediaError as error:
        yield str(error)
