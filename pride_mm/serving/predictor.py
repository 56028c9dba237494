"""An artifact that answers. It takes inputs, and has no way to take anything else.

Unless the safety is switched off, what a person in danger says is answered with a referral; see ``safety``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pride_mm.data.batch import Padded, move
from pride_mm.data.collate import InputCollator
from pride_mm.errors import UserError
from pride_mm.media import MediaError
from pride_mm.schema import Schema, classes
from pride_mm.serving.artifact import check_files
from pride_mm.serving.quantize import quantize
from pride_mm.serving.request import Request, load_inputs, request_model
from pride_mm.serving.safety import Safety, load_safety
from pride_mm.serving.streaming import pieces
from pride_mm.student import Student, load_student
from pride_mm.student.sources import Sources


@dataclass(frozen=True)
class Answer:
    """What the student says, and for each head the class it read with its probability.

    ``concern`` is what the request is a sign of, where it is; the text is the referral then.
    """

    text: str
    targets: dict[str, tuple[str, float]]
    concern: str | None = None


@dataclass(frozen=True)
class Reading:
    """What the student reads in a request.

    Attributes:
        targets: for each head the probability of each class, the most probable first.
        sources: the share of attention that the dialogue's words gave to each source that is there, the largest first;
            what is missing to one went to none. It says where the student looked, which is less than why it said so.
    """

    targets: dict[str, dict[str, float]]
    sources: dict[str, float]

    def looked_at(self, schema: Schema) -> dict[str, float]:
        """The share of each source by the name that people read, and last what went to none."""
        names = {field.name: field.label.lower() for field in schema.inputs}
        looked = {names.get(source, source): share for source, share in self.sources.items()}
        return {**looked, "nothing": 1 - sum(self.sources.values())}


class Predictor:
    """A loaded artifact.

    ``request`` is the model of its requests; ``schema`` the served schema; ``safety`` None where it is switched off.
    """

    def __init__(
        self,
        student: Student,
        tokenizer: Any,
        schema: Schema,
        device: torch.device | str = "cpu",
        safety: Safety | None = None,
    ) -> None:
        self.student, self.tokenizer, self.schema, self.device = student.eval().to(device), tokenizer, schema, device
        self.safety = safety
        self.request = request_model(schema)
        self._collate = InputCollator(schema, tokenizer, student.config.system, student.config.max_context)

    @classmethod
    def open(cls, artifact: Path, device: torch.device | str = "cpu", safety: str | Path = "crisis") -> "Predictor":
        """Load an artifact.

        Args:
            artifact: its folder.
            device: where it answers.
            safety: for ``load_safety``; ``off`` lets the student itself answer a person in danger.

        Raises:
            UserError: it isn't one, or a file in it is missing, is not what was exported, or was not exported; names
                the file. It is of another version or schema. No such safety, or a mistake in it.
        """
        loaded = load_safety(safety)
        record = check_files(artifact)
        student, tokenizer, schema = load_student(artifact)
        record.check_schema(schema)
        if record.quantization == "int8":
            quantize(student, device)
        return cls(student, tokenizer, schema, device, loaded)

    def answer(self, request: Request, max_new_tokens: int = 64) -> Answer:
        """Answer one request, greedily."""
        return self.answers([request], max_new_tokens)[0]

    @torch.inference_mode()
    def answers(self, requests: Sequence[Request], max_new_tokens: int = 64) -> list[Answer]:
        """Answer some requests side by side, in their order.

        Raises:
            UserError: a clip cannot be read.
        """
        if not requests:
            return []
        inputs = self._inputs(requests)
        sources = self.student.encode(inputs)
        ids = self.student.answer(inputs, max_new_tokens, sources)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        read = {
            name: logits.float().softmax(-1).max(-1) for name, logits in self.student.read(inputs, sources)[0].items()
        }
        names = {head.name: classes(head) for head in self.schema.heads}
        answers = []
        for row, (request, text) in enumerate(zip(requests, texts, strict=True)):
            concern, referral = self.concern(request)
            targets = {
                head: (names[head][int(best.indices[row])], float(best.values[row])) for head, best in read.items()
            }
            answers.append(Answer(referral or text.strip(), targets, concern))
        return answers

    def stream(self, request: Request, max_tokens: int = 64) -> Iterator[str]:
        """The text that ``answer`` gives, in pieces, each as soon as its token is made.

        The request is read before this returns; the student begins when the first piece is asked for, and stops when
        the iterator is closed.

        Raises:
            UserError: a clip cannot be read.
        """
        inputs = self._inputs([request])
        _, referral = self.concern(request)
        if referral is not None:
            return iter([referral])

        def generate(streamer: Any) -> None:
            with torch.inference_mode():  # of this thread
                self.student.answer(inputs, max_tokens, streamer=streamer)

        return pieces(generate, self.tokenizer)

    def read(self, request: Request) -> Reading:
        """What the student reads in one request, without an answer.

        Raises:
            UserError: a clip cannot be read.
        """
        return self.readings(self._inputs([request]))[0]

    @torch.inference_mode()
    def readings(self, inputs: Mapping[str, Padded], sources: Sources | None = None) -> list[Reading]:
        """What the student reads in each row of a batch; ``sources`` where they are known already."""
        logits, attention = self.student.read(inputs, sources)
        shares = {head.name: logits[head.name].float().softmax(-1).tolist() for head in self.schema.heads}
        there = {name: inputs[name].present.tolist() for name in self.student.source_names if name in inputs}
        readings = []
        for row, looked in enumerate(attention.tolist()):
            targets = {
                head.name: _largest_first(dict(zip(classes(head), shares[head.name][row], strict=True)))
                for head in self.schema.heads
            }
            mass = zip(self.student.source_names, looked, strict=True)
            seen = {name: share for name, share in mass if name not in there or there[name][row]}
            readings.append(Reading(targets, _largest_first(seen)))
        return readings

    def concern(self, request: Request) -> tuple[str, str] | tuple[None, None]:
        """What a request is a sign of, and the referral; or None twice."""
        turns: Any = getattr(request, self.schema.dialogue.name)
        found = None if self.safety is None else self.safety.concern(turns)
        return (None, None) if self.safety is None or found is None else (found, self.safety.referral.text.strip())

    def _inputs(self, requests: Sequence[Request]) -> Mapping[str, Padded]:
        for request in requests:
            assert isinstance(request, self.request), "a request is made by this predictor's request model"
        try:
            inputs = self._collate([load_inputs(self.schema, request) for request in requests])
        except MediaError as error:
            raise UserError(f"A clip cannot be read: {error}.") from None
        moved: Mapping[str, Padded] = move(inputs, self.device)
        return moved


def _largest_first(shares: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda entry: -entry[1]))
