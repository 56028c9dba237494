"""Cross-entropy and a divergence to the teacher through a language model's head in one pass, without its logits.

Letters: ``N`` rows (response tokens), ``D`` width, ``V`` vocabulary, ``C`` rows in a chunk.

The head's product is made for ``C`` rows at a time; the gradient is known in closed form and is
taken there and then, so that the backward pass only scales it. Never more than a few ``(C, V)`` are alive.
Arithmetic is float32 or wider whatever the inputs are, because reverse KL near the teacher loses its gradient in
half precision. Rows that no mask counts are not computed at all, and may hold anything.

Limits: no second derivative, and one backward pass a call.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pride_mm.errors import UserError
from pride_mm.head import Head
from pride_mm.losses.divergence import REVERSE_KL, Divergence
from pride_mm.losses.teachers import LOWEST_LOG_MASS, SparseTeacher, StatesTeacher, Teacher
from pride_mm.precision import wide


@dataclass(frozen=True)
class FusedLoss:
    """``total`` carries the gradient; the terms are values for the log, unweighted."""

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    divergence: Float[Tensor, ""]


@dataclass(frozen=True)
class _Task:
    """All that is no parameter: what is asked for, and of which rows."""

    head: Head
    labels: Tensor
    label_mask: Tensor
    kd_mask: Tensor
    teacher: Teacher | None
    divergence: Divergence
    weights: tuple[float, float]
    temperature: float
    counts: tuple[float, float]
    chunk: int

    @property
    def strengths(self) -> tuple[float, float]:
        """What a row's two losses weigh in the total; a batch without rows has a sum of zero, so any count will do."""
        return self.weights[0] / max(self.counts[0], 1e-9), self.weights[1] / max(self.counts[1], 1e-9)


def fused_objective(
    hidden: Float[Tensor, "N D"],
    head: Head,
    labels: Int[Tensor, " N"],
    label_mask: Bool[Tensor, " N"],
    teacher: Teacher | None = None,
    kd_mask: Bool[Tensor, " N"] | None = None,
    divergence: Divergence = REVERSE_KL,
    ce_weight: float = 1.0,
    kd_weight: float = 1.0,
    temperature: float = 1.0,
    chunk: int = 256,
    counts: tuple[float, float] | None = None,
) -> FusedLoss:
    """``ce_weight * CE + kd_weight * T^2 * divergence``, each the mean over the rows that its mask counts.

    Args:
        hidden: the states that predict the labels.
        head: makes logits of them; its parameters get gradients where they want them.
        labels: the tokens; ignored where ``label_mask`` is false.
        label_mask: rows that count for the cross-entropy.
        teacher: the teacher's rows, or None for no distillation.
        kd_mask: rows that count for the divergence; ``label_mask`` where None.
        divergence: reverse KL, or another.
        ce_weight: weight of the cross-entropy in ``total``.
        kd_weight: weight of the divergence in ``total``.
        temperature: T; both distributions are softmax(logits / T), and T^2 keeps the size of the gradient
            (Hinton's rule). The cross-entropy has none. Only 1 fits a sparse teacher.
        chunk: rows at a time; more is faster and takes more memory.
        counts: what to divide the two sums by, instead of this batch's own rows: the counts over all
            micro-batches and ranks, for the gradient of the whole batch.

    Raises:
        UserError: a temperature that does not fit, or a teacher with another number of ids.
    """
    if isinstance(teacher, SparseTeacher) and temperature != 1.0:
        raise UserError(
            f"Temperature {temperature} does not fit a top-k cache, whose log-probabilities are at temperature 1: "
            "set the temperature to 1, or teach with hidden states (pride teach --top-k 0)."
        )
    if divergence.name == "universal" and teacher is not None and not isinstance(teacher, SparseTeacher):
        raise UserError("The universal divergence compares the likeliest tokens: give it a top-k, or choose another.")
    assert chunk > 0, chunk
    assert temperature > 0, temperature
    if teacher is None:
        kd_mask = torch.zeros_like(label_mask)
    elif kd_mask is None:
        kd_mask = label_mask
    counts = counts or (float(label_mask.sum()), float(kd_mask.sum()))
    task = _Task(
        head, labels, label_mask, kd_mask, teacher, divergence, (ce_weight, kd_weight), temperature, counts, chunk
    )
    low = head.adapter
    parameters = head.weight, head.bias, None if low is None else low.down, None if low is None else low.up
    return FusedLoss(*_Fused.apply(task, hidden, *parameters))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task: _Task, hidden: Tensor, *parameters: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kind = wide(hidden)
        rows = (task.label_mask | task.kd_mask).nonzero().flatten()
        sums = hidden.new_zeros(2, dtype=kind)
        with torch.autocast(hidden.device.type, enabled=False):
            head, teacher = task.head.constant(kind), task.teacher
            if isinstance(teacher, StatesTeacher):
                teacher = replace(teacher, head=teacher.head.constant(kind))
            _fitting(head, teacher)
            task = replace(task, teacher=teacher)
            gradients = _Gradients(head, hidden, parameters, ctx.needs_input_grad[1:], kind)
            room = torch.empty(min(task.chunk, len(rows)), head.ids, dtype=kind, device=hidden.device)
            for index in rows.split(task.chunk):
                states = hidden.detach()[index].to(kind)
                logits, slope = _logits(head, states, room[: len(index)])
                sums += _losses_and_gradient(logits, task, index)
                gradients.add(index, states, logits if slope is None else logits.mul_(slope))
        ctx.gradients = gradients.done()
        cross_entropy, divergence = (total / max(count, 1e-9) for total, count in zip(sums, task.counts, strict=True))
        total = task.weights[0] * cross_entropy + task.weights[1] * divergence
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return total, cross_entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("fused_objective keeps its gradient for one backward pass only")
        gradients, ctx.gradients = ctx.gradients, None
        # The tensors are ours alone, so they are scaled where they are.
        return None, *(None if one is None else one.mul_(grad_total.to(one.dtype)) for one in gradients)


