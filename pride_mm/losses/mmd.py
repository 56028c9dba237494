"""Maximum mean discrepancy: whether two sets of features have one distribution.

Letters: ``M`` and ``N`` rows, ``D`` width, ``B`` batch, ``T`` tokens. The unbiased estimate is zero in expectation
for equal distributions and may be negative (for one and the same set it is ``-2/N (1 - mean kernel)``): it is never
clamped. It compares marginals only and gives no pairing. Fewer than 32 pooled rows are mostly noise.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pride_mm.precision import wide

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
LARGE = 4096
"""Pooled rows from which on the kernel's matrix is not made any more."""


def mmd(x: Float[Tensor, "M D"], y: Float[Tensor, "N D"], scales: tuple[float, ...] = SCALES) -> Float[Tensor, ""]:
    """Unbiased squared MMD with a mean of RBF kernels.

    Bandwidths are ``scales`` times the median squared distance of the pooled rows (no gradient through it): the
    median of one side alone would let the gradient die when the sides differ in size. Float32 or wider, centred,
    autocast off: features with a few huge dimensions overflow or cancel otherwise. Fewer than two rows on
    a side give zero with a gradient path; ``LARGE`` or more in all are compared by ``mmd_by_features``.
    """
    if len(x) < 2 or len(y) < 2:
        return x[:0].sum() + y[:0].sum()
    if len(x) + len(y) >= LARGE:
        return mmd_by_features(x, y, scales=scales)
    kind = wide(x, y)
    with torch.autocast(x.device.type, enabled=False):
        pooled = torch.cat([x.to(kind), y.to(kind)])
        pooled = pooled - pooled.detach().mean(0)
        distances = _squared_distances(pooled)
        kernel = _kernel(distances, scales)
        m = len(x)
        return _mean_off_diagonal(kernel[:m, :m]) + _mean_off_diagonal(kernel[m:, m:]) - 2 * kernel[:m, m:].mean()


def mmd_by_features(
    x: Float[Tensor, "M D"],
    y: Float[Tensor, "N D"],
    count: int = 1000,
    scales: tuple[float, ...] = SCALES,
    seed: int = 0,
) -> Float[Tensor, ""]:
    """The same estimate through ``count`` random Fourier features (Rahimi and Recht, 2007), for thousands of rows.

    It costs ``(M + N) count`` where the kernel's matrix costs ``(M + N)^2``. Unbiased given the bandwidth, whose median
    is taken over at most 512 pooled rows.
    """
    if len(x) < 2 or len(y) < 2:
        return x[:0].sum() + y[:0].sum()
    kind = wide(x, y)
    with torch.autocast(x.device.type, enabled=False):
        pooled = torch.cat([x.to(kind), y.to(kind)])
        pooled = pooled - pooled.detach().mean(0)
        some = pooled.detach()[:: max(1, len(pooled) // 512)]
        median = _median(_squared_distances(some))
        make = torch.Generator().manual_seed(seed)
        # exp(-d^2 / (s median)) is the transform of a normal density with variance 2 / (s median)
        width = (2 / (torch.tensor(scales, dtype=kind, device=x.device) * median)).sqrt()
        width = width.repeat_interleave(-(-count // len(scales)))[:count]
        directions = torch.randn(pooled.shape[1], count, generator=make, dtype=kind).to(x.device) * width
        phases = torch.rand(count, generator=make, dtype=kind).to(x.device) * (2 * torch.pi)
        features = (pooled @ directions + phases).cos() * (2 / count) ** 0.5
        mine, theirs = features[: len(x)], features[len(x) :]
        return _mean_product(mine) + _mean_product(theirs) - 2 * mine.mean(0) @ theirs.mean(0)


def pooled_states(hidden: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """The mean state of each response, in float32 or wider; zero for an empty one."""
    kind = wide(hidden)
    kept = torch.where(mask[..., None], hidden.to(kind), 0.0)
    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _squared_distances(rows: Tensor) -> Tensor:
    squares = rows.square().sum(-1)
    return (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clamp(min=0.0)


def _kernel(distances: Tensor, scales: tuple[float, ...]) -> Tensor:
    median = _median(distances)
    return torch.stack([(-distances / (scale * median)).exp() for scale in scales]).mean(0)


@torch.no_grad()
def _median(distances: Tensor) -> Tensor:
    apart = torch.ones_like(distances, dtype=torch.bool).triu(1)
    median = distances[apart].median()
    # Rows that are all alike have no distance to measure by.
    return torch.where(median > 1e-20, median, 1.0)


def _mean_product(features: Tensor) -> Tensor:
    """The mean product of two different rows."""
    count = len(features)
    return (features.sum(0).square().sum() - features.square().sum()) / (count * (count - 1))


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
