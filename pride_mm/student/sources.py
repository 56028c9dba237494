"""What a student has read of its inputs, and what it makes of a response.

Letters: ``B`` batch, ``T`` tokens of the response, ``L`` tokens of context and response, ``S`` sources, ``K`` latents
a source, ``M = S K``, ``D`` width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pride_mm.student.config import PREDICTED

Read = Callable[[Float[Tensor, "B L D"]], Float[Tensor, "B L D"]]


@dataclass(frozen=True)
class Sources:
    """What the text attends to: each source's latents in the order of ``names``, and where they are real."""

    latents: Float[Tensor, "B M D"]
    mask: Bool[Tensor, "B M"]
    names: tuple[str, ...]

    def of(self, name: str) -> Float[Tensor, "B K D"]:
        """The latents of one source."""
        return self.latents.unflatten(1, (len(self.names), -1))[:, self.names.index(name)]

    def present(self, name: str) -> Bool[Tensor, " B"]:
        """Which rows have the source."""
        return self.mask.unflatten(1, (len(self.names), -1))[:, self.names.index(name)].any(1)

    def rows(self, index: Int[Tensor, " R"]) -> "Sources":
        """The chosen rows."""
        return Sources(self.latents[index], self.mask[index], self.names)

    def with_notes(self, latents: Float[Tensor, "B K D"], present: Bool[Tensor, " B"], name: str) -> "Sources":
        """One more source, which training may add and nothing else can; it brings its own mark."""
        mask = torch.cat([self.mask, present[:, None].expand(-1, latents.shape[1])], 1)
        return Sources(torch.cat([self.latents, latents.to(self.latents.dtype)], 1), mask, (*self.names, name))

    def with_predicted(self, latents: Float[Tensor, "B K D"]) -> "Sources":
        """Other latents in the place of those that are predicted."""
        parts = [latents.to(self.latents.dtype) if name == PREDICTED else self.of(name) for name in self.names]
        return Sources(torch.cat(parts, 1), self.mask, self.names)

    @property
    def predicted(self) -> Float[Tensor, "B K D"]:
        """z_p: the privileged latents as read off the dialogue and the other sources."""
        return self.of(PREDICTED)


@dataclass(frozen=True)
class StudentOutput:
    """What the student makes of a response.

    ``hidden`` are the states that predict each token of the response (the last is the one before its last token): times
    ``Student.head`` they are logits, which are never built here. ``logits`` are the heads', by target field.
    ``attention`` is the mass on each source, averaged over heads and real tokens of context and response; what
    is missing to one is the mass on no source.
    """

    hidden: Float[Tensor, "B T D"]
    logits: dict[str, Float[Tensor, "B _"]]
    sources: Sources
    attention: Float[Tensor, "B S"]
