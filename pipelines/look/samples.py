"""One sample under the glass: every member decoded, every clip and sound played to its end, its notes kept apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as datum
from typing import Any

from pipelines.look.leaks import compared
from pipelines.look.tars import open_tar
from pride_mm.data.index import Entry
from pride_mm.data.manifest import TarRecord
from pride_mm.data.members import META, REACHED, from_json, is_media, media_value, suffixes
from pride_mm.data.sample import TAUGHT, decode_role, read_reached
from pride_mm.data.seal import Seal
from pride_mm.data.tar import pread_members
from pride_mm.errors import SampleError
from pride_mm.schema import AudioField, Field, MediaData, Schema

# what the bytes of a member have to be: the container and, of sound, the codec
_FORMS = {"mp4": ("mp4", None), "flac": ("flac", "flac"), "opus": ("ogg", "opus")}


@dataclass(frozen=True)
class Part:
    """What one tar holds of a sample."""

    added: str
    tar: str
    record: TarRecord | None
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Job:
    """A sample to look at, by the tars that it lies in: first its inputs. ``seal`` opens the one of the ``notes``."""

    place: str
    key: str
    parts: tuple[Part, ...]
    notes: str
    seal: Seal | None = None


@dataclass
class Checked:
    """A sample that was looked at.

    Attributes:
        corpus, group: None where they cannot be read.
        findings: what is wrong.
        noted: the fields of notes that were compared with the inputs, and whether they stand in them.
    """

    key: str
    corpus: str | None = None
    group: str | None = None
    findings: list[SampleError] = datum(default_factory=list)
    noted: dict[str, bool] = datum(default_factory=dict)


def check_sample(schema: Schema, max_member: int, job: Job) -> Checked:
    """Look at one sample; no finding shows a privileged value."""
    checked = Checked(job.key)
    members: dict[str, bytes] = {}
    for part in job.parts:
        found = _read(job, part, max_member, checked)
        if part.added == TAUGHT:
            _check_lesson(found, f"{part.tar}: {job.key}", checked)
        else:
            members |= found
    first = job.parts[0]
    _Sample(schema, members, f"{first.tar}: {job.key}", checked).check()
    for part in job.parts:
        if part.added == job.notes:
            _check_notes(schema, members, f"{part.tar}: {job.key}", checked)
    return checked


def _read(job: Job, part: Part, max_member: int, checked: Checked) -> dict[str, bytes]:
    entries = dict(part.entries)
    for name, entry in part.entries.items():
        if entry.size > max_member:
            reason = f"has {entry.size:,} bytes; {max_member:,} are allowed"
            checked.findings.append(SampleError(f"{part.tar}: {job.key}", name.split(".")[1], reason))
            del entries[name]
    try:
        members = pread_members(open_tar(job.place, part.tar, part.record).descriptor, part.tar, job.key, entries)
        return job.seal.open(part.tar, job.key, members) if job.seal and part.added == job.notes else members
    except SampleError as error:
        checked.findings.append(error)
        return {}


def _check_lesson(members: Mapping[str, bytes], place: str, checked: Checked) -> None:
    from pride_mm.data.teaching import MEMBER, Lesson

    try:
        Lesson.from_bytes(members[MEMBER])
    except (ValueError, KeyError) as error:
        reason = str(error) if isinstance(error, ValueError) else "has no lesson"
        checked.findings.append(SampleError(place, None, f"{reason}; run `pride teach` again"))


class _Sample:
    """The inputs and targets of a sample."""

    def __init__(self, schema: Schema, members: Mapping[str, bytes], place: str, checked: Checked) -> None:
        self.schema, self.members, self.place, self.checked = schema, members, place, checked

    def check(self) -> None:
        before = len(self.checked.findings)
        turns = _decode(self.schema.dialogue, self.members, self.place, None, self.checked)
        if turns is None and len(self.checked.findings) == before:
            self._find(self.schema.dialogue, "no turns; every sample needs its turns")
        for field in self.schema.inputs + self.schema.targets:
            if not is_media(field) and field is not self.schema.dialogue:
                _decode(field, self.members, self.place, len(turns) if turns else None, self.checked)
        packed = self._meta()
        for field in self.schema.inputs:
            if packed is not None and is_media(field):
                self._media(field, packed.get(field.name, (0.0, 0)))

    def _find(self, field: Field | None, reason: str) -> None:
        self.checked.findings.append(SampleError(self.place, field.name if field else None, reason))

    def _meta(self) -> dict[str, tuple[float, int]] | None:
        """How long the media were when they were packed: seconds and frames by field."""
        media = {field.name for field in self.schema.inputs if is_media(field)}
        try:
            meta = from_json(self.members[META])
            self.checked.corpus, self.checked.group = str(meta["corpus"]), str(meta["group"])
            packed = {name: (float(v["seconds"]), int(v["frames"])) for name, v in meta.get("media", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            self._find(None, f"'{META}' is not what was packed")
            return None
        if packed.keys() != media:
            self._find(None, f"'{META}' has other media than the schema: every sample has every key")
        return packed

    def _media(self, field: Field, packed: tuple[float, int]) -> None:
        from pride_mm.media import MediaError

        try:
            data = media_value(field, self.members)
            if data is not None:
                for reason in _media_reasons(field, data, self._form(field), packed):
                    self._find(field, reason)
            elif packed[0] > 0:
                self._find(field, "is missing, but was packed")
        except (MediaError, ValueError) as error:
            self._find(field, str(error))

    def _form(self, field: Field) -> str:
        mine = suffixes([field])
        return next(name for name in self.members if name in mine).rpartition(".")[2]


def _media_reasons(field: Field, data: MediaData, form: str, packed: tuple[float, int]) -> Iterator[str]:
    """What is wrong with media; raises MediaError or ValueError where they don't decode."""
    from pride_mm.media import verify

    seconds, frames = packed
    if isinstance(data, tuple):
        from pride_mm.media import read_frames  # and with it torch, which nothing else here needs

        if len(data) != frames:
            yield f"has {len(data)} pictures, was packed with {frames}"
        read_frames(data, len(data), getattr(field, "size", 16))
        return
    audio = isinstance(field, AudioField)
    info = verify(data, video=not audio, audio=audio)
    container, codec = _FORMS[form]
    if info.container != container:
        yield f"is {info.container} called .{form}"
    if isinstance(field, AudioField) and info.audio is not None:
        sound = info.audio
        # Opus is decoded at 48,000 Hz whatever it was made from
        if sound.codec != codec or sound.channels != 1 or (codec == "flac" and sound.rate != field.rate):
            yield f"is {sound.codec}, {sound.channels} channels, {sound.rate} Hz; not mono {codec} at {field.rate} Hz"
        if abs(sound.duration - seconds) > 0.1:
            yield f"is {sound.duration:.2f} s long, was packed with {seconds:.2f} s"
    elif info.video is not None and info.video.frames != frames:
        yield f"has {info.video.frames} frames, was packed with {frames}"


def _check_notes(schema: Schema, members: Mapping[str, bytes], place: str, checked: Checked) -> None:
    quiet = Checked(checked.key)  # what is wrong with the inputs was said
    inputs = {field.name: _decode(field, members, place, None, quiet) for field in schema.inputs if not is_media(field)}
    turns = inputs[schema.dialogue.name]
    notes = {f.name: _decode(f, members, place, len(turns) if turns else None, checked) for f in schema.privileged}
    try:
        read_reached(members.get(REACHED), place)
    except SampleError as error:
        checked.findings.append(error)
    checked.noted = dict(compared(schema, inputs, notes))


def _decode(field: Field, members: Mapping[str, bytes], place: str, turns: int | None, checked: Checked) -> Any:
    try:
        return decode_role((field,), members, place, turns).get(field.name)
    except SampleError as error:
        checked.findings.append(error)
        return None
