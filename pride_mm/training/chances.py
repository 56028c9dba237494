"""Chance that belongs to a sample and a step, and not to where the sample stands in which batch.

So any split of a batch into parts and over ranks draws the same, resuming has no state to restore, and no other
random number depends on whether there are notes.
"""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Chances:
    """What is drawn for the samples of a batch: ``keys`` are theirs."""

    seed: int
    step: int
    keys: tuple[str, ...]

    def of(self, name: str) -> Float[Tensor, " B"]:
        """A number in [0, 1) for each sample; another ``name`` gives others."""
        return torch.tensor([_uniform(f"{self.seed} {self.step} {name} {key}") for key in self.keys])

    def rows(self, index: Int[Tensor, " R"]) -> "Chances":
        """Of the chosen rows."""
        return replace(self, keys=tuple(self.keys[row] for row in index.tolist()))


def _uniform(name: str) -> float:
    # 24 bits are what a float32 holds; more would round up to one
    return (int.from_bytes(hashlib.blake2b(name.encode(), digest_size=3).digest(), "big")) / 2**24
