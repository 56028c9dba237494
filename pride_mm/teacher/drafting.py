"""Drafts of the notes of experts, field by field in the steps of empathy reasoning.

A model is asked one question a field: a text is written, an option is chosen. What it has drafted so far
enters the next question. It reads inputs only; the response that was really given is shown from the third
step on, where the reasoning has come to it. Notes of experts never enter. A draft is a proposal for an
expert to correct: small models write valid drafts, not good ones.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, StrictUndefined

from pride_mm.config import find_config, read_config
from pride_mm.data.conversation import Message
from pride_mm.data.render import render
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.fields import OptionsField
from pride_mm.records import Item
from pride_mm.schema import Field, Kind, Role, ScaleField, Schema, Turn, Value, classes, parse_value
from pride_mm.teacher.prompt import STEPS

DRAFTED = (Kind.TEXT, Kind.CHOICE, Kind.CHOICES, Kind.SCALE, Kind.TURN_CHOICE)
YES, NO, NEITHER = "yes", "no", "none"


@dataclass(frozen=True)
class Said:
    """What a model said, and how probable it held that, 0 to 1; None where it doesn't tell."""

    text: str
    probability: float | None = None


class Writer(Protocol):
    """A model that drafts."""

    def fits(self, chat: Sequence[Message]) -> bool:
        """Whether the chat and an answer find room in the model."""

    def write(self, chat: Sequence[Message]) -> Said:
        """An answer in its own words; empty where it has none."""

    def choose(self, chat: Sequence[Message], options: Sequence[str], blank: Sequence[Message]) -> Said | None:
        """One of the options; None where the model named none of them.

        ``blank`` is the same question about no dialogue: what the model would say anyway.
        """


@dataclass(frozen=True)
class Drafted:
    """The drafts of one item. ``score`` is the mean probability of those whose probability is known."""

    values: dict[str, Value] = field(default_factory=dict)
    score: float | None = None


def drafted_fields(schema: Schema, names: Iterable[str] | None = None) -> tuple[Field, ...]:
    """The privileged fields that are drafted, in the order of the steps; raises UserError for another name."""
    able = schema.of(Role.PRIVILEGED, *DRAFTED)
    allowed = {f.name for f in able}
    wanted = allowed if names is None else set(names)
    if astray := sorted(wanted - allowed):
        raise UserError(
            f"No draft for {', '.join(map(repr, astray))}: of schema '{schema.name}' a model drafts "
            f"{', '.join(f.name for f in able) or 'nothing'}."
        )
    if not wanted:
        raise UserError(f"Schema '{schema.name}' has no privileged field that a model drafts.")
    order = [*STEPS, None]
    return tuple(sorted((f for f in able if f.name in wanted), key=lambda f: order.index(f.step)))


@dataclass(frozen=True)
class DraftPrompt:
    """The questions to a model, from a template that sees ``notes`` and, in a question, ``asked``."""

    schema: Schema
    template: str

    @classmethod
    def load(cls, schema: Schema, name: str | Path = "draft") -> "DraftPrompt":
        """Read a template by name or path."""
        return cls(schema, read_config(find_config("prompt", name, ".j2")))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.template.encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        return Environment(undefined=StrictUndefined).from_string(self.template)

    def chat(self, turns: Sequence[Turn], notes: Mapping[str, Value], asked: Mapping[str, Any]) -> list[Message]:
        """What a model is told, and the question."""
        steps: dict[str, list[tuple[str, str]]] = {step: [] for step in STEPS}
        for name, value in notes.items():
            drafted = self.schema.by_name[name]
            steps[drafted.step or STEPS[1]].append((drafted.label, render(drafted, value)))
        told = self._compiled.render(notes=steps).strip()
        question = self._compiled.render(notes=steps, asked={**asked, "turns": turns}).strip()
        return [{"role": "system", "content": told}, {"role": "user", "content": question}]


