"""Numbers that all ranks agree on."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: Mapping[str, float], device: torch.device, names: Sequence[str] = ()) -> dict[str, float]:
    """Each value summed over the ranks, in double precision.

    Args:
        values: the same names in the same order on each rank, or else some of ``names``.
        device: where the ranks' backend wants its tensors.
        names: those that there may be; what no rank has is left out.
    """
    if world() == 1:
        return dict(values)
    kinds = list(names or values)
    assert set(values) <= set(kinds), set(values) - set(kinds)
    found = [[values.get(name, 0.0) for name in kinds], [float(name in values) for name in kinds]]
    tensor = torch.tensor(found, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return {name: value for name, value, there in zip(kinds, *tensor.tolist(), strict=True) if there}
