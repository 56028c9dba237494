"""The empathy-reasoning prompt: feelings, situation, response (PRIDE, arXiv 2606.23124).

Privileged fields enter by their titles, each at the step its schema names. They are never cut: a
prompt that is too long loses the oldest turns, and is refused where that is not enough.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pride_mm.config import find_config, read_config
from pride_mm.data.conversation import chat_ids, messages
from pride_mm.data.render import render
from pride_mm.data.shards import Sample
from pride_mm.errors import SampleError
from pride_mm.schema import Schema, Value

STEPS = ("feelings", "situation", "response")


@dataclass
class Prompt:
    """Sample to prompt tokens.

    Args:
        schema: names the steps and the titles of the privileged fields.
        template: Jinja source; sees ``notes``, a mapping of step to (title, text) pairs.
        limit: tokens of a prompt.

    ``shortened`` counts the prompts that lost old turns.
    """

    schema: Schema
    template: str
    limit: int = 768
    shortened: int = 0

    @classmethod
    def load(cls, schema: Schema, name: str | Path, limit: int = 768) -> "Prompt":
        """Read a template by name (``empathy_reasoning``) or path."""
        return cls(schema, read_config(find_config("prompt", name, ".j2")), limit)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.template.encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        return Environment(undefined=StrictUndefined, keep_trailing_newline=False).from_string(self.template)

    def system(self, privileged: Mapping[str, Value]) -> str:
        """What the teacher is told before the dialogue."""
        notes: dict[str, list[tuple[str, str]]] = {step: [] for step in STEPS}
        for field in self.schema.privileged:
            text = render(field, privileged[field.name]) if field.name in privileged else ""
            if text:
                notes[field.step or "situation"].append((field.label, text))
        return str(self._compiled.render(notes=notes)).strip()

    def ids(self, tokenizer: Any, sample: Sample) -> list[int]:
        """Prompt tokens up to where the response begins; raises SampleError where the notes alone are too long."""
        turns: Any = sample.inputs[self.schema.dialogue.name]
        system = self.system(sample.privileged or {})
        kept = turns
        ids = chat_ids(tokenizer, messages(kept, system))
        while len(ids) > self.limit and len(kept) > 1:
            kept = kept[1:]
            ids = chat_ids(tokenizer, messages(kept, system))
        if len(ids) > self.limit:
            raise SampleError(
                sample.key, None, f"notes and last turn take {len(ids)} tokens, {self.limit} are allowed (--max-prompt)"
            )
        self.shortened += len(kept) < len(turns)
        return ids
