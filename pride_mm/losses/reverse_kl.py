"""Reverse KL in plain form: what the fused kernel is held against, and what small cases may use.

Letters: ``N`` rows (response tokens), ``V`` vocabulary, ``K`` the teacher's top k. Differentiable by autograd, and so
as large as ``(N, V)``; training uses ``pride_mm.losses.fused``. A batch without a single counted row
gives zero *with* a gradient path.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pride_mm.data.batch import Teaching

# The smallest mass that float32 can hold, as a logarithm: a tail of exactly nothing is taken as this.
LOWEST_LOG_MASS = -87.0


@dataclass(frozen=True)
class SparseTeacher:
    """A teacher's distribution as its top ``K`` and one bucket for all the rest, at temperature 1.

    ``log_tail`` is the log of the mass outside the top ``K``, as cached: it cannot be recovered from rounded
    log-probabilities. Nothing is renormalised and nothing is cut off: both leave the student's mass
    outside the top ``K`` free.
    """

    ids: Int[Tensor, "N K"]
    log_probs: Float[Tensor, "N K"]
    log_tail: Float[Tensor, " N"]

    @classmethod
    def from_teaching(cls, teaching: Teaching) -> "SparseTeacher":
        """The rows of a batch, ``(B, T)`` flattened."""
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


def reverse_kl(
    student_logits: Float[Tensor, "N V"],
    teacher_logits: Float[Tensor, "N V"],
    weights: Float[Tensor, " N"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """``KL(student || teacher)``, the weighted mean over rows, times the square of the temperature.

    Args:
        student_logits: on the ids that both models share.
        teacher_logits: on the same ids; no gradient flows into them.
        weights: 0 where a row does not count; such rows are never looked at, so they may hold anything.
        temperature: both distributions are softmax(logits / temperature). The factor temperature^2
            keeps the size of the gradient (Hinton's rule).
    """
    rows = weights.nonzero().flatten()
    if not len(rows):
        return student_logits[:0].sum()
    student = (student_logits[rows] / temperature).log_softmax(-1)
    teacher = (teacher_logits[rows].detach() / temperature).log_softmax(-1)
    divergence = _expected(student, student - teacher).sum(-1)
    return temperature**2 * (weights[rows] * divergence).sum() / weights[rows].sum()


def bucket_reverse_kl(
    student_logits: Float[Tensor, "N V"], teacher: SparseTeacher, weights: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Reverse KL against a sparse teacher, its tail as one bucket; never above the full reverse KL.

    ``sum_K p_s (log p_s - log p_t) + tail_s (log tail_s - log tail_t)``, the weighted mean over rows, at temperature 1.
    """
    rows = weights.nonzero().flatten()
    if not len(rows):
        return student_logits[:0].sum()
    logits, teacher = student_logits[rows], teacher.rows(rows)
    log_total = logits.logsumexp(-1)
    inside = logits.gather(-1, teacher.ids) - log_total[:, None]
    divergence = _expected(inside, inside - teacher.log_probs).sum(-1)
    if teacher.ids.shape[-1] < logits.shape[-1]:
        tail = logits.scatter(-1, teacher.ids, -torch.inf).logsumexp(-1) - log_total
        divergence = divergence + _expected(tail, tail - teacher.log_tail.clamp(min=LOWEST_LOG_MASS))
    return (weights[rows] * divergence).sum() / weights[rows].sum()


def _expected(log_mass: Tensor, value: Tensor) -> Tensor:
    """``exp(log_mass) * value``, nothing where there is no mass."""
    empty = log_mass == -torch.inf
    return log_mass.exp() * value.masked_fill(empty, 0.0)
