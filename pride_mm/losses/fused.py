"""Cross-entropy and reverse KL of a language model's head in one pass, without its logits.

Letters: ``N`` rows (response tokens), ``D`` width, ``V`` vocabulary, ``K`` the teacher's top k, ``C`` rows in a chunk.

The head's product ``hidden @ weight.T`` is made for ``C`` rows at a time; the gradient is known in closed form and is
taken there and then, so that the backward pass only scales it. Never more than ``(C, V)`` is alive. Arithmetic is
float32 or wider whatever the inputs are, because reverse KL near the teacher loses its gradient in
half precision. Rows that no mask counts are not computed at all, and may hold anything.

Limits: no second derivative, one backward pass a call, and no head with a bias or a soft cap.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pride_mm.errors import UserError
from pride_mm.losses.reverse_kl import LOWEST_LOG_MASS, SparseTeacher


@dataclass(frozen=True)
class FusedLoss:
    """``total`` carries the gradient; the terms are values for the log, unweighted."""

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    reverse_kl: Float[Tensor, ""]


def fused_objective(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    labels: Int[Tensor, " N"],
    label_mask: Bool[Tensor, " N"],
    teaching: SparseTeacher | None = None,
    kd_mask: Bool[Tensor, " N"] | None = None,
    ce_weight: float = 1.0,
    kd_weight: float = 1.0,
    temperature: float = 1.0,
    chunk: int = 256,
    counts: tuple[float, float] | None = None,
) -> FusedLoss:
    """``ce_weight * CE + kd_weight * RKL``, each the mean over the rows that its mask counts.

    Args:
        hidden: the states that predict the labels.
        weight: the head; tied to an embedding or not, frozen or not.
        labels: the tokens; ignored where ``label_mask`` is false.
        label_mask: rows that count for the cross-entropy.
        teaching: the teacher's rows, or None for no distillation.
        kd_mask: rows that count for the reverse KL; ``label_mask`` where None.
        ce_weight: weight of the cross-entropy in ``total``.
        kd_weight: weight of the reverse KL in ``total``.
        temperature: only 1 fits a sparse teacher: its log-probabilities were taken at 1.
        chunk: rows at a time; more is faster and takes more memory.
        counts: what to divide the two sums by, instead of this batch's own rows: the counts over all
            micro-batches and ranks, for the gradient of the whole batch.

    Raises:
        UserError: a temperature other than 1.
    """
    if teaching is not None and temperature != 1.0:
        raise UserError(
            f"Temperature {temperature} does not fit a top-k cache, whose log-probabilities are at temperature 1: "
            "set the temperature to 1, or teach with full logits."
        )
    assert chunk > 0, chunk
    if teaching is None:
        kd_mask = torch.zeros_like(label_mask)
    elif kd_mask is None:
        kd_mask = label_mask
    total, cross_entropy, divergence = _Fused.apply(
        hidden, weight, labels, label_mask, teaching, kd_mask, (ce_weight, kd_weight), counts, chunk
    )
    return FusedLoss(total, cross_entropy, divergence)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        label_mask: Tensor,
        teaching: SparseTeacher | None,
        kd_mask: Tensor,
        weights: tuple[float, float],
        counts: tuple[float, float] | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        ce_count, kd_count = counts or (float(label_mask.sum()), float(kd_mask.sum()))
        # A batch without rows has a sum of zero: any count will do.
        ce_scale, kd_scale = weights[0] / max(ce_count, 1e-9), weights[1] / max(kd_count, 1e-9)
        rows = (label_mask | kd_mask).nonzero().flatten()
        grad_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        sums = hidden.new_zeros(2, dtype=wide)
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.detach().to(wide)
            for index in rows.split(chunk):
                states = hidden.detach()[index].to(wide)
                counted = label_mask[index].to(wide), kd_mask[index].to(wide)
                logits = states @ head.T
                teacher = None if teaching is None else teaching.rows(index)
                losses = _losses_and_gradient(logits, labels[index], counted, teacher, (ce_scale, kd_scale))
                sums += losses
                if grad_hidden is not None:
                    grad_hidden[index] = (logits @ head).to(hidden.dtype)
                if grad_weight is not None:
                    grad_weight.addmm_(logits.T, states)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        ctx.gradients = (grad_hidden, grad_weight)
        cross_entropy, divergence = sums[0] / max(ce_count, 1e-9), sums[1] / max(kd_count, 1e-9)
        total = weights[0] * cross_entropy + weights[1] * divergence
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return total, cross_entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("fused_objective keeps its gradient for one backward pass only")
        gradients, ctx.gradients = ctx.gradients, None
        # The tensors are ours alone, so they are scaled where they are.
        scaled = [None if gradient is None else gradient.mul_(grad_total.to(gradient.dtype)) for gradient in gradients]
        return (*scaled, None, None, None, None, None, None, None)


def _losses_and_gradient(
    logits: Tensor,
    labels: Tensor,
    counted: tuple[Tensor, Tensor],
    teacher: SparseTeacher | None,
    scales: tuple[float, float],
) -> Tensor:
    """The sums of the two losses; ``logits`` becomes the gradient of the scaled total in place."""
    for_labels, for_teacher = counted
    safe_labels = torch.where(for_labels.bool(), labels, 0)[:, None]
    highest = logits.amax(-1, keepdim=True)
    shifted_label = logits.gather(1, safe_labels) - highest
    masses = logits.sub_(highest).exp_()
    pull = scales[0] * for_labels
    if teacher is None:
        total = masses.sum(-1, keepdim=True)
        divergence = torch.zeros_like(for_labels)
        masses.mul_(pull[:, None] / total)
    else:
        total, divergence = _bucket(masses, teacher, pull, scales[1] * for_teacher)
    masses.scatter_add_(1, safe_labels, -pull[:, None])
    cross_entropy = (total.log() - shifted_label).squeeze(1)
    return torch.stack([(cross_entropy * for_labels).sum(), torch.where(for_teacher.bool(), divergence, 0).sum()])


def _bucket(masses: Tensor, teacher: SparseTeacher, pull: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Total mass and bucket reverse KL of each row; ``masses`` becomes the gradient, but for the label's own part.

    With r = log p_s - log p_t, the gradient of the bucket form is ``p_s (r - loss)``, r being one number in the tail.
    Rows that the teacher does not count may hold anything, so they are made harmless before any product.
    """
    on = (strength != 0)[:, None]
    teacher_log = torch.where(on, teacher.log_probs.to(masses.dtype), 0.0)
    teacher_tail = torch.where(on[:, 0], teacher.log_tail.to(masses.dtype), 0.0).clamp(min=LOWEST_LOG_MASS)[:, None]
    ids = torch.where(on, teacher.ids, torch.arange(teacher.ids.shape[1], device=masses.device))
    inside = masses.gather(1, ids)
    # The tail is summed by itself: one minus the rest would cancel.
    tail = masses.scatter_(1, ids, 0.0).sum(-1, keepdim=True)
    total = inside.sum(-1, keepdim=True) + tail
    tiny = torch.finfo(masses.dtype).tiny
    inside_prob, tail_prob = inside / total, tail / total
    inside_ratio = inside_prob.clamp(min=tiny).log() - teacher_log
    tail_ratio = tail_prob.clamp(min=tiny).log() - teacher_tail
    divergence = (inside_prob * inside_ratio).sum(-1, keepdim=True) + tail_prob * tail_ratio
    force = strength[:, None]
    masses.mul_((pull[:, None] + force * (tail_ratio - divergence)) / total)
    masses.scatter_(1, ids, inside_prob * (pull[:, None] + force * (inside_ratio - divergence)))
    return total, divergence.squeeze(1)
