"""What the teacher said of one sample, as a member of a ``.teacher.tar``.

safetensors, so that reading it runs no code. Letters: ``T`` response tokens, ``K`` top-k, ``D`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pride_mm.data.batch import Teaching

MEMBER = "teacher.cache.safetensors"
"""What follows the key in the member's name."""


@dataclass(frozen=True)
class Lesson:
    """The teacher's word on one response.

    Attributes:
        response_ids: the tokens that were scored; the student's tokenizer must give the same.
        written: the teacher wrote this response itself, because the item had none.
        ids, log_probs: the top-k of each token, at temperature 1.
        log_tail: log of the mass outside the top-k, float32.
        gold_log_probs: log-probability of the scored token itself.
        features: the last hidden states, averaged over the response.
    """

    response_ids: Int[Tensor, " T"]
    written: bool
    ids: Int[Tensor, "T K"]
    log_probs: Float[Tensor, "T K"]
    log_tail: Float[Tensor, " T"]
    gold_log_probs: Float[Tensor, " T"]
    features: Float[Tensor, " D"]

    def to_bytes(self) -> bytes:
        """The member's content; the same lesson gives the same bytes."""
        return save(
            {
                "response_ids": self.response_ids.to(torch.int32).contiguous(),
                "written": torch.tensor([self.written]),
                "ids": self.ids.to(torch.int32).contiguous(),
                "log_probs": self.log_probs.to(torch.float16).contiguous(),
                "log_tail": self.log_tail.float().contiguous(),
                "gold_log_probs": self.gold_log_probs.float().contiguous(),
                "features": self.features.float().contiguous(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError where ``data`` is no lesson."""
        try:
            tensors = load(data)
            written = bool(tensors.pop("written").item())
            return cls(written=written, **tensors)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"not what a teacher wrote ({type(error).__name__})") from None


def stack(lessons: Sequence[Lesson | None], length: int) -> Teaching | None:
    """Lessons side by side, padded to ``length`` response tokens; None where there is none at all."""
    given = [lesson for lesson in lessons if lesson is not None]
    if not given:
        return None
    rows, k, width = len(lessons), max(lesson.ids.shape[1] for lesson in given), given[0].features.shape[0]
    ids = torch.zeros(rows, length, k, dtype=torch.long)
    log_probs = torch.zeros(rows, length, k)
    log_tail = torch.zeros(rows, length)
    features = torch.zeros(rows, width)
    mask: Bool[Tensor, "B T"] = torch.zeros(rows, length, dtype=torch.bool)
    written = torch.tensor([lesson is not None and lesson.written for lesson in lessons])
    for row, lesson in enumerate(lessons):
        if lesson is None:
            continue
        tokens = lesson.ids.shape[0]
        ids[row, :tokens] = lesson.ids.long()
        log_probs[row, :tokens] = lesson.log_probs.float()
        log_tail[row, :tokens] = lesson.log_tail
        features[row] = lesson.features
        mask[row, :tokens] = True
    return Teaching(ids=ids, log_probs=log_probs, log_tail=log_tail, features=features, mask=mask, written=written)
