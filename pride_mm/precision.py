"""The precision that sums and softmaxes are taken in, whatever the model is in."""

import functools

import torch
from torch import Tensor


def wide(*tensors: Tensor) -> torch.dtype:
    """float32, or the widest type of the tensors where that is wider."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
