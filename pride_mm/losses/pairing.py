"""Features compared pair by pair: what the maximum mean discrepancy, which knows no pairs, leaves open.

Letters: ``N`` rows, ``D`` and ``E`` widths.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pride_mm.precision import wide


def cka_loss(x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]) -> Float[Tensor, ""]:
    """One less the linear centred kernel alignment (Kornblith et al., 2019), which needs no projection.

    By the unbiased HSIC of Song et al. (2012): the plain one is near 1 for any features that are wider than the batch.
    It may be above 1. Fewer than four rows, or rows that are all alike, give zero with a gradient path.
    """
    rows = len(x)
    kind = wide(x, y)
    if rows < 4:
        return x[:0].sum() + y[:0].sum()
    with torch.autocast(x.device.type, enabled=False):
        mine, theirs = (part.to(kind) - part.to(kind).mean(0) for part in (x, y))
        # the size of features cancels out; taken out first, it cannot overflow
        mine, theirs = (part / part.detach().norm().clamp(min=1e-20) for part in (mine, theirs))
        ours, others = (_no_diagonal(part @ part.T) for part in (mine, theirs))
        across, own, other = _hsic(ours, others), _hsic(ours, ours), _hsic(others, others)
        if not (own > 0 and other > 0):
            return x[:0].sum() + y[:0].sum()
        return 1 - across / (own * other).sqrt()


def cosine_loss(x: Float[Tensor, "N D"], y: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """One less the mean cosine of each pair; zero with a gradient path for no rows."""
    if not len(x):
        return x.sum() + y.sum()
    kind = wide(x, y)
    return 1 - F.cosine_similarity(x.to(kind), y.to(kind), dim=-1).mean()


def _no_diagonal(kernel: Tensor) -> Tensor:
    return kernel - torch.diag(kernel.diagonal())


def _hsic(a: Tensor, b: Tensor) -> Tensor:
    """Times ``N (N - 3)``, which cancels out."""
    rows = len(a)
    both = (a * b).sum()
    apart = a.sum() * b.sum() / ((rows - 1) * (rows - 2))
    return both + apart - 2 / (rows - 2) * (a.sum(0) @ b.sum(0))