class _Gradients:
    """The sums of the gradients for the states and the head's parameters, in the wide type."""

    def __init__(
        self,
        head: Head,
        hidden: Tensor,
        parameters: tuple[Tensor | None, ...],
        needed: tuple[bool, ...],
        kind: torch.dtype,
    ) -> None:
        self._head, self._given = head, (hidden, *parameters)
        self._hidden = torch.zeros_like(hidden) if needed[0] else None
        self._weight, self._bias, self._down, self._up = (
            torch.zeros_like(parameter, dtype=kind) if parameter is not None and need else None
            for parameter, need in zip(parameters, needed[1:], strict=True)
        )

    def add(self, index: Tensor, states: Tensor, by_logits: Tensor) -> None:
        """Add a chunk's, given the gradient for its logits before scale and cap; that is used up."""
        head, low = self._head, self._head.adapter
        if head.scale != 1.0:
            by_logits.mul_(head.scale)
        if self._weight is not None:
            self._weight[: head.ids].addmm_(by_logits.T, states)
        if self._bias is not None:
            self._bias[: head.ids].add_(by_logits.sum(0))
        through = None if low is None else (by_logits @ low.up).mul_(low.scale)
        if low is not None and self._up is not None:
            self._up[: head.ids].addmm_(by_logits.T, states @ low.down.T, alpha=low.scale)
        if through is not None and self._down is not None:
            self._down.addmm_(through.T, states)
        if self._hidden is not None:
            by_states = by_logits @ head.weight
            if low is not None and through is not None:
                by_states.addmm_(through, low.down)
            self._hidden[index] = by_states.to(self._hidden.dtype)

    def done(self) -> tuple[Tensor | None, ...]:
        """For the states and each parameter, in their own types."""
        sums = self._hidden, self._weight, self._bias, self._down, self._up
        return tuple(
            None if one is None or given is None else one.to(given.dtype)
            for one, given in zip(sums, self._given, strict=True)
        )


def _fitting(head: Head, teacher: Teacher | None) -> None:
    if teacher is None or isinstance(teacher, SparseTeacher):
        return
    theirs = teacher.head.ids if isinstance(teacher, StatesTeacher) else teacher.values.shape[1]
    if theirs != head.ids:
        raise UserError(
            f"The teacher's head has {theirs} ids and the student's {head.ids}: cut both to those of the tokenizer "
            "that they share (Head's vocabulary)."
        )


def _logits(head: Head, states: Tensor, room: Tensor) -> tuple[Tensor, Tensor | None]:
    """The logits, in ``room``, and their slope where they are capped."""
    logits = torch.mm(states, head.weight.T, out=room)
    if head.bias is not None:
        logits.add_(head.bias)
    if head.adapter is not None:
        logits.addmm_(states @ head.adapter.down.T, head.adapter.up.T, alpha=head.adapter.scale)
    if head.scale != 1.0:
        logits.mul_(head.scale)
    if head.soft_cap is None:
        return logits, None
    logits.div_(head.soft_cap).tanh_()
    slope = 1 - logits.square()
    return logits.mul_(head.soft_cap), slope


