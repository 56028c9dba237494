"""What one student says of a split, in deploy mode: it is handed inputs and nothing else.

Letters: ``B`` batch, ``T`` response tokens, ``V`` vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import Sample, ShardReader
from pride_mm.errors import BadSamples, SampleError
from pride_mm.evaluation.gold import Gold
from pride_mm.evaluation.metrics import Likelihood
from pride_mm.progress import Progress, silent
from pride_mm.schema import Schema
from pride_mm.student import Student

_CHUNK = 512


@dataclass(frozen=True)
class Predictions:
    """Attributes as in ``results.Run``; ``read`` are class numbers by head and key, ``seen`` all keys."""

    likelihood: Likelihood
    read: dict[str, dict[str, int]]
    attention: dict[str, float]
    seen: frozenset[str]


@dataclass
class Examinee:
    """A student with what it needs to read samples.

    Args:
        student, tokenizer: as loaded, in eval mode.
        schema: the shards' whole schema: the leakage check collates notes too, which the student never gets.
        max_response: tokens of a response, its end included.
        device: where it runs.
    """

    student: Student
    tokenizer: Any
    schema: Schema
    max_response: int = 64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        config = self.student.config
        self.student.eval().to(self.device)
        self.collator = Collator(
            InputCollator(self.schema, self.tokenizer, config.system, config.max_context), self.max_response
        )

    @torch.inference_mode()
    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Everything that the student says of a batch by teacher forcing; one row a sample."""
        batch = batch.without_privileged().to(self.device)
        response = batch.targets[self.schema.response.name]
        said = self.student.respond(batch.inputs, response)
        return {
            "response states": torch.where(response.mask[..., None], said.hidden, 0.0),
            "attention": said.attention,
            **{f"head '{name}'": logits for name, logits in said.logits.items()},
        }

    @torch.inference_mode()
    def everything(self, batch: Batch, max_new_tokens: int = 16) -> dict[str, Tensor]:
        """``outputs`` and a greedy answer: what the leakage check compares."""
        answers = self.student.answer(batch.without_privileged().to(self.device).inputs, max_new_tokens)
        pad = torch.nn.functional.pad(answers, (0, max_new_tokens - answers.shape[1]), value=-1)
        return {**self.outputs(batch), "answer": pad}

    def nats(self, hidden: Float[Tensor, "B T D"], response: Padded) -> list[float]:
        """Negative log-likelihood of each row's response; logits are built for real tokens only, in chunks."""
        rows = response.mask.nonzero()[:, 0].cpu()
        states, ids = hidden[response.mask], response.values[response.mask]
        head = replace(self.student.head, vocabulary=len(self.tokenizer))
        loss = [
            torch.nn.functional.cross_entropy(
                head.logits(states[at : at + _CHUNK]).float(), ids[at : at + _CHUNK], reduction="none"
            )
            for at in range(0, len(ids), _CHUNK)
        ]
        each = torch.cat(loss).double().cpu() if loss else torch.zeros(0, dtype=torch.double)
        return torch.zeros(len(response.mask), dtype=torch.double).index_add(0, rows, each).tolist()

    @torch.inference_mode()
    def predict(
        self, reader: ShardReader, gold: Gold, bad: BadSamples, batch_size: int = 16, progress: Progress = silent
    ) -> Predictions:
        """Score the gold responses of a split and read its heads; a broken sample is counted in ``bad``."""
        name = self.schema.response.name
        found: list[tuple[str, float, int, int]] = []
        read: dict[str, dict[str, int]] = {head.name: {} for head in self.schema.heads}
        mass = _Mass()
        seen: set[str] = set()
        for samples, batch in self._batches(reader, bad, batch_size):
            seen |= {sample.key for sample in samples}
            batch = batch.to(self.device)
            response = batch.targets[name]
            said = self.student.respond(batch.inputs, response)
            mass.add(said.sources.names, said.attention, _present(said.sources))
            tokens = response.mask.sum(1).tolist()
            for sample, nats, count, mask, ids in zip(
                samples, self.nats(said.hidden, response), tokens, response.mask, response.values, strict=True
            ):
                if sample.key in gold.responses and count:
                    found.append((sample.key, nats, count, self._bytes(ids[mask].tolist(), gold.responses[sample.key])))
            for head, logits in said.logits.items():
                read[head] |= dict(zip(batch.keys, logits.argmax(-1).tolist(), strict=True))
            progress(len(seen), len(reader))
        keys = tuple(key for key, *_ in found)
        likelihood = Likelihood(
            keys,
            tuple(gold.group_of(keys)),
            tuple(nats for _, nats, _, _ in found),
            tuple(tokens for _, _, tokens, _ in found),
            tuple(size for _, _, _, size in found),
        )
        return Predictions(likelihood, read, mass.shares(), frozenset(seen))

    def _bytes(self, ids: list[int], text: str) -> int:
        """Bytes of the text that was scored: of a response that was cut, only what was left of it."""
        if ids[-1] == self.tokenizer.eos_token_id:
            return len(text.strip().encode())
        return len(self.tokenizer.decode(ids, skip_special_tokens=True).strip().encode())

    def _batches(self, reader: ShardReader, bad: BadSamples, batch_size: int) -> Iterator[tuple[list[Sample], Batch]]:
        for start in range(0, len(reader), batch_size):
            samples = read_samples(reader, range(start, min(start + batch_size, len(reader))), bad)
            try:
                batch = self.collator(samples) if samples else None
            except SampleError:
                samples = [sample for sample in samples if self.fine(sample, bad)]
                batch = self.collator(samples) if samples else None
            if batch is not None:
                yield samples, batch

    def fine(self, sample: Sample, bad: BadSamples) -> bool:
        """Whether a sample can be collated; counted in ``bad`` where not."""
        try:
            self.collator([sample])
        except SampleError as error:
            bad.add(error)
            return False
        return True

    @torch.inference_mode()
    def answers(self, samples: Sequence[Sample], batch_size: int = 8, progress: Progress = silent) -> dict[str, str]:
        """Greedy answers by key."""
        said: dict[str, str] = {}
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            batch = self.collator(part).to(self.device)
            ids = self.student.answer(batch.inputs, self.max_response)
            texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            said |= {key: text.strip() for key, text in zip(batch.keys, texts, strict=True)}
            progress(len(said), len(samples))
        return said


def read_samples(reader: ShardReader, places: Sequence[int], bad: BadSamples) -> list[Sample]:
    """Samples at some places; a broken one is counted in ``bad``."""
    samples = []
    for place in places:
        with bad.counting():
            samples.append(reader[place])
    return samples


def _present(sources: Any) -> Bool[Tensor, "B S"]:
    return torch.stack([sources.present(name) for name in sources.names], dim=1)


class _Mass:
    """Mean attention on each source over the samples that have it."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def add(self, names: Sequence[str], mass: Tensor, present: Tensor) -> None:
        for column, name in enumerate(names):
            has = present[:, column].float()
            self._sums[name] = self._sums.get(name, 0.0) + float((mass[:, column] * has).sum())
            self._counts[name] = self._counts.get(name, 0.0) + float(has.sum())

    def shares(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}


def labelled(read: Mapping[str, Mapping[str, int]], gold: Gold) -> dict[str, list[str]]:
    """For each head the keys that have both a gold label and a prediction, in the split's order."""
    return {
        head: [key for key in gold.keys if key in gold.labels[head] and key in numbers]
        for head, numbers in read.items()
    }
