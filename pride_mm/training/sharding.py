"""Weights, gradients and moments spread over the ranks, each layer put together where it is used (FSDP2).

Zhao et al., 2023, arXiv 2304.11277; with DTensor, as PyTorch does it now. Ranks that share weights ask for them
equally often: whoever calls the model sees to it that each makes as many passes as the others.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def spread(model: nn.Module, layers: Iterable[nn.Module], ignored: set[nn.Parameter], device: torch.device) -> None:
    """Spread a model over all ranks: each of its ``layers`` by itself, what is left as one; but not what is ignored."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=ignored)


def layers(backbone: nn.Module, depth: int) -> nn.ModuleList:
    """Those of a language model, each of which is spread by itself."""
    lists = (one for one in backbone.modules() if isinstance(one, nn.ModuleList) and len(one) == depth)
    return next(lists)


def is_spread(tensor: object) -> bool:
    """Whether this rank has a part of it only."""
    return isinstance(tensor, DTensor)


def reached(total: Tensor) -> set[int]:
    """The parameters that a loss depends on, by ``id``."""
    nodes, seen, found = [total.grad_fn], set(), set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.add(id(variable))
        nodes += [following for following, _ in node.next_functions]
    return found


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors put together, on all ranks, which call this at once; what shares memory goes on doing so."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    found = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            found[name] = tensor
            continue
        part = tensor.to_local()
        place = part.data_ptr(), tensor.shape
        if place not in made or not part.numel():  # empty parts lie nowhere, and everything is somebody's
            made[place] = tensor.full_tensor()
        found[name] = made[place]
    return found


def alike(tensor: Tensor, other: Any) -> Tensor:
    """The same tensor, spread as the other one is; all ranks have it, and call this at once."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
