"""A language model that scores responses, and writes those that are missing; some see and hear.

Letters: ``B`` batch, ``P`` prompt tokens, ``T`` response tokens, ``V`` vocabulary, ``K`` top-k, ``D`` width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from pride_mm.data.conversation import Message, chat_ids
from pride_mm.data.shards import Sample
from pride_mm.data.teaching import Lesson
from pride_mm.head import Head
from pride_mm.schema import Frozen
from pride_mm.teacher.senses import Question, Senses

REPETITION_PENALTY = 1.1
"""Of what is written; both kinds of teacher write alike."""


class Served(Frozen):
    """A model behind a server, as far as anyone here can know it: by its name, and what the server says it is."""

    model: str
    reported: str | None


class AnyTeacher(Protocol):
    """Who is asked: a model in this process (`Teacher`), or one behind a server (`RemoteTeacher`)."""

    tokenizer: Any
    top_k: int
    fp8: bool

    @property
    def width(self) -> int:
        """Of its features; 0 where it gives none."""

    @property
    def head(self) -> Head | None:
        """What makes its logits, where that is here."""

    @property
    def server(self) -> Served | None:
        """Where it is not here, what is known of it."""

    def weights_sha256(self) -> str | None:
        """Changes when, and only when, a weight does; None where nobody here knows them."""

    @property
    def parameters(self) -> int | None:
        """How many weights it has; None where nobody here knows."""

    @property
    def shown(self) -> tuple[str, ...]:
        """The fields that it sees and hears."""

    def read(self, chat: Sequence[Message], sample: Sample) -> Question:
        """The question that a chat about a sample is to it."""

    def score(
        self, questions: Sequence[Question], responses: Sequence[list[int]], written: Sequence[bool]
    ) -> list[Lesson]:
        """The lesson on each response."""

    def write(self, questions: Sequence[Question], max_tokens: int) -> list[list[int]]:
        """A response to each question."""


@dataclass
class Teacher:
    """A frozen model and its tokenizer.

    Args:
        model: any Hugging Face language model with a ``lm_head``.
        tokenizer: its tokenizer; the ids past ``len(tokenizer)`` are padding and are sliced off.
        top_k: how many log-probabilities of a token are kept; 0 keeps the last hidden states instead, of which `head`
            makes exact logits.
        fp8: keep those states in float8, with a scale each: half the size, and logits that are off by some thousandths
            of a nat instead of hundred-thousandths.
        senses: what it sees and hears with; where it is shown something, questions are answered one by one.
    """

    model: Any
    tokenizer: Any
    top_k: int = 64
    fp8: bool = False
    senses: Senses | None = None

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def server(self) -> None:
        """It is here."""
        return None

    @property
    def width(self) -> int:
        """Of its states, and of the features made of them."""
        return int(self.model.config.get_text_config().hidden_size)

    def weights_sha256(self) -> str:
        """Changes when, and only when, a weight does."""
        return weights_sha256(self.model)

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def vocabulary(self) -> int:
        """The real ids; a model's head may be padded past them."""
        return min(len(self.tokenizer), int(self.model.get_output_embeddings().weight.shape[0]))

    @cached_property
    def head(self) -> Head:
        """What makes its logits: the last layer, and what some models do to its product."""
        return Head.of_model(self.model, self.vocabulary)

    @property
    def shown(self) -> tuple[str, ...]:
        """The fields that it sees and hears."""
        return tuple(field.name for field in self.senses.fields) if self.senses else ()

    def read(self, chat: Sequence[Message], sample: Sample) -> Question:
        """The question that a chat about a sample is to it; raises SampleError where a clip cannot be read."""
        return self.senses.read(chat, sample) if self.senses else Question(chat_ids(self.tokenizer, chat))

    @torch.inference_mode()
    def score(
        self, questions: Sequence[Question], responses: Sequence[list[int]], written: Sequence[bool]
    ) -> list[Lesson]:
        """Teacher-forced log-probabilities and features of the responses.

        Each lesson has the ``K`` most probable ids of every response token with their log-probabilities
        at temperature 1 and the log of the remaining mass, or its last hidden states; and those averaged over the
        response.
        """
        if len(questions) > 1 and any(question.shown for question in questions):
            each = zip(questions, responses, written, strict=True)
            return [self.score([question], [response], [own])[0] for question, response, own in each]
        rows = [question.ids + response[:-1] for question, response in zip(questions, responses, strict=True)]
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.tokenizer.eos_token_id, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for number, row in enumerate(rows):  # padded on the right: causal attention never sees the padding
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        states = self.model.base_model(**self._inputs(ids, mask, questions)).last_hidden_state
        return [
            self._lesson(states[number, len(questions[number].ids) - 1 : len(rows[number])], response, written[number])
            for number, response in enumerate(responses)
        ]

    def _inputs(self, ids: Tensor, mask: Tensor, questions: Sequence[Question]) -> dict[str, Tensor]:
        shown = questions[0].before(ids.shape[1])
        device = self.model.device
        return {
            name: tensor.to(device) for name, tensor in ({"input_ids": ids, "attention_mask": mask} | shown).items()
        }

    def _lesson(self, states: Tensor, response: list[int], written: bool) -> Lesson:
        logits = self.head.logits(states.to(self.head.weight.device)).float()
        log_probs = torch.log_softmax(logits, dim=-1)
        gold = torch.tensor(response, device=log_probs.device)
        lesson = Lesson(
            response_ids=gold.cpu(),
            written=written,
            gold_log_probs=log_probs.gather(-1, gold[:, None])[:, 0].cpu(),
            features=states.float().mean(0).cpu(),
        )
        if self.top_k == 0:
            whole = replace(lesson, states=states.cpu())
            return whole.in_fp8() if self.fp8 else whole
        top, ids = log_probs.topk(min(self.top_k, self.vocabulary - 1), dim=-1)
        # over the logits outside the top-k, never 1 - sum: that loses everything below 1e-7
        rest = log_probs.scatter(-1, ids, float("-inf"))
        return replace(lesson, ids=ids.cpu(), log_probs=top.cpu(), log_tail=torch.logsumexp(rest, dim=-1).cpu())

    @torch.inference_mode()
    def write(self, questions: Sequence[Question], max_tokens: int) -> list[list[int]]:
        """Greedy responses to the questions, each with its end token if it came within ``max_tokens``."""
        if len(questions) > 1 and any(question.shown for question in questions):
            return [self.write([question], max_tokens)[0] for question in questions]
        length = max(len(question.ids) for question in questions)
        end = self.tokenizer.eos_token_id
        ids = torch.full((len(questions), length), end, dtype=torch.long)
        mask = torch.zeros(len(questions), length, dtype=torch.long)
        for number, question in enumerate(questions):
            ids[number, length - len(question.ids) :] = torch.tensor(question.ids)
            mask[number, length - len(question.ids) :] = 1
        answers = self.model.generate(
            **self._inputs(ids, mask, questions),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=REPETITION_PENALTY,
            eos_token_id=end,
            pad_token_id=end,
        )
        return [until_end(answer.tolist(), end) for answer in answers[:, length:].cpu()]


def until_end(ids: list[int], end: int) -> list[int]:
    """The tokens up to the first end, which belongs to them."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def weights_sha256(model: Any) -> str:
    """Changes when, and only when, a weight does."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
