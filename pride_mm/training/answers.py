"""What the student answers while it is trained, without notes: a few of the validation split, one line each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pride_mm.data.batch import move
from pride_mm.data.collate import Collator
from pride_mm.data.shards import Sample, ShardReader
from pride_mm.files import write_jsonl
from pride_mm.student import Student
from pride_mm.training.history import read_history

ANSWERS = "answers.jsonl"


class Answers:
    """The same few samples, answered again and again.

    Args:
        path: where the lines go.
        valid: the validation splits; their first samples are asked.
        count: how many.
        collator: makes inputs of them.
    """

    def __init__(self, path: Path, valid: Sequence[ShardReader], count: int, collator: Collator) -> None:
        self._path, self._collator = path, collator
        self._samples: list[Sample] = [reader[place] for reader in valid for place in range(min(count, len(reader)))][
            :count
        ]

    def write(self, student: Student, step: int) -> None:
        """Ask, and add the answers after those of earlier steps; the student is in eval mode."""
        if not self._samples:
            return
        collator, schema = self._collator, self._collator.inputs.schema
        inputs = collator.inputs([sample.inputs for sample in self._samples])
        with torch.compiler.set_stance("force_eager"):  # token after token has shapes that no step has
            ids = student.answer(move(inputs, student.device), max_new_tokens=collator.max_response)
        said = collator.inputs.tokenizer.batch_decode(ids, skip_special_tokens=True)
        lines = [line for line in read_history(self._path) if line["step"] < step] if self._path.exists() else []
        for sample, answer in zip(self._samples, said, strict=True):
            turns: Any = sample.inputs[schema.dialogue.name]
            expert = sample.targets.get(schema.response.name)
            lines.append(
                {"step": step, "key": sample.key, "said": turns[-1].text, "answer": answer.strip(), "expert": expert}
            )
        write_jsonl(self._path, lines)
