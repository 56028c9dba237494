"""A causal language model behind a server as a teacher: vLLM, or what speaks its form of ``/v1/completions``.

Privileged text leaves this process: prompts with experts' notes go to that server, as token ids. They are in no error
message. What the server gives is rounded: its log-probabilities are float32 of whatever it computes in (bfloat16,
mostly), and the mass outside its top-k is what they leave of 1, so nothing below 1e-7 is known of it.

Letters: ``T`` response tokens, ``K`` top-k.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pride_mm.data.conversation import Message, chat_ids
from pride_mm.data.shards import Sample
from pride_mm.data.teaching import Lesson
from pride_mm.errors import UserError
from pride_mm.head import Head
from pride_mm.teacher.client import Client
from pride_mm.teacher.scoring import REPETITION_PENALTY, Served, until_end
from pride_mm.teacher.senses import Question

_PATH = "completions"
_LEAST_MASS = 2.0**-23  # float32's own rounding: log-probabilities that come so can't tell less from nothing
_PROBED = 128
_MARKS = " \t\n▁Ġ"


class RemoteTeacher:
    """Scores and writes as `Teacher` does, without features: a server gives none.

    Args:
        client: the server and its model.
        tokenizer: the model's; asked at once whether its ids mean the same strings to the server.
        top_k: how many log-probabilities of a token are kept.
        insecure: notes may go over a network unencrypted.

    Raises:
        UserError: the way there can be read by others, or the server has no such model, is of another kind, has
            another vocabulary, or gives fewer log-probabilities.
    """

    fp8 = False
    head: Head | None = None
    width = 0

    def __init__(self, client: Client, tokenizer: Any, top_k: int = 64, insecure: bool = False) -> None:
        if not (client.private or insecure):
            raise UserError(
                f"What experts noted would go to {client.url} unencrypted: use https, or a tunnel to that machine "
                "(ssh -L 8000:127.0.0.1:8000 HOST, then --server http://127.0.0.1:8000/v1); or give --insecure where "
                "nobody else is on the network between."
            )
        if top_k < 1:
            raise UserError("--top-k 0 keeps hidden states, which a server doesn't give: take at least 1.")
        self.client, self.tokenizer, self.top_k = client, tokenizer, top_k
        self.vocabulary = len(tokenizer)
        self.kept = min(top_k, self.vocabulary - 1)
        self.server: Served | None = Served(model=client.model, reported=self._reported())
        self._see_same_ids()
        status, _ = self._ask([[0, 0]], 1, prompt_logprobs=self.kept)
        if status in (400, 422):
            raise UserError(
                f"The server at {client.url} gives fewer than {self.kept} log-probabilities of a token (HTTP {status}):"
                f" start it with --max-logprobs {self.kept} (vLLM's default is 20), or give a smaller --top-k."
            )

    def weights_sha256(self) -> None:
        """Nobody here knows them."""
        return None

    @property
    def parameters(self) -> None:
        """Nobody here knows."""
        return None

    @property
    def shown(self) -> tuple[str, ...]:
        """Words alone go over the line."""
        return ()

    def read(self, chat: Sequence[Message], sample: Sample) -> Question:
        """The question that a chat is to it."""
        return Question(chat_ids(self.tokenizer, chat))

    def score(
        self, questions: Sequence[Question], responses: Sequence[list[int]], written: Sequence[bool]
    ) -> list[Lesson]:
        """Teacher-forced log-probabilities of the responses: each lesson has the ``K`` most probable ids of every
        response token, their log-probabilities at temperature 1, and the log of the mass outside of them.
        """
        rows = [question.ids + response for question, response in zip(questions, responses, strict=True)]
        choices = self._answers(rows, 1, prompt_logprobs=self.kept)
        lessons = []
        for row, response, choice, own in zip(rows, responses, choices, written, strict=True):
            lessons.append(self._lesson(self._positions(choice, len(row))[-len(response) :], response, own))
        return lessons

    def write(self, questions: Sequence[Question], max_tokens: int) -> list[list[int]]:
        """Greedy responses to the questions, each with its end token if it came within ``max_tokens``."""
        end = self.tokenizer.eos_token_id
        choices = self._answers(
            [question.ids for question in questions],
            max_tokens,
            repetition_penalty=REPETITION_PENALTY,
            ignore_eos=True,  # whatever else ends a turn for the server; the student has one end
            stop_token_ids=[end],
            logprobs=1,
            return_tokens_as_token_ids=True,
        )
        responses = []
        for choice in choices:
            try:
                ids = [int(token.removeprefix("token_id:")) for token in choice["logprobs"]["tokens"]]
                ended = choice["finish_reason"] == "stop" and end not in ids
            except (KeyError, TypeError, AttributeError, ValueError):
                raise self._stranger("says no ids of what it writes (return_tokens_as_token_ids)") from None
            responses.append(until_end([*ids, *([end] if ended else [])], end))
        return responses

    def _lesson(self, positions: Sequence[Mapping[int, float]], response: list[int], written: bool) -> Lesson:
        gold, ids, log_probs = [], [], []
        for said, token in zip(positions, response, strict=True):
            best = heapq.nlargest(self.kept, said.items(), key=lambda one: (one[1], -one[0]))
            if token not in said or len(best) < self.kept:
                raise self._stranger(f"gives fewer than {self.kept} log-probabilities of a token")
            if strange := [one for one, _ in best if not 0 <= one < self.vocabulary]:
                raise self._other_tokenizer(f"expects token {strange[0]}, which the tokenizer doesn't have")
            gold.append(said[token])
            ids.append([one for one, _ in best])
            log_probs.append([value for _, value in best])
        top = torch.tensor(log_probs, dtype=torch.float64).clamp(max=0.0)
        tail = torch.log1p(-top.exp().sum(-1).clamp(max=1.0 - _LEAST_MASS))
        return Lesson(
            response_ids=torch.tensor(response),
            written=written,
            gold_log_probs=torch.tensor(gold, dtype=torch.float32),
            features=torch.zeros(0),
            ids=torch.tensor(ids),
            log_probs=top.float(),
            log_tail=tail.float(),
        )

    def _reported(self) -> str | None:
        """What the server says its model really is; None where it doesn't say."""
        status, answer = self.client.get("models")
        if status == 404:
            return None  # a proxy before it may let only questions through
        if status != 200:
            raise self.client.refusal(status, "models")
        try:
            served = {str(one["id"]): one.get("root") for one in answer["data"]}
        except (KeyError, TypeError, AttributeError):
            raise self.client.stranger() from None
        if self.client.model not in served:
            raise UserError(
                f"The server at {self.client.url} has no model '{self.client.model}', it has "
                f"{', '.join(sorted(served)) or 'none'}: choose by --model."
            )
        root = served[self.client.model]
        return None if root is None else str(root)

    def _see_same_ids(self) -> None:
        """Ids from all over the vocabulary mean the same strings here and there."""
        step = max(1, self.vocabulary // _PROBED)
        ids = [*range(0, self.vocabulary, step), self.vocabulary - 1]
        status, answer = self._ask([ids], 1, prompt_logprobs=1)
        if status in (400, 422):
            raise self._other_tokenizer(f"refuses its ids (HTTP {status})")
        if status != 200:
            raise self.client.refusal(status, _PATH)
        (choice,) = self._choices(answer, 1)
        self._positions(choice, len(ids))
        for token, said in list(zip(ids, choice["prompt_logprobs"], strict=True))[1:]:
            theirs = (said.get(str(token)) or {}).get("decoded_token")
            if theirs is None:
                raise self._stranger("doesn't say which strings its tokens are (decoded_token)")
            ours = {self.tokenizer.decode([token]), str(self.tokenizer.convert_ids_to_tokens(token))}
            # half a character is shown in one way or another
            if "\ufffd" not in "".join([theirs, *ours]) and theirs.strip(_MARKS) not in {
                one.strip(_MARKS) for one in ours
            }:
                raise self._other_tokenizer(f"takes token {token} for {theirs!r}, not {min(ours)!r}")

    def _answers(self, prompts: Sequence[list[int]], tokens: int, **options: Any) -> list[dict[str, Any]]:
        status, answer = self._ask(prompts, tokens, **options)
        if status != 200:
            raise self.client.refusal(status, _PATH)
        return self._choices(answer, len(prompts))

    def _ask(self, prompts: Sequence[list[int]], tokens: int, **options: Any) -> tuple[int, Any]:
        return self.client.post(_PATH, {"prompt": list(prompts), "max_tokens": tokens, "temperature": 0, **options})

    def _choices(self, answer: Any, count: int) -> list[dict[str, Any]]:
        """One for each prompt, in their order."""
        try:
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
        except (KeyError, TypeError, ValueError):
            raise self.client.stranger() from None
        if [choice["index"] for choice in choices] != list(range(count)):
            raise self._stranger(f"gives {len(choices)} answers to {count} questions")
        return choices

    def _positions(self, choice: Mapping[str, Any], length: int) -> list[dict[int, float]]:
        """The log-probabilities at each place of a prompt, by id; the first place has none."""
        try:
            positions = [
                {int(token): float(one["logprob"]) for token, one in (said or {}).items()}
                for said in choice["prompt_logprobs"]
            ]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise self._stranger("gives no prompt_logprobs") from None
        if len(positions) != length:
            raise self._stranger(f"read {len(positions)} tokens of {length}")
        return positions

    def _stranger(self, how: str) -> UserError:
        return UserError(f"What answers at {self.client.url} {how}: teaching needs vLLM, or a server of its form.")

    def _other_tokenizer(self, how: str) -> UserError:
        return UserError(
            f"The tokenizer is not that of '{self.client.model}': the server {how}. Give the model's own (--tokenizer)."
        )