class Drafter:
    """Items to drafts.

    Args:
        prompt: makes the questions.
        writer: answers them.
        bad: counts each field whose question is too long or whose answer is none, by item and field.

    ``shortened`` counts the questions that lost old turns.
    """

    def __init__(self, prompt: DraftPrompt, writer: Writer, bad: BadSamples) -> None:
        self.prompt, self.writer, self.bad = prompt, writer, bad
        self.shortened = 0
        self._ask = {
            Kind.TEXT: self._text,
            Kind.CHOICE: self._choice,
            Kind.CHOICES: self._choices,
            Kind.SCALE: self._choice,
            Kind.TURN_CHOICE: self._turn_choice,
        }

    def draft(self, item: Item, fields: Sequence[Field]) -> Drafted:
        """Draft ``fields`` (out of ``drafted_fields``) of an item, in their order.

        Its inputs are read, and its response where the step is the third.
        """
        drafted: dict[str, Value] = {}
        probabilities: list[float] = []
        for wanted in fields:
            with self.bad.counting():
                raw, said = self._ask[wanted.kind](_Question(self, item, wanted, drafted))
                if raw is None:
                    continue
                try:
                    value = parse_value(wanted, raw)
                except ValueError as error:
                    raise SampleError(item.id, wanted.name, str(error)) from None
                drafted[wanted.name] = value
                probabilities += [p for p in said if p is not None]
        return Drafted(drafted, sum(probabilities) / len(probabilities) if probabilities else None)

    def _text(self, question: "_Question") -> "_Answer":
        said = self.writer.write(question.chat())
        if not said.text.strip():
            raise SampleError(question.item.id, question.field.name, "the model wrote nothing")
        return said.text.strip(), [said.probability]

    def _choice(self, question: "_Question") -> "_Answer":
        said = question.choose(_options(question.field))
        value = int(said.text) if isinstance(question.field, ScaleField) else said.text
        return value, [said.probability]

    def _choices(self, question: "_Question") -> "_Answer":
        said = [(option, question.choose((YES, NO), option=option)) for option in _options(question.field)]
        return [option for option, one in said if one.text == YES] or None, [one.probability for _, one in said]

    def _turn_choice(self, question: "_Question") -> "_Answer":
        """Each turn by itself, having read what came before it; ``none`` leaves a turn open."""
        options = _options(question.field)
        offered = options if NEITHER in options else (*options, NEITHER)
        said = [question.choose(offered, turn=number) for number in range(len(question.turns))]
        labels = [one.text if one.text in options else None for one in said]
        return labels if any(labels) else None, [one.probability for one in said]


_Answer = tuple[Any, list[float | None]]


def _options(field: Field) -> tuple[str, ...]:
    if isinstance(field, ScaleField):
        return classes(field)
    assert isinstance(field, OptionsField)
    return field.options


@dataclass(frozen=True)
class _Question:
    """One field of one item, to be asked in one or more questions."""

    drafter: Drafter
    item: Item
    field: Field
    notes: Mapping[str, Value]

    @property
    def schema(self) -> Schema:
        return self.drafter.prompt.schema

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        turns: Any = self.item.inputs[self.schema.dialogue.name]
        return turns

    def choose(self, options: Sequence[str], turn: int | None = None, option: str | None = None) -> Said:
        """One of the options; raises SampleError where the model names none."""
        blank = self.drafter.prompt.chat((), {}, self._asked(options, None, option))
        said = self.drafter.writer.choose(self.chat(options, turn, option), options, blank)
        if said is None:
            raise SampleError(self.item.id, self.field.name, f"the model named none of: {', '.join(options)}")
        return said

    def chat(self, options: Sequence[str] = (), turn: int | None = None, option: str | None = None) -> list[Message]:
        """The question, without its oldest turns where it is too long; raises SampleError where it stays so."""
        last = self.field.step == STEPS[-1]
        asked = self._asked(options, turn, option) | {
            "inputs": [
                (shown.label, render(shown, self.item.inputs[shown.name]))
                for shown in self.schema.inputs
                if shown.kind not in (Kind.VIDEO, Kind.AUDIO, Kind.DIALOGUE) and shown.name in self.item.inputs
            ],
            "response": self.item.targets.get(self.schema.response.name) if last and turn is None else None,
        }
        turns = self.turns if turn is None else self.turns[: turn + 1]
        chat = self.drafter.prompt.chat(turns, self.notes, asked)
        kept = turns
        while not self.drafter.writer.fits(chat) and len(kept) > 1:
            kept = kept[(len(kept) + 3) // 4 :]
            chat = self.drafter.prompt.chat(kept, self.notes, asked)
        if not self.drafter.writer.fits(chat):
            raise SampleError(self.item.id, self.field.name, "its question is too long for the model (--max-prompt)")
        self.drafter.shortened += len(kept) < len(turns)
        return chat

    def _asked(self, options: Sequence[str], turn: int | None, option: str | None) -> dict[str, Any]:
        """The question itself, without what it is about."""
        return {
            "title": self.field.label,
            "guideline": self.field.guideline,
            "inputs": [],
            "response": None,
            "options": list(options),
            "option": option,
            "turn": None if turn is None else self.turns[turn],
        }


def whole_sentences(text: str) -> str:
    """The text up to its last full stop; all of it where it has none."""
    ends = [found.end() for found in re.finditer(r"[.!?…。！？][\"'”’)]*(?=\s|$)|[。！？]", text)]
    return text[: ends[-1]] if ends else text
