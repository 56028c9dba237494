"""One item and its notes -> the members of one sample; what a process is given, and what it gives back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as datum
from pathlib import Path
from typing import Any

from pipelines.pack.settings import PackSettings
from pipelines.workers import Lost, Workers
from pride_mm.data.members import META, REACHED, encode_value, is_media, media_members, suffix, to_json
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.media import Clip, MediaError, convert_audio, convert_video
from pride_mm.records import Item, Notes, item_from_json, notes_from_json, parse_line, resolve_media
from pride_mm.schema import AudioField, Field, Media, Schema, StoredFile, Value, VideoField, jsonable, parse_value


@dataclass(frozen=True)
class Task:
    """One item to convert: its line and that of its notes, as they were checked before.

    ``folder`` is where its media's paths begin. ``left_out`` names fields that aren't touched again, and why.
    """

    key: str
    folder: str
    line: bytes
    notes: bytes | None = None
    left_out: Mapping[str, str] = datum(default_factory=dict)


@dataclass(frozen=True)
class Packed:
    """A sample's members by suffix: those of inputs and targets, and those of the notes.

    ``seconds`` of its media by field; ``errors`` are the fields that were left out; ``drafts`` the fields whose value
    is a model's draft that was kept.
    """

    key: str
    base: Mapping[str, bytes | StoredFile]
    privileged: Mapping[str, bytes]
    seconds: Mapping[str, float]
    errors: tuple[SampleError, ...]
    drafts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maker:
    """Makes samples of tasks; travels to where they are made.

    ``drafts``: keep notes that are a model's drafts left as they were, marked as such. Targets never are: what the
    student has to say is an expert's word.
    """

    schema: Schema
    settings: PackSettings
    drafts: bool = False

    def samples(self, workers: Workers, tasks: Iterable[Task]) -> Iterator[Packed]:
        """The samples in the order of the tasks; a process that dies on one costs the field that it died of."""
        for made in workers.run(self.sample, tasks):
            yield self._rescued(workers, made) if isinstance(made, Lost) else made

    def _rescued(self, workers: Workers, lost: Lost[Task]) -> Packed:
        """Try each clip and sound of a lost task alone, then all that did well; it may have been nobody's fault."""
        names = [field.name for field in self.schema.inputs if is_media(field)]
        reasons: dict[str, str] = {}
        for name in names:
            alone = replace(lost.task, left_out=dict.fromkeys(set(names) - {name}, ""))
            (made,) = workers.run(self.sample, [alone])
            if isinstance(made, Lost):
                reasons[name] = made.reason
        (made,) = workers.run(self.sample, [replace(lost.task, left_out=reasons)])
        if isinstance(made, Lost):  # text is no danger
            return self.sample(replace(lost.task, left_out=dict.fromkeys(names, made.reason)))
        return made

    def sample(self, task: Task) -> Packed:
        """Convert an item's media and write every field as a member; a bad field is left out and named.

        The members of media come last, so that text and targets can be read without them.
        """
        item, notes = self._item(task), self._notes(task)
        errors: list[SampleError] = []
        schema = self.schema
        turns = len(item.inputs[schema.dialogue.name])  # type: ignore[arg-type]
        clips = self._clips(item, task.left_out, errors)
        agreed = fitting(item.id, notes.targets if notes else {}, schema.targets, turns, errors)
        privileged = fitting(item.id, notes.privileged if notes else {}, schema.privileged, turns, errors)
        base: dict[str, bytes | StoredFile] = {META: to_json(_meta(item, clips, schema))}
        base |= members(item.id, [f for f in schema.inputs if not is_media(f)], item.inputs, errors)
        base |= members(item.id, schema.targets, item.targets | agreed, errors)
        for name, clip in clips.items():
            base |= media_members(schema.by_name[name], clip.data, clip.extension)
        return Packed(
            key=item.id,
            base=base,
            privileged=note_members(item.id, notes, privileged, schema, errors),
            seconds={name: clip.seconds for name, clip in clips.items()},
            errors=tuple(errors),
            drafts=tuple(notes.drafts) if notes else (),
        )

    def _item(self, task: Task) -> Item:
        raw = parse_line(task.line, task.key, bad := BadSamples(0))
        item = item_from_json(raw, self.schema, task.key, bad) if raw is not None else None
        if item is None or item.id != task.key:
            raise UserError(f"The file of items was changed while it was packed (at {task.key}): run it again.")
        return resolve_media(item, Path(task.folder))

    def _notes(self, task: Task) -> Notes | None:
        if task.notes is None:
            return None
        raw = parse_line(task.notes, task.key, bad := BadSamples(0))
        notes = notes_from_json(raw, self.schema, task.key, bad) if raw is not None else None
        if notes is None or notes.item != task.key:
            raise UserError(f"The file of notes was changed while it was packed (at {task.key}): run it again.")
        return without_drafts(notes, self.drafts)

    def _clips(self, item: Item, left_out: Mapping[str, str], errors: list[SampleError]) -> dict[str, Clip]:
        clips = {}
        for field in self.schema.inputs:
            media = item.inputs.get(field.name)
            if not isinstance(media, Media) or left_out.get(field.name) == "":
                continue
            try:
                if field.name in left_out:
                    raise MediaError(f"the process that converted it {left_out[field.name]}")
                clips[field.name] = convert(field, media, self.settings)
            except MediaError as error:
                errors.append(SampleError(item.id, field.name, f"{Path(media.path).name}: {error}"))
        return clips


