"""Samples to batches: text is tokenised, media are decoded, everything is padded with a mask.

Nothing of the inputs, their padding included, depends on what is privileged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.conversation import fit_turns, response_ids
from pride_mm.data.render import render
from pride_mm.data.shards import Sample
from pride_mm.data.teaching import Lesson, stack
from pride_mm.errors import SampleError, UserError
from pride_mm.media import MediaError, read_audio, read_frames
from pride_mm.schema import AudioField, ChoiceField, Field, Kind, Role, ScaleField, Schema, Value, VideoField, classes

Raw = Mapping[str, Value | bytes]


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


def _frames(field: Field, rows: Sequence[Any]) -> Padded:
    assert isinstance(field, VideoField)
    values = torch.zeros(len(rows), field.frames, 3, field.size, field.size, dtype=torch.uint8)
    mask = torch.zeros(len(rows), field.frames, dtype=torch.bool)
    for number, clip in enumerate(rows):
        if clip is not None:
            values[number] = read_frames(clip, field.frames, field.size)
            mask[number] = True
    return Padded(values, mask)


def _sound(field: Field, rows: Sequence[Any]) -> Padded:
    assert isinstance(field, AudioField)
    waves = [torch.zeros(0) if clip is None else read_audio(clip, field.rate, field.seconds) for clip in rows]
    length = max(1, max(len(wave) for wave in waves))
    values = torch.zeros(len(rows), length)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, wave in enumerate(waves):
        values[number, : len(wave)] = wave
        mask[number, : len(wave)] = True
    return Padded(values, mask)


_MEDIA: dict[Kind, Callable[[Field, Sequence[Any]], Padded]] = {Kind.VIDEO: _frames, Kind.AUDIO: _sound}


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
        batch = {self.schema.dialogue.name: pad_ids([self._context(row) for row in rows], self._pad, left=True)}
        for field in self.schema.of(Role.INPUT, *_MEDIA):
            batch[field.name] = _MEDIA[field.kind](field, [row.get(field.name) for row in rows])
        return batch

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)

    def _context(self, row: Raw) -> list[int]:
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


@dataclass
class Collator:
    """Samples of a shard to a batch for training or evaluation.

    Args:
        inputs: makes the inputs; its tokenizer serves the rest too.
        max_response: tokens of a response, its end included; past that it is cut, and counted in ``cut``.
        max_note: tokens of one privileged field, likewise.
    """

    inputs: InputCollator
    max_response: int = 64
    max_note: int = 64
    cut: int = 0

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Raises SampleError that names key and field, UserError for a teacher's cache that does not fit."""
        schema = self.inputs.schema
        lessons = [self._lesson(sample) for sample in samples]
        response = pad_ids([self._response(s, lesson) for s, lesson in zip(samples, lessons, strict=True)], self._pad)
        targets = {schema.response.name: response}
        for field in schema.heads:
            targets[field.name] = _labels(field, [sample.targets.get(field.name) for sample in samples])
        privileged = None
        if all(sample.privileged is not None for sample in samples):
            privileged = {field.name: self._notes(field, samples) for field in schema.privileged}
        return Batch(
            keys=tuple(sample.key for sample in samples),
            inputs=self._inputs(samples),
            targets=targets,
            privileged=privileged,
            teaching=stack(lessons, response.values.shape[1]),
        )

    @property
    def _pad(self) -> int:
        return self.inputs._pad

    def _inputs(self, samples: Sequence[Sample]) -> dict[str, Padded]:
        try:
            return self.inputs([sample.inputs for sample in samples])
        except MediaError:
            # found out which one: decoding goes sample by sample only when something is wrong
            for sample in samples:
                try:
                    self.inputs([sample.inputs])
                except MediaError as error:
                    raise SampleError(sample.key, None, str(error)) from None
            raise

    def _response(self, sample: Sample, lesson: Lesson | None) -> list[int]:
        text = sample.targets.get(self.inputs.schema.response.name)
        if text is None:
            return lesson.response_ids.tolist() if lesson is not None else []
        ids, cut = response_ids(self.inputs.tokenizer, str(text), self.max_response)
        self.cut += cut
        if lesson is not None and lesson.response_ids.tolist() != ids:
            raise UserError(
                f"The teacher's cache of '{sample.key}' scored other tokens than the student reads: another "
                f"tokenizer, another response or another length. Run 'pride teach' again."
            )
        return ids

    def _lesson(self, sample: Sample) -> Lesson | None:
        if sample.teacher is None:
            return None
        try:
            lesson = Lesson.from_bytes(sample.teacher)
        except ValueError as error:
            raise SampleError(sample.key, "teacher", str(error)) from None
        return lesson if len(lesson.response_ids) else None

    def _notes(self, field: Field, samples: Sequence[Sample]) -> Padded:
        rows = []
        for sample in samples:
            value = (sample.privileged or {}).get(field.name)
            text = "" if value is None else render(field, value)
            ids = self.inputs.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
            self.cut += len(ids) > self.max_note
            rows.append(ids[: self.max_note])
        return pad_ids(rows, self._pad)


def _labels(field: ChoiceField | ScaleField, values: Sequence[Any]) -> Padded:
    names = classes(field)
    numbers = [0 if value is None else names.index(str(value)) for value in values]
    present: Tensor = torch.tensor([value is not None for value in values])
    return Padded(torch.tensor(numbers, dtype=torch.long), present)
