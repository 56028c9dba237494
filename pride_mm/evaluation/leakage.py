"""Does anything of the notes reach a prediction, and are the notes already in what the student sees?

Predictions are compared by bit with notes present, altered, full of NaN, and gone; any difference is
a leak. The overlap of notes with inputs and responses is counted by n-grams: keys and rates only,
never a word of a note.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.render import render
from pride_mm.data.shards import Sample
from pride_mm.schema import Field, Kind, OptionsField, ScaleField, Schema, Span, Value

Predict = Callable[[Batch], Mapping[str, Tensor]]
Collate = Callable[[Sequence[Sample]], Batch]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leakage:
    """What the comparison found.

    Attributes:
        samples: how many were predicted.
        outputs: names of the tensors that were compared.
        variants: for each variant of the notes the keys whose predictions differed; empty is well.
    """

    samples: int
    outputs: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]

    @property
    def clean(self) -> bool:
        return not any(self.variants.values())


def check_leakage(schema: Schema, samples: Sequence[Sample], collate: Collate, predict: Predict) -> Leakage:
    """Predict the same samples under every variant of their notes and compare by bit.

    Args:
        schema: the whole one, privileged fields included.
        samples: with their notes as they were read, if there are any.
        collate, predict: as in evaluation; ``predict`` gives tensors with one row a sample.
    """
    given = [replace(sample, privileged=sample.privileged or {}, teacher=None) for sample in samples]
    present = collate(given)
    reference = _bits(predict(present))
    variants = {
        "altered": collate([_altered(schema, sample) for sample in given]),
        "NaN": replace(present, privileged=_not_numbers(present)),
        "empty": collate([replace(sample, privileged={}) for sample in given]),
        "gone": collate([replace(sample, privileged=None, teacher=None) for sample in given]),
    }
    found = {}
    for name, batch in variants.items():
        bits = _bits(predict(batch))
        assert bits.keys() == reference.keys(), "predictions must not change their names"
        found[name] = tuple(
            key
            for row, key in enumerate(present.keys)
            if any(bits[output][row] != reference[output][row] for output in reference)
        )
    return Leakage(len(given), tuple(reference), found)


def _bits(outputs: Mapping[str, Tensor]) -> dict[str, list[bytes]]:
    """Each row's shape and bytes: NaN equals NaN here, and -0 differs from 0."""
    return {
        name: [
            str(tuple(row.shape)).encode()
            + row.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            for row in tensor
        ]
        for name, tensor in outputs.items()
    }


def _not_numbers(batch: Batch) -> dict[str, Padded]:
    assert batch.privileged is not None
    return {
        name: Padded(torch.full(padded.values.shape, float("nan")), torch.ones_like(padded.mask))
        for name, padded in batch.privileged.items()
    }


def _altered(schema: Schema, sample: Sample) -> Sample:
    turns = len(sample.inputs[schema.dialogue.name])  # type: ignore[arg-type]
    notes = sample.privileged or {}
    return replace(
        sample,
        privileged={field.name: alter(field, notes.get(field.name), turns) for field in schema.privileged},
        teacher=None,
    )


def _other(field: Any, value: Any) -> str:
    options: tuple[str, ...] = field.options
    return options[(options.index(value) + 1) % len(options)] if value in options else options[0]


def _other_level(field: Any, value: Any) -> int:
    return int(field.low if value == field.high else field.high)


def _others(field: Any, value: Any) -> tuple[str, ...]:
    return tuple(option for option in field.options if option not in (value or ()))


ALTERATIONS: dict[Kind, Callable[[Any, Any, int], Value]] = {
    Kind.TEXT: lambda field, value, turns: (
        "Nothing of the kind; all of it is otherwise. " * (1 + len(value or "") // 40)
    ),
    Kind.CHOICE: lambda field, value, turns: _other(field, value),
    Kind.CHOICES: lambda field, value, turns: _others(field, value),
    Kind.SCALE: lambda field, value, turns: _other_level(field, value),
    Kind.TURN_CHOICE: lambda field, value, turns: tuple(_other(field, old) for old in (value or (None,) * turns)),
    Kind.SPANS: lambda field, value, turns: (Span(start=0.0, end=1.0 + len(value or ()), label=field.options[0]),),
}
"""A valid value that differs from the given one, for each kind that notes can have."""


def alter(field: Field, value: Value | None, turns: int) -> Value:
    """Another valid value of a privileged field; ``value`` is None where there was none."""
    assert isinstance(field, OptionsField | ScaleField) or field.kind is Kind.TEXT
    return ALTERATIONS[field.kind](field, value, turns)


# ---- overlap ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """How much of one privileged field's text can be read elsewhere in its own sample.

    Attributes:
        samples: how many have the field.
        inputs, response: mean share of the note's n-grams that stand there too, 0 to 1.
        near: keys of samples where at least half of the note stands in the inputs.
        echoed: keys of samples where at least half of the response stands in the note.

    Short notes and responses, which anyone may say, are in neither.
    """

    samples: int
    inputs: float
    response: float
    near: tuple[str, ...]
    echoed: tuple[str, ...]


NEAR, SHORTEST = 0.5, 8


class OverlapCounter:
    """Counts the overlap of notes with what the student sees and learns, sample by sample."""

    def __init__(self, schema: Schema, n: int = 5) -> None:
        self.schema, self.n = schema, n
        texts = [field.name for field in schema.privileged if field.kind is Kind.TEXT]
        self._rates: dict[str, list[tuple[float, float]]] = {name: [] for name in texts}
        self._near: dict[str, list[str]] = {name: [] for name in texts}
        self._echoed: dict[str, list[str]] = {name: [] for name in texts}

    def add(self, sample: Sample) -> None:
        """Count one sample; without notes it counts for nothing."""
        seen = _words(self._inputs(sample))
        answer = _words(str(sample.targets.get(self.schema.response.name, "")))
        for name, rates in self._rates.items():
            note = (sample.privileged or {}).get(name)
            if isinstance(note, str) and (words := _words(note)):
                n = min(self.n, len(words))
                grams = _grams(words, n)
                rates.append((_share(grams, seen, n), _share(grams, answer, n)))
                if len(words) >= SHORTEST and rates[-1][0] >= NEAR:
                    self._near[name].append(sample.key)
                if len(answer) >= SHORTEST and _share(_grams(answer, self.n), words, self.n) >= NEAR:
                    self._echoed[name].append(sample.key)

    def _inputs(self, sample: Sample) -> str:
        turns: Any = sample.inputs[self.schema.dialogue.name]
        said = [turn.text for turn in turns]
        said += [
            render(field, value)  # type: ignore[arg-type]
            for field in self.schema.inputs
            if field.name != self.schema.dialogue.name
            and not isinstance(value := sample.inputs.get(field.name), bytes | None)
        ]
        return " \n ".join(said)

    def result(self) -> dict[str, Overlap]:
        """By privileged text field; a field that no sample has is left out."""
        return {
            name: Overlap(
                samples=len(rates),
                inputs=sum(inputs for inputs, _ in rates) / len(rates),
                response=sum(response for _, response in rates) / len(rates),
                near=tuple(self._near[name]),
                echoed=tuple(self._echoed[name]),
            )
            for name, rates in self._rates.items()
            if rates
        }


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def _share(grams: set[tuple[str, ...]], words: list[str], n: int) -> float:
    return len(grams & _grams(words, n)) / len(grams)
