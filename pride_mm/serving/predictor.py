"""An artifact that answers. It takes inputs, and has no way to take anything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pride_mm.data.batch import move
from pride_mm.data.collate import InputCollator
from pride_mm.errors import UserError
from pride_mm.media import MediaError
from pride_mm.schema import Schema, classes
from pride_mm.serving.artifact import check_files
from pride_mm.serving.request import Request, load_inputs, request_model
from pride_mm.student import Student, load_student


@dataclass(frozen=True)
class Answer:
    """What the student says, and for each head the class it read with its probability."""

    text: str
    targets: dict[str, tuple[str, float]]


class Predictor:
    """A loaded artifact.

    ``request`` is the model of its requests; ``schema`` the served schema.
    """

    def __init__(self, student: Student, tokenizer: Any, schema: Schema, device: torch.device | str = "cpu") -> None:
        self.student, self.tokenizer, self.schema, self.device = student.eval().to(device), tokenizer, schema, device
        self.request = request_model(schema)
        self._collate = InputCollator(schema, tokenizer, student.config.system, student.config.max_context)

    @classmethod
    def open(cls, artifact: Path, device: torch.device | str = "cpu") -> "Predictor":
        """Load an artifact.

        Raises:
            UserError: it isn't one, or a file in it is missing or is not what was exported; names the file.
        """
        check_files(artifact)
        student, tokenizer, schema = load_student(artifact)
        return cls(student, tokenizer, schema, device)

    def answer(self, request: Request, max_new_tokens: int = 64) -> Answer:
        """Answer one request, greedily."""
        return self.answers([request], max_new_tokens)[0]

    @torch.inference_mode()
    def answers(self, requests: Sequence[Request], max_new_tokens: int = 64) -> list[Answer]:
        """Answer some requests side by side, in their order.

        Raises:
            UserError: a clip cannot be read.
        """
        for request in requests:
            assert isinstance(request, self.request), "a request is made by this predictor's request model"
        if not requests:
            return []
        try:
            inputs = self._collate([load_inputs(self.schema, request) for request in requests])
        except MediaError as error:
            raise UserError(f"A clip cannot be read: {error}.") from None
        inputs = move(inputs, self.device)
        texts = self.tokenizer.batch_decode(self.student.answer(inputs, max_new_tokens), skip_special_tokens=True)
        read = {name: logits.float().softmax(-1).max(-1) for name, logits in self.student.read_targets(inputs).items()}
        names = {head.name: classes(head) for head in self.schema.heads}
        return [
            Answer(
                text.strip(),
                {head: (names[head][int(best.indices[row])], float(best.values[row])) for head, best in read.items()},
            )
            for row, text in enumerate(texts)
        ]
