"""What a model sees at once.

Letters: ``B`` batch, ``T`` text tokens, ``F`` frames, ``N`` audio samples, ``K`` teacher's top-k, ``D`` width.
Absent is absent: a missing value has a mask that is false throughout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """Values of a batch, padded to one shape, and where they are real.

    By kind: dialogue and text ``(B, T)`` token ids (a dialogue is padded on the left, so that the
    response follows it directly; other texts on the right); video ``(B, F, 3, H, W)`` uint8 with mask
    ``(B, F)``; audio ``(B, N)`` float32 with mask ``(B, N)``; choice and scale ``(B,)`` class numbers.
    """

    values: Tensor
    mask: Bool[Tensor, "B *rest"]

    @property
    def present(self) -> Bool[Tensor, " B"]:
        """Which rows have a value at all."""
        return self.mask if self.mask.dim() == 1 else self.mask.flatten(1).any(1)


@dataclass(frozen=True)
class Teaching:
    """What the teacher said of the responses of a batch: its most probable tokens, or the states that make all logits.

    ``log_tail`` is the log of the mass outside the top ``K``, in float32; it is stored, because it
    cannot be recovered from rounded log-probabilities. ``written`` marks the rows whose response is the
    teacher's own: they are distilled, but no cross-entropy takes them for an expert's word.
    """

    features: Float[Tensor, "B D"]
    mask: Bool[Tensor, "B T"]
    written: Bool[Tensor, " B"]
    ids: Int[Tensor, "B T K"] | None = None
    log_probs: Float[Tensor, "B T K"] | None = None
    log_tail: Float[Tensor, "B T"] | None = None
    states: Float[Tensor, "B T D"] | None = None


@dataclass(frozen=True)
class Batch:
    """Samples side by side. ``privileged``, ``teaching`` and ``asked`` exist in training only.

    ``asked`` is what a teacher that has read the notes is told before it scores the response.
    """

    keys: tuple[str, ...]
    inputs: Mapping[str, Padded]
    targets: Mapping[str, Padded]
    privileged: Mapping[str, Padded] | None = None
    teaching: Teaching | None = None
    asked: Padded | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        moved: Batch = move(self, device)
        return moved

    def pin_memory(self) -> "Batch":
        """The same batch in memory that a GPU copies from while it works; a loader calls this."""
        pinned: Batch = _mapped(self, lambda tensor: tensor.pin_memory())
        return pinned

    def rows(self, index: Int[Tensor, " R"]) -> "Batch":
        """The chosen rows."""
        chosen: Batch = _mapped(self, lambda tensor: tensor[index])
        return replace(chosen, keys=tuple(self.keys[row] for row in index.tolist()))

    def split(self, rows: int) -> list["Batch"]:
        """Parts of at most so many rows each."""
        return [self.rows(index) for index in torch.arange(len(self)).split(rows)]

    def without_privileged(self) -> "Batch":
        """The batch as it is at inference: nothing privileged and no teacher."""
        return replace(self, privileged=None, teaching=None, asked=None)


def move(value: Any, device: torch.device | str) -> Any:
    """Move tensors inside dataclasses and mappings to ``device``."""
    return _mapped(value, lambda tensor: tensor.to(device, non_blocking=True))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor inside dataclasses and mappings."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(entry, change) for name, entry in value.items()}
    if isinstance(value, Padded | Teaching | Batch):
        return type(value)(**{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value
