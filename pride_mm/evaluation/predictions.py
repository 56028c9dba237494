"""What one student says of a split, in deploy mode: it is handed inputs and nothing else.

Letters: ``B`` batch, ``T`` response tokens, ``V`` vocabulary.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import Sample, ShardReader
from pride_mm.errors import BadSamples, SampleError
from pride_mm.evaluation.gold import Gold
from pride_mm.schema import Schema
from pride_mm.student import Student

_CHUNK = 512


Decoding = Literal["greedy", "nucleus"]
DECODINGS: dict[Decoding, str] = {
    "greedy": "the likeliest token each time",
    "nucleus": "drawn from the likeliest tokens that hold 0.9 of the mass, at temperature 0.7, seeded by the samples",
}
"""How answers are chosen."""
_NUCLEUS: dict[str, Any] = {"do_sample": True, "top_p": 0.9, "temperature": 0.7, "top_k": 0}


@dataclass(frozen=True)
class Said:
    """What a student says of one sample by teacher forcing.

    Attributes:
        key: the sample's.
        nats: negative log-likelihood of the gold response and its end; 0, as the next two, where there is none.
        tokens: how many tokens that is.
        bytes: UTF-8 bytes of the response's text.
        heads: the probability of each class, by head.
        attention: the share of attention on each source that the sample has.
    """

    key: str
    nats: float
    tokens: int
    bytes: int
    heads: dict[str, tuple[float, ...]]
    attention: dict[str, float]


@dataclass
class Examinee:
    """A student with what it needs to read samples.

    Args:
        student, tokenizer: as loaded, in eval mode.
        schema: the shards' whole schema: the leakage check collates notes too, which the student never gets.
        max_response: tokens of a response, its end included.
        device: where it runs.
        sha256: of weights, settings and tokenizer; empty where it was not loaded from a folder.
    """

    student: Student
    tokenizer: Any
    schema: Schema
    max_response: int = 64
    device: torch.device | str = "cpu"
    sha256: str = ""

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
    def score(self, samples: Sequence[Sample], gold: Gold) -> list[Said]:
        """What it says of a batch of samples: of their gold responses, and of their labels."""
        batch = self.collator(samples).to(self.device)
        response = batch.targets[self.schema.response.name]
        said = self.student.respond(batch.inputs, response)
        present, mass = _present(said.sources).tolist(), said.attention.tolist()
        nats = self.nats(said.hidden, response)
        heads = {name: logits.float().softmax(-1).tolist() for name, logits in said.logits.items()}
        found = []
        for row, sample in enumerate(samples):
            ids = response.values[row][response.mask[row]].tolist()
            scored = bool(ids) and sample.key in gold.responses
            found.append(
                Said(
                    key=sample.key,
                    nats=nats[row] if scored else 0.0,
                    tokens=len(ids) if scored else 0,
                    bytes=self._bytes(ids, gold.responses[sample.key]) if scored else 0,
                    heads={name: tuple(round(each, 6) for each in rows[row]) for name, rows in heads.items()},
                    attention={
                        name: round(mass[row][column], 6)
                        for column, name in enumerate(said.sources.names)
                        if present[row][column]
                    },
                )
            )
        return found

    def _bytes(self, ids: list[int], text: str) -> int:
        """Bytes of the text that was scored: of a response that was cut, only what was left of it."""
        if ids[-1] == self.tokenizer.eos_token_id:
            return len(text.strip().encode())
        return len(self.tokenizer.decode(ids, skip_special_tokens=True).strip().encode())

    def fine(self, samples: Sequence[Sample], bad: BadSamples | None = None) -> bool:
        """Whether samples can be collated; what is in the way is counted in ``bad`` where that is given."""
        try:
            self.collator(samples)
        except SampleError as error:
            if bad is not None:
                bad.add(error)
            return False
        return True

    @torch.inference_mode()
    def answer(self, samples: Sequence[Sample], decoding: Decoding = "greedy") -> dict[str, str]:
        """Answers to a batch of samples by key; what is drawn is the same every time for the same samples."""
        batch = self.collator(samples).to(self.device)
        with torch.random.fork_rng():
            if decoding == "nucleus":
                torch.manual_seed(zlib.crc32("\n".join(batch.keys).encode()))
            drawn = _NUCLEUS if decoding == "nucleus" else {}
            ids = self.student.answer(batch.inputs, self.max_response, **drawn)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {key: text.strip() for key, text in zip(batch.keys, texts, strict=True)}


def read_samples(reader: ShardReader, places: Sequence[int], bad: BadSamples) -> list[Sample]:
    """Samples at some places; a broken one is counted in ``bad``."""
    samples = []
    for place in places:
        with bad.counting():
            samples.append(reader[place])
    return samples


def _present(sources: Any) -> Bool[Tensor, "B S"]:
    return torch.stack([sources.present(name) for name in sources.names], dim=1)


def labelled(read: Mapping[str, Mapping[str, int]], gold: Gold) -> dict[str, list[str]]:
    """For each head the keys that have both a gold label and a prediction, in the split's order."""
    return {
        head: [key for key in gold.keys if key in gold.labels[head] and key in numbers]
        for head, numbers in read.items()
    }
