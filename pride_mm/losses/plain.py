"""Divergences in plain form: what the fused kernel is held against, and what small cases may use.

Letters: ``N`` rows (response tokens), ``V`` vocabulary. Differentiable by autograd, and so
as large as ``(N, V)``; training uses ``pride_mm.losses.fused``. A batch without a single counted row
gives zero *with* a gradient path.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pride_mm.losses.divergence import REVERSE_KL, Divergence
from pride_mm.losses.teachers import LOWEST_LOG_MASS, SparseTeacher


def full_divergence(
    student_logits: Float[Tensor, "N V"],
    teacher_logits: Float[Tensor, "N V"],
    weights: Float[Tensor, " N"],
    temperature: float = 1.0,
    divergence: Divergence = REVERSE_KL,
) -> Float[Tensor, ""]:
    """The weighted mean over rows, times the square of the temperature.

    Args:
        student_logits: on the ids that both models share.
        teacher_logits: on the same ids; no gradient flows into them.
        weights: 0 where a row does not count; such rows are never looked at, so they may hold anything.
        temperature: both distributions are softmax(logits / temperature). The factor temperature^2
            keeps the size of the gradient (Hinton's rule).
        divergence: which.
    """
    rows = weights.nonzero().flatten()
    if not len(rows):
        return student_logits[:0].sum()
    student = (student_logits[rows] / temperature).log_softmax(-1)
    teacher = (teacher_logits[rows].detach() / temperature).log_softmax(-1)
    return temperature**2 * (weights[rows] * divergence.of(student, teacher)).sum() / weights[rows].sum()


def bucket_divergence(
    student_logits: Float[Tensor, "N V"],
    teacher: SparseTeacher,
    weights: Float[Tensor, " N"],
    divergence: Divergence = REVERSE_KL,
) -> Float[Tensor, ""]:
    """Against a sparse teacher, its tail as one outcome, at temperature 1; never above the full divergence.

    For reverse KL: ``sum_K p_s (log p_s - log p_t) + tail_s (log tail_s - log tail_t)``, the weighted mean over rows.
    """
    rows = weights.nonzero().flatten()
    if not len(rows):
        return student_logits[:0].sum()
    logits, teacher = student_logits[rows], teacher.rows(rows)
    ids = teacher.ids
    if divergence.name == "universal":
        ids = logits.topk(ids.shape[-1], -1).indices
    log_total = logits.logsumexp(-1)
    student, theirs = logits.gather(-1, ids) - log_total[:, None], teacher.log_probs
    if ids.shape[-1] < logits.shape[-1]:
        tail = logits.scatter(-1, ids, -torch.inf).logsumexp(-1) - log_total
        student = torch.cat([student, tail[:, None]], -1)
        theirs = torch.cat([theirs, teacher.log_tail[:, None].clamp(min=LOWEST_LOG_MASS)], -1)
    return (weights[rows] * divergence.of(student, theirs)).sum() / weights[rows].sum()
