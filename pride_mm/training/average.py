"""The student's weights averaged over the steps: less noisy than the last ones (Polyak & Juditsky, 1992).

It is the average that is validated, chosen by, and shipped; training goes on with the weights themselves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pride_mm.student import Student
from pride_mm.training.sharding import alike

_PREFIX = "raw."


class Average:
    """An exponential moving average of what is trained of a student.

    Args:
        student: as it is trained.
        decay: the weight of what was before; nearer to one at each step, so that the start is soon forgotten.
    """

    def __init__(self, student: Student, decay: float) -> None:
        self.decay = decay
        self._parameters = {name: one for name, one in student.named_parameters() if one.requires_grad}
        self._mean = {name: one.detach().clone() for name, one in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self._mean[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def worn(self) -> Iterator[None]:
        """While the block lasts, the student has the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._mean[name])
            self._mean[name] = kept

    def tensors(self) -> dict[str, Tensor]:
        """The weights themselves, for a checkpoint whose student has the average; to be taken while it is worn."""
        return {_PREFIX + name: mean for name, mean in self._mean.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, after the student, which is the average, was put back."""
        for name, parameter in self._parameters.items():
            self._mean[name] = parameter.detach().clone()
            parameter.copy_(alike(tensors[_PREFIX + name], parameter))