def convert(field: Field, media: Media, settings: PackSettings) -> Clip:
    """Read, cut and convert the media of one field; raises MediaError."""
    path = Path(media.path)
    if isinstance(field, AudioField):
        return convert_audio(path, field.rate, settings.audio, settings.limits, media.start, media.end)
    assert isinstance(field, VideoField)
    return convert_video(path, settings.video, settings.limits, media.start, media.end, field.frames, by_reference=True)


def without_drafts(notes: Notes, keep: bool) -> Notes:
    """The notes without the values that are models' drafts left as they were; ``keep`` keeps privileged ones."""
    out = {name for name in notes.drafts if not (keep and name in notes.privileged)}
    parts = {part: getattr(notes, part) for part in ("privileged", "targets", "how", "drafts")}
    return notes.model_copy(
        update={p: {n: v for n, v in values.items() if n not in out} for p, values in parts.items()}
    )


def fitting(
    key: str, values: Mapping[str, Value], fields: Iterable[Field], turns: int, errors: list[SampleError]
) -> dict[str, Value]:
    """Values out of notes, seen together with the item's dialogue for the first time."""
    known = {field.name: field for field in fields}
    found = {}
    for name, value in values.items():
        try:
            found[name] = parse_value(known[name], jsonable(value), turns)
        except ValueError as error:
            errors.append(SampleError(key, name, str(error)))
    return found


def members(
    key: str, fields: Iterable[Field], values: Mapping[str, Value], errors: list[SampleError]
) -> dict[str, bytes]:
    """The members of fields that are no media, absent ones too."""
    made = {}
    for field in fields:
        try:
            data = encode_value(field, values.get(field.name))
        except ValueError as error:
            errors.append(SampleError(key, field.name, str(error)))
            data = encode_value(field, None)
        made[suffix(field)] = data
    return made


def note_members(
    key: str, notes: Notes | None, values: Mapping[str, Value], schema: Schema, errors: list[SampleError]
) -> dict[str, bytes]:
    """The members of the privileged fields, and how they and the targets were reached; none where a schema has none."""
    if not schema.privileged:
        return {}
    # the same keys in every sample, empty where nothing was agreed, or nothing is a draft
    names = [field.name for field in schema.privileged + schema.targets]
    how, drafts = (notes.how, notes.drafts) if notes else ({}, {})
    reached = {"how": {name: how.get(name, "") for name in names}, "drafts": {n: drafts.get(n, "") for n in names}}
    return {REACHED: to_json(reached), **members(key, schema.privileged, values, errors)}


def _meta(item: Item, clips: Mapping[str, Clip], schema: Schema) -> dict[str, Any]:
    """About the sample: the same keys in every sample, as other readers need it."""
    meta: dict[str, Any] = {"corpus": item.corpus, "group": item.group}
    none = Clip(b"", "", 0.0, 0)
    media = {field.name: clips.get(field.name, none) for field in schema.inputs if is_media(field)}
    if media:
        meta["media"] = {name: {"seconds": clip.seconds, "frames": clip.frames} for name, clip in media.items()}
    return meta
