"""Samples to batches: text is tokenised, media are decoded, everything is padded with a mask.

Nothing of the inputs, their padding included, depends on what is privileged.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.conversation import fit_turns, response_ids, tokenizer_sha256
from pride_mm.data.render import render
from pride_mm.data.shards import Sample
from pride_mm.data.teaching import Lesson, stack
from pride_mm.data.vocabularies import Translation
from pride_mm.errors import SampleError, UserError
from pride_mm.media import MediaError, read_audio, read_frames
from pride_mm.schema import AudioField, ChoiceField, Field, Kind, Loaded, Role, ScaleField, Schema, VideoField, classes

Raw = Mapping[str, Loaded]


def pad_ids(rows: Sequence[Sequence[int]], pad: int, left: bool = False) -> Padded:
    """Token ids ``(B, T)`` and where they are real; a row may be empty, ``T`` is at least 1."""
    length = max(1, max((len(row) for row in rows), default=0))
    values = torch.full((len(rows), length), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        if row:
            where = slice(length - len(row), length) if left else slice(0, len(row))
            values[number, where] = torch.tensor(row, dtype=torch.long)
            mask[number, where] = True
    return Padded(values, mask)


def _read_clip(field: Field, clip: Any, frames: int | None) -> Tensor:
    assert isinstance(field, VideoField)
    return read_frames(clip, field.frames, field.size, frames=frames)


def _read_sound(field: Field, sound: Any, frames: int | None) -> Tensor:
    assert isinstance(field, AudioField)
    return read_audio(sound, field.rate, field.seconds)


def _pad_clips(field: Field, clips: Sequence[Tensor | None]) -> Padded:
    assert isinstance(field, VideoField)
    values = torch.zeros(len(clips), field.frames, 3, field.size, field.size, dtype=torch.uint8)
    mask = torch.zeros(len(clips), field.frames, dtype=torch.bool)
    for number, clip in enumerate(clips):
        if clip is not None:
            values[number] = clip
            mask[number] = True
    return Padded(values, mask)


def _pad_sounds(field: Field, sounds: Sequence[Tensor | None]) -> Padded:
    length = max(1, max(0 if sound is None else len(sound) for sound in sounds))
    values = torch.zeros(len(sounds), length)
    mask = torch.zeros(len(sounds), length, dtype=torch.bool)
    for number, sound in enumerate(sounds):
        if sound is not None:
            values[number, : len(sound)] = sound
            mask[number, : len(sound)] = True
    return Padded(values, mask)


@dataclass(frozen=True)
class _Medium:
    """How one kind of media becomes a tensor, and tensors a batch."""

    read: Callable[[Field, Any, int | None], Tensor]
    pad: Callable[[Field, Sequence[Tensor | None]], Padded]


_MEDIA = {Kind.VIDEO: _Medium(_read_clip, _pad_clips), Kind.AUDIO: _Medium(_read_sound, _pad_sounds)}


@dataclass
class InputCollator:
    """The inputs of items to what the student sees.

    Args:
        schema: only its inputs matter here.
        tokenizer: the student's.
        system: what the student is told before every dialogue.
        max_context: tokens of the dialogue; the oldest turns are left out past that.

    ``shortened`` counts the dialogues that lost turns.
    """

    schema: Schema
    tokenizer: Any
    system: str = ""
    max_context: int = 256
    shortened: int = 0

    def __call__(self, rows: Sequence[Raw]) -> dict[str, Padded]:
        """Raises MediaError where a clip cannot be decoded."""
        media = self.schema.of(Role.INPUT, *_MEDIA)
        read = [{field.name: self.read(field, row.get(field.name)) for field in media} for row in rows]
        return self.join([self.context(row) for row in rows], read)

    def read(self, field: Field, value: Loaded | None, frames: int | None = None) -> Tensor | None:
        """A clip or a sound, decoded; a clip of a known number of ``frames`` isn't probed. Raises MediaError."""
        return None if value is None else _MEDIA[field.kind].read(field, value, frames)

    def join(
        self, contexts: Sequence[Sequence[int]], media: Sequence[Mapping[str, Tensor | None]]
    ) -> dict[str, Padded]:
        """Contexts and decoded media, row by row, side by side."""
        batch = {self.schema.dialogue.name: pad_ids(contexts, self.pad, left=True)}
        for field in self.schema.of(Role.INPUT, *_MEDIA):
            batch[field.name] = _MEDIA[field.kind].pad(field, [row[field.name] for row in media])
        return batch

    @property
    def pad(self) -> int:
        """The token that fills up a row."""
        return int(self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)

    def context(self, row: Raw) -> list[int]:
        """The token ids of a row's dialogue and of its other inputs that are words."""
        turns: Any = row[self.schema.dialogue.name]
        said = [
            f"{field.label}: {render(field, row[field.name])}"  # type: ignore[arg-type]
            for field in self.schema.inputs
            if field.kind not in _MEDIA and field.kind is not Kind.DIALOGUE and field.name in row
        ]
        system = "\n".join(part for part in (self.system, *said) if part)
        ids, shortened = fit_turns(self.tokenizer, turns, system, self.max_context)
        self.shortened += shortened
        return ids


@dataclass(frozen=True)
class Prepared:
    """One sample, tokenised and decoded."""

    key: str
    context: list[int]
    media: dict[str, Tensor | None]
    response: list[int]
    labels: dict[str, int | None]
    notes: dict[str, list[int]] | None
    lesson: Lesson | None
    asked: list[int] | None


