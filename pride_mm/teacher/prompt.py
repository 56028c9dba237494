"""The empathy-reasoning prompt: feelings, situation, response (PRIDE, arXiv 2606.23124).

Privileged fields enter by their titles, each at the step its schema names. They are never cut: a
prompt that is too long loses the oldest turns, and is refused where that is not enough.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from jinja2.meta import find_undeclared_variables

from pride_mm.config import find_config, read_config
from pride_mm.data.conversation import Message, chat_ids, messages
from pride_mm.data.render import render
from pride_mm.data.shards import Sample
from pride_mm.errors import SampleError, UserError
from pride_mm.schema import Schema, Value
from pride_mm.teacher.senses import Question

STEPS = ("feelings", "situation", "response")


@dataclass
class Prompt:
    """Sample to prompt tokens.

    Args:
        schema: names the steps and the titles of the privileged fields.
        template: Jinja source; sees ``notes``, a mapping of step to (title, text) pairs, and ``examples``, each with
            ``notes``, ``turns`` and ``response``.
        limit: tokens of a prompt, examples and all.
        examples: samples with notes and a response, shown before the question; a sample that is one of
            them isn't shown itself.

    ``shortened`` counts the prompts that lost old turns.
    """

    schema: Schema
    template: str
    limit: int = 768
    examples: tuple[Sample, ...] = ()
    shortened: int = 0

    def __post_init__(self) -> None:
        if self.examples and "examples" not in find_undeclared_variables(Environment().parse(self.template)):
            raise UserError(
                "This prompt has no place for examples: go through `examples` in it, as empathy_reasoning does, or "
                "leave --shots out."
            )

    @classmethod
    def load(cls, schema: Schema, name: str | Path, limit: int = 768, examples: Sequence[Sample] = ()) -> "Prompt":
        """Read a template by name (``empathy_reasoning``) or path."""
        return cls(schema, read_config(find_config("prompt", name, ".j2")), limit, tuple(examples))

    @property
    def sha256(self) -> str:
        """Changes when the template or an example does."""
        shown = [str(self._shown(example)) for example in self.examples]
        return hashlib.sha256("\0".join([self.template, *shown]).encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        return Environment(undefined=StrictUndefined, keep_trailing_newline=False).from_string(self.template)

    def system(self, privileged: Mapping[str, Value], but: str | None = None) -> str:
        """What the teacher is told before the dialogue; ``but`` is the key of a sample that is no example to itself."""
        examples = [self._shown(example) for example in self.examples if example.key != but]
        return str(self._compiled.render(notes=self._notes(privileged), examples=examples)).strip()

    def _notes(self, privileged: Mapping[str, Value]) -> dict[str, list[tuple[str, str]]]:
        notes: dict[str, list[tuple[str, str]]] = {step: [] for step in STEPS}
        for field in self.schema.privileged:
            text = render(field, privileged[field.name]) if field.name in privileged else ""
            if text:
                notes[field.step or "situation"].append((field.label, text))
        return notes

    def _shown(self, example: Sample) -> dict[str, Any]:
        return {
            "notes": self._notes(example.privileged or {}),
            "turns": example.inputs[self.schema.dialogue.name],
            "response": example.targets[self.schema.response.name],
        }

    def ids(self, tokenizer: Any, sample: Sample) -> list[int]:
        """Prompt tokens up to where the response begins; raises SampleError where the notes alone are too long."""
        return self.question(sample, lambda chat, _: Question(chat_ids(tokenizer, chat))).ids

    def question(self, sample: Sample, read: Callable[[list[Message], Sample], Question]) -> Question:
        """What a teacher is asked, as it ``read``s a chat; raises SampleError likewise."""
        turns: Any = sample.inputs[self.schema.dialogue.name]
        system = self.system(sample.privileged or {}, sample.key)
        kept = turns
        question = read(messages(kept, system), sample)
        while len(question.ids) > self.limit and len(kept) > 1:
            kept = kept[1:]
            question = read(messages(kept, system), sample)
        if len(question.ids) > self.limit:
            also = f", {len(self.examples)} examples" if self.examples else ""
            also += ", what is shown" if question.shown else ""
            raise SampleError(
                sample.key,
                None,
                f"notes{also} and last turn take {len(question.ids)} tokens, {self.limit} are allowed "
                "(--max-prompt; in training teacher.max_prompt)",
            )
        self.shortened += len(kept) < len(turns)
        return question


def choose_examples(schema: Schema, samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    """The samples with the most notes that have a response, of those with as many the ones with the shortest text.

    Raises:
        UserError: fewer than ``count`` have notes and a response.
    """
    fit = [sample for sample in samples if sample.privileged and schema.response.name in sample.targets]
    if len(fit) < count:
        raise UserError(
            f"--shots {count}: only {len(fit)} of the first {len(samples)} train samples have notes and a response."
        )

    def rank(sample: Sample) -> tuple[int, int, str]:
        notes = sample.privileged or {}
        size = sum(len(render(field, notes[field.name])) for field in schema.privileged if field.name in notes)
        turns: Any = sample.inputs[schema.dialogue.name]
        return -len(notes), size + sum(len(turn.text) for turn in turns), sample.key

    return tuple(sorted(fit, key=rank)[:count])
