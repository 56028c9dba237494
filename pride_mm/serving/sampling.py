"""How each row of a batch chooses its next token, and when it has said enough: each by its own settings.

Letters: ``B`` rows, ``V`` vocabulary. Chance is Gumbel noise on the scores, whose largest is then a draw from their
softmax: so rows that are greedy and rows that are drawn go through one ``generate``, and a row with a seed draws the
same whatever is beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria


@dataclass(frozen=True)
class Choice:
    """How a row's tokens are chosen. ``temperature`` 0 takes the likeliest; ``seed`` None is another one each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


class Sampling(LogitsProcessor):
    """Scores in, scores out, whose largest entry is the token to be taken."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = choices
        self.chances = [torch.Generator() for _ in choices]
        for choice, chance in zip(choices, self.chances, strict=True):
            chance.seed() if choice.seed is None else chance.manual_seed(choice.seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``(B, L)`` ids and ``(B, V)`` scores to ``(B, V)``."""
        if all(choice.temperature == 0 for choice in self.choices):
            return scores
        chosen = scores.clone()
        for row, (choice, chance) in enumerate(zip(self.choices, self.chances, strict=True)):
            if choice.temperature > 0:
                noise = torch.empty(scores.shape[-1]).exponential_(generator=chance).clamp(min=1e-30).log().neg()
                chosen[row] = nucleus(scores[row].float() / choice.temperature, choice.top_p) + noise.to(scores.device)
        return chosen


def nucleus(scores: Tensor, top_p: float) -> Tensor:
    """``(V,)`` scores, those outside of the fewest that have ``top_p`` of the probability at minus infinity."""
    if top_p >= 1:
        return scores
    ordered, order = scores.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    outside = torch.zeros_like(scores, dtype=torch.bool).scatter(0, order, before >= top_p)
    return scores.masked_fill(outside, float("-inf"))


class Listening(StoppingCriteria):
    """Hands each row's newest token to whoever listens to it, and ends the row when that says so.

    Args:
        rows: one a row; it returns True when its row has ended, and is not called again.
    """

    def __init__(self, rows: Sequence[Callable[[int], bool]]) -> None:
        self.rows, self._ended = rows, [False] * len(rows)

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """``(B, L)`` ids, the newest last, to ``(B,)``: which rows have ended."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._ended[row]:
                self._ended[row] = self.rows[row](token)
        return torch.tensor(self._ended, device=input_ids.device)
