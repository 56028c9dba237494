"""What a teacher says of each response token, in the three forms it comes in.

Letters: ``N`` rows (response tokens), ``V`` vocabulary, ``K`` the teacher's top k, ``E`` the teacher's width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pride_mm.data.batch import Teaching
from pride_mm.head import Head

# The smallest mass that float32 can hold, as a logarithm: a tail of exactly nothing is taken as this.
LOWEST_LOG_MASS = -87.0


@dataclass(frozen=True)
class SparseTeacher:
    """A teacher's distribution as its top ``K`` and one bucket for all the rest, at temperature 1.

    ``log_tail`` is the log of the mass outside the top ``K``, as cached: it cannot be recovered from rounded
    log-probabilities. Nothing is renormalised and nothing is cut off: both leave the student's mass
    outside the top ``K`` free. A divergence over the buckets is never above the one over the vocabulary.

    An id of -1 is a token of a teacher of another tokenizer that the student hasn't got: its mass is in ``log_tail``,
    and its own log-probability the lowest there is. Each row that counts has another one.
    """

    ids: Int[Tensor, "N K"]
    log_probs: Float[Tensor, "N K"]
    log_tail: Float[Tensor, " N"]

    @classmethod
    def from_teaching(cls, teaching: Teaching) -> "SparseTeacher":
        """The rows of a batch, ``(B, T)`` flattened."""
        assert teaching.ids is not None
        assert teaching.log_probs is not None
        assert teaching.log_tail is not None
        return cls(teaching.ids.flatten(0, 1), teaching.log_probs.flatten(0, 1), teaching.log_tail.flatten())

    @classmethod
    def from_logits(cls, logits: Float[Tensor, "N V"], k: int) -> "SparseTeacher":
        """The top ``k`` of full logits, with the tail by logsumexp over the rest."""
        log_probs = logits.log_softmax(-1)
        top, ids = log_probs.topk(k, dim=-1)
        return cls(ids, top, log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1))

    def rows(self, index: Int[Tensor, " M"]) -> "SparseTeacher":
        """The chosen rows."""
        return SparseTeacher(self.ids[index], self.log_probs[index], self.log_tail[index])


@dataclass(frozen=True)
class LogitsTeacher:
    """A teacher's logits, all of them: of an online teacher whose head makes them anyway."""

    values: Float[Tensor, "N V"]

    def rows(self, index: Int[Tensor, " M"]) -> "LogitsTeacher":
        """The chosen rows."""
        return LogitsTeacher(self.values[index])

    def logits(self, dtype: torch.dtype) -> Float[Tensor, "N V"]:
        """A copy of the logits, in ``dtype``."""
        return self.values.detach().to(dtype, copy=True)


@dataclass(frozen=True)
class StatesTeacher:
    """A teacher's last hidden states and its head: exact logits at a hundredth of their size."""

    states: Float[Tensor, "N E"]
    head: Head

    def rows(self, index: Int[Tensor, " M"]) -> "StatesTeacher":
        """The chosen rows."""
        return StatesTeacher(self.states[index], self.head)

    @torch.no_grad()
    def logits(self, dtype: torch.dtype) -> Float[Tensor, "N V"]:
        """The logits, rebuilt in ``dtype``."""
        return self.head.constant(dtype).logits(self.states.to(dtype))


DenseTeacher = LogitsTeacher | StatesTeacher
Teacher = SparseTeacher | DenseTeacher