@dataclass
class Collator:
    """Samples of a shard to a batch for training or evaluation.

    Args:
        inputs: makes the inputs; its tokenizer serves the rest too.
        max_response: tokens of a response, its end included; past that it is cut, and counted in ``cut``.
        max_note: tokens of one privileged field, likewise.
        translation: of a teacher with another tokenizer.
        ask: the prompt of a teacher that is asked in training.
    """

    inputs: InputCollator
    max_response: int = 64
    max_note: int = 64
    translation: Translation | None = None
    ask: Callable[[Sample], list[int]] | None = None
    cut: int = 0

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Raises SampleError that names key and field, UserError for a teacher's cache that does not fit."""
        return self.join([self.prepare(sample) for sample in samples])

    def prepare(self, sample: Sample) -> Prepared:
        """Tokenise and decode one sample; raises as a call does."""
        schema, lesson = self.inputs.schema, self._lesson(sample)
        response = self._response(sample, lesson)
        return Prepared(
            key=sample.key,
            context=self._context(sample),
            response=response,
            labels={field.name: _class_of(field, sample.targets.get(field.name)) for field in schema.heads},
            notes=None if sample.privileged is None else {f.name: self._note(f, sample) for f in schema.privileged},
            lesson=self._translated(sample, lesson, response),
            asked=None if self.ask is None else self.ask(sample),
            # last, because it costs most
            media={field.name: self._read(field, sample) for field in schema.of(Role.INPUT, *_MEDIA)},
        )

    def join(self, prepared: Sequence[Prepared]) -> Batch:
        """Prepared samples side by side."""
        schema = self.inputs.schema
        response = pad_ids([one.response for one in prepared], self.inputs.pad)
        targets = {schema.response.name: response}
        for field in schema.heads:
            targets[field.name] = _labels([one.labels[field.name] for one in prepared])
        notes = [one.notes for one in prepared if one.notes is not None]
        privileged = None
        if len(notes) == len(prepared):
            privileged = {f.name: pad_ids([note[f.name] for note in notes], self.inputs.pad) for f in schema.privileged}
        return Batch(
            keys=tuple(one.key for one in prepared),
            inputs=self.inputs.join([one.context for one in prepared], [one.media for one in prepared]),
            targets=targets,
            privileged=privileged,
            teaching=stack([one.lesson for one in prepared], response.values.shape[1]),
            asked=None if self.ask is None else pad_ids([one.asked or [] for one in prepared], self.inputs.pad),
        )

    def length(self, sample: Sample) -> int:
        """What a sample without its media weighs in a batch, in tokens: its context and its response."""
        return len(self._context(sample)) + len(self._response(sample, self._lesson(sample)))

    @property
    def sha256(self) -> str:
        """Changes when lengths may."""
        about = [
            self.inputs.system,
            self.inputs.max_context,
            self.max_response,
            tokenizer_sha256(self.inputs.tokenizer),
        ]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def _context(self, sample: Sample) -> list[int]:
        dialogue = self.inputs.schema.dialogue.name
        if dialogue not in sample.inputs:
            raise SampleError(sample.key, dialogue, "is absent, and nothing can be answered without it")
        return self.inputs.context(sample.inputs)

    def _read(self, field: Field, sample: Sample) -> Tensor | None:
        try:
            return self.inputs.read(field, sample.inputs.get(field.name), _packed_frames(field, sample.meta))
        except MediaError as error:
            raise SampleError(sample.key, field.name, str(error)) from None

    def _response(self, sample: Sample, lesson: Lesson | None) -> list[int]:
        text = sample.targets.get(self.inputs.schema.response.name)
        if text is None and self.translation is not None and lesson is not None:
            text = lesson.text
        if text is None:
            return lesson.response_ids.tolist() if lesson is not None else []
        ids, cut = response_ids(self.inputs.tokenizer, str(text), self.max_response)
        self.cut += cut
        if lesson is not None and self.translation is None and lesson.response_ids.tolist() != ids:
            raise UserError(
                f"The teacher's cache of '{sample.key}' scored other tokens than the student reads: another "
                f"tokenizer, another response or another length. Run 'pride teach' again."
            )
        return ids

    def _translated(self, sample: Sample, lesson: Lesson | None, response: list[int]) -> Lesson | None:
        if lesson is None or self.translation is None:
            return lesson
        text = sample.targets.get(self.inputs.schema.response.name)
        return self.translation.lesson(lesson, response, lesson.text if text is None else str(text))

    def _lesson(self, sample: Sample) -> Lesson | None:
        if sample.teacher is None:
            return None
        try:
            lesson = Lesson.from_bytes(sample.teacher)
        except ValueError as error:
            raise SampleError(sample.key, "teacher", str(error)) from None
        return lesson if len(lesson.response_ids) else None

    def _note(self, field: Field, sample: Sample) -> list[int]:
        value = (sample.privileged or {}).get(field.name)
        text = "" if value is None else render(field, value)
        ids: list[int] = self.inputs.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        self.cut += len(ids) > self.max_note
        return ids[: self.max_note]


def _packed_frames(field: Field, meta: Mapping[str, Any]) -> int | None:
    """How many frames a clip had when it was packed, where the shard says so."""
    media = meta.get("media")
    about = media.get(field.name) if isinstance(media, dict) else None
    frames = about.get("frames") if isinstance(about, dict) else None
    return frames if isinstance(frames, int) and frames > 0 else None


def _class_of(field: ChoiceField | ScaleField, value: Any) -> int | None:
    return None if value is None else classes(field).index(str(value))


def _labels(numbers: Sequence[int | None]) -> Padded:
    values = torch.tensor([number or 0 for number in numbers], dtype=torch.long)
    return Padded(values, torch.tensor([number is not None for number in numbers]))
