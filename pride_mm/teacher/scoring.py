"""A causal language model that scores responses, and writes those that are missing.

Letters: ``B`` batch, ``P`` prompt tokens, ``T`` response tokens, ``V`` vocabulary, ``K`` top-k, ``D`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.teaching import Lesson


@dataclass
class Teacher:
    """A frozen model and its tokenizer.

    Args:
        model: any Hugging Face causal language model with a ``lm_head``.
        tokenizer: its tokenizer; the ids past ``len(tokenizer)`` are padding and are sliced off.
        top_k: how many log-probabilities of a token are kept.
    """

    model: Any
    tokenizer: Any
    top_k: int = 64

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def vocabulary(self) -> int:
        """The real ids; a model's head may be padded past them."""
        return min(len(self.tokenizer), int(self.model.get_output_embeddings().weight.shape[0]))

    @torch.inference_mode()
    def score(
        self, prompts: Sequence[list[int]], responses: Sequence[list[int]], written: Sequence[bool]
    ) -> list[Lesson]:
        """Teacher-forced log-probabilities and features of the responses.

        Each lesson has the ``K`` most probable ids of every response token with their log-probabilities
        at temperature 1, the log of the remaining mass, and the last hidden states averaged over the response.
        """
        rows = [prompt + response[:-1] for prompt, response in zip(prompts, responses, strict=True)]
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.tokenizer.eos_token_id, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for number, row in enumerate(rows):  # padded on the right: causal attention never sees the padding
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        device = self.model.device
        states = self.model.base_model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        return [
            self._lesson(states[number, len(prompts[number]) - 1 : len(rows[number])], response, written[number])
            for number, response in enumerate(responses)
        ]

    def _lesson(self, states: Tensor, response: list[int], written: bool) -> Lesson:
        logits = self.model.get_output_embeddings()(states)[:, : self.vocabulary].float()
        log_probs = torch.log_softmax(logits, dim=-1)
        gold = torch.tensor(response, device=states.device)
        top, ids = log_probs.topk(min(self.top_k, self.vocabulary - 1), dim=-1)
        # over the logits outside the top-k, never 1 - sum: that loses everything below 1e-7
        rest = log_probs.scatter(-1, ids, float("-inf"))
        return Lesson(
            response_ids=gold.cpu(),
            written=written,
            ids=ids.cpu(),
            log_probs=top.cpu(),
            log_tail=torch.logsumexp(rest, dim=-1).cpu(),
            gold_log_probs=log_probs.gather(-1, gold[:, None])[:, 0].cpu(),
            features=states.float().mean(0).cpu(),
        )

    @torch.inference_mode()
    def write(self, prompts: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
        """Greedy responses to the prompts, each with its end token if it came within ``max_tokens``."""
        length = max(len(prompt) for prompt in prompts)
        end = self.tokenizer.eos_token_id
        ids = torch.full((len(prompts), length), end, dtype=torch.long)
        mask = torch.zeros(len(prompts), length, dtype=torch.long)
        for number, prompt in enumerate(prompts):
            ids[number, length - len(prompt) :] = torch.tensor(prompt)
            mask[number, length - len(prompt) :] = 1
        device = self.model.device
        answers = self.model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=1.1,
            eos_token_id=end,
            pad_token_id=end,
        )
        return [_until(answer.tolist(), end) for answer in answers[:, length:].cpu()]


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
