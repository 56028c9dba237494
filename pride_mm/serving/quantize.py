"""A smaller artifact: half-width weights in the file, int8 products in memory.

``int8`` keeps plain weights in the file, which ``transformers`` loads as any others, and quantises the backbone's
linear layers and its head when an artifact is opened: weights by row, activations as they come. That is for a CPU.
Whether it is worth it depends on the machine; ``benchmarks.serve`` measures it.
"""

import warnings
from typing import Literal, get_args

import torch
from torch import nn

from pride_mm.errors import UserError
from pride_mm.student import Student

Width = Literal["float32", "bfloat16"]
Quantization = Literal["none", "int8"]


def narrow(student: Student, width: str) -> Student:
    """The student with weights of this width; raises UserError for another than ``Width``."""
    if width not in get_args(Width):
        raise UserError(f"No width '{width}' of weights: choose one of {', '.join(get_args(Width))}.")
    dtype: torch.dtype = getattr(torch, width)
    for config in (student.config, student.config.get_text_config(), student.backbone.config):
        config.dtype = dtype
    return student.to(dtype)


def check_quantization(name: str) -> None:
    """Raises UserError for another than ``Quantization``."""
    if name not in get_args(Quantization):
        raise UserError(f"No quantization '{name}': choose one of {', '.join(get_args(Quantization))}.")


def quantize(student: Student, device: torch.device | str) -> Student:
    """The student with int8 products in its backbone.

    Raises:
        UserError: the device is no CPU, or this build of PyTorch has no int8.
    """
    if torch.device(device).type != "cpu":
        raise UserError(f"This artifact was exported with int8, which answers on a CPU and not on '{device}'.")
    if torch.backends.quantized.engine == "none":
        raise UserError("This PyTorch has no int8 on this machine: export the run again without --quantize.")
    with warnings.catch_warnings():
        # PyTorch goes over to torchao, which it doesn't come with; our torch is pinned to one that has both.
        warnings.filterwarnings("ignore", message="torch.ao.quantization is deprecated")
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        quantize_dynamic(student.float().backbone, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
    return student