def _losses_and_gradient(logits: Tensor, task: _Task, index: Tensor) -> Tensor:
    """The sums of the two losses; ``logits`` becomes the gradient of the weighted total in place."""
    for_labels, for_teacher = task.label_mask[index], task.kd_mask[index]
    label = torch.where(for_labels, task.labels[index], 0)[:, None]
    pull = task.strengths[0] * for_labels.to(logits.dtype)
    force = task.strengths[1] * for_teacher.to(logits.dtype)
    teacher = None if task.teacher is None else task.teacher.rows(index)
    if teacher is None:
        cross_entropy, divergence = _labels(logits, label, pull), torch.zeros_like(pull)
    elif isinstance(teacher, SparseTeacher):
        cross_entropy, divergence = _buckets(logits, label, pull, teacher, task.divergence, force)
    else:
        cross_entropy, divergence = _whole(logits, label, pull, teacher, task, force)
    return torch.stack([torch.where(for_labels, cross_entropy, 0).sum(), torch.where(for_teacher, divergence, 0).sum()])


def _labels(logits: Tensor, label: Tensor, pull: Tensor) -> Tensor:
    """The cross-entropy of each row; ``logits`` becomes its gradient, times ``pull``."""
    highest = logits.amax(-1, keepdim=True)
    shifted_label = logits.gather(1, label) - highest
    masses = logits.sub_(highest).exp_()
    total = masses.sum(-1, keepdim=True)
    masses.mul_(pull[:, None] / total).scatter_add_(1, label, -pull[:, None])
    return (total.log() - shifted_label).squeeze(1)


def _whole(
    logits: Tensor, label: Tensor, pull: Tensor, teacher: Any, task: _Task, force: Tensor
) -> tuple[Tensor, Tensor]:
    """Both losses of each row, against a teacher over the whole vocabulary."""
    theirs = teacher.logits(logits.dtype)
    off = force == 0
    if bool(off.any()):
        theirs.masked_fill_(off[:, None], 0.0)
    hot = task.temperature
    for_labels = None
    if hot != 1.0:
        for_labels = logits.clone()
        cross_entropy = _labels(for_labels, label, pull)
        logits.div_(hot)
        theirs.div_(hot)
    _log_softmax_(theirs)
    _log_softmax_(logits)
    if for_labels is None:
        cross_entropy = -logits.gather(1, label).squeeze(1)
    masses, slope, divergence = task.divergence.take(logits, theirs)
    # (p u - p sum(p u)) force, and p pull for the labels
    inward = (pull if for_labels is None else 0.0) - hot * force * slope.sum(-1)
    gradient = masses.mul_(inward[:, None]).add_(slope.mul_((hot * force)[:, None]))
    if for_labels is None:
        gradient.scatter_add_(1, label, -pull[:, None])
    else:
        gradient.add_(for_labels)
    return cross_entropy, hot**2 * divergence


def _log_softmax_(logits: Tensor) -> None:
    torch.log_softmax(logits, -1, out=logits)


def _buckets(
    logits: Tensor, label: Tensor, pull: Tensor, teacher: SparseTeacher, divergence: Divergence, force: Tensor
) -> tuple[Tensor, Tensor]:
    """Both losses of each row, against a teacher's top ``K`` and its tail as one outcome.

    Rows that the teacher does not count may hold anything, so they are made harmless before any product.
    """
    on = (force != 0)[:, None]
    teacher_log = torch.where(on, teacher.log_probs.to(logits.dtype), 0.0)
    teacher_tail = torch.where(on[:, 0], teacher.log_tail.to(logits.dtype), 0.0).clamp(min=LOWEST_LOG_MASS)[:, None]
    ids = torch.where(on, teacher.ids, torch.arange(teacher.ids.shape[1], device=logits.device))
    if divergence.name == "universal":
        ids = logits.topk(ids.shape[1], -1).indices
    absent = ids < 0
    ids = torch.where(absent, ids.amax(-1, keepdim=True), ids)  # one that is there: nothing is added to it
    highest = logits.amax(-1, keepdim=True)
    shifted_label = logits.gather(1, label) - highest
    inside = torch.where(absent, LOWEST_LOG_MASS, logits.gather(1, ids) - highest)
    masses = logits.sub_(highest).exp_()
    inside_mass = inside.exp()
    # The tail is summed by itself: one minus the rest would cancel.
    tail = masses.scatter_(1, ids, 0.0).sum(-1, keepdim=True)
    total = inside_mass.sum(-1, keepdim=True) + tail
    safe_tail = tail.clamp(min=1e-30)
    log_p = torch.cat([inside, safe_tail.log()], 1) - total.log()
    p, slope, losses = divergence.take(log_p, torch.cat([teacher_log, teacher_tail], 1))
    inward = pull[:, None] - force[:, None] * slope.sum(-1, keepdim=True)
    # within the tail, the slope is shared as the mass is
    masses.mul_(inward / total + force[:, None] * slope[:, -1:] / safe_tail)
    masses.scatter_add_(1, ids, p[:, :-1] * inward + force[:, None] * slope[:, :-1])
    masses.scatter_add_(1, label, -pull[:, None])
    return (total.log() - shifted_label).squeeze(1), losses
