"""Rows of all ranks, with gradients that go back to where they came from.

Each rank on its own batch would compare other sets: the gradient of the mean of the ranks' discrepancies is half wrong
with two ranks. Gathered by autograd, each rank has the discrepancy of all rows; its gradient is
summed over ranks on the way back, and data parallelism takes the mean: exactly that of the whole batch.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def across_ranks(rows: Float[Tensor, "M D"]) -> Float[Tensor, "N D"]:
    """The rows of all ranks in the order of ranks, which may each have another number; as it is without ranks."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        world = dist.get_world_size()
        counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(world)]
        dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
        ctx.counts = [int(count) for count in counts]
        # collectives want equal shapes
        padded = rows.new_zeros(max(ctx.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        start = sum(ctx.counts[: dist.get_rank()])
        return summed[start : start + ctx.counts[dist.get_rank()]]
