"""Pooled features of the last batches.

An MMD estimate from fewer than about 32 pooled responses is noise (its signal-to-noise ratio for a shift of
0.1 standard deviations is 0.5 at 8 and 1.9 at 32). Small batches therefore remember their predecessors:
the teacher's side is exact, the student's a few steps old and without gradient.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """The last ``size`` pairs of student ``(D,)`` and teacher ``(D,)`` features; part of a checkpoint."""

    student: Tensor
    teacher: Tensor
    filled: Tensor

    def __init__(self, size: int, width: int, teacher_width: int) -> None:
        super().__init__()
        self.register_buffer("student", torch.zeros(size, width))
        self.register_buffer("teacher", torch.zeros(size, teacher_width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def join(
        self, student: Float[Tensor, "B D"], teacher: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M E"]]:
        """The given features with the remembered ones after them."""
        count = int(self.filled)
        return torch.cat([student, self.student[:count]]), torch.cat([teacher, self.teacher[:count]])

    @torch.no_grad()
    def remember(self, student: Float[Tensor, "B D"], teacher: Float[Tensor, "B E"]) -> None:
        """Put the given features in front and let the oldest go."""
        size = self.student.shape[0]
        joined_student, joined_teacher = self.join(student.detach(), teacher)
        count = min(size, joined_student.shape[0])
        self.student[:count] = joined_student[:count].clone()
        self.teacher[:count] = joined_teacher[:count].clone()
        self.filled.fill_(count)
