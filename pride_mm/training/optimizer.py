"""The optimiser, and how its rates go over a run."""

import math

import torch

from pride_mm.training.distillation import Distillation
from pride_mm.training.settings import OptimSettings


def build_optimizer(distillation: Distillation, optim: OptimSettings) -> torch.optim.AdamW:
    """AdamW in two groups: the backbone at ``lr``, what starts from nothing at ``fresh_lr``."""
    backbone = {id(parameter) for parameter in distillation.student.backbone.parameters()}
    trained = [parameter for parameter in distillation.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in backbone], "lr": optim.lr},
        {"params": [p for p in trained if id(p) not in backbone], "lr": optim.fresh_lr},
    ]
    return torch.optim.AdamW(groups, weight_decay=optim.weight_decay, fused=True)


def rate(optim: OptimSettings, total: int, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    warmup = min(optim.warmup, max(1, total // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
