"""Two real processes: the gradient of the whole batch, however its rows lie on the ranks."""

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

from pride_mm.head import Head
from pride_mm.losses.fused import fused_objective
from pride_mm.losses.mmd import mmd
from pride_mm.losses.ranks import across_ranks
from pride_mm.losses.teachers import SparseTeacher


def case():
    make = torch.Generator().manual_seed(0)
    rows, theirs, weight = (torch.randn(9, 5, generator=make, dtype=torch.float64) for _ in range(3))
    return rows, theirs + 0.5, weight[:5]


def mmd_of_parts(rank: int, share: list[range]) -> torch.Tensor:
    rows, theirs, weight = case()
    layer = nn.Linear(5, 5, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    wrapped = nn.parallel.DistributedDataParallel(layer)
    mine = list(share[rank])
    mmd(across_ranks(wrapped(rows[mine])), across_ranks(theirs[mine])).backward()
    return layer.weight.grad


def head_of_shards(_rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each rank holds half of a head's rows."""
    hidden, _, _ = case()
    full = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layer = nn.Linear(5, 8, bias=False, dtype=torch.float64)
    layer.weight = nn.Parameter(distribute_tensor(full, init_device_mesh("cpu", (2,)), [Shard(0)]))
    labels, mask = torch.arange(9) % 8, torch.ones(9, dtype=torch.bool)
    teacher = SparseTeacher.from_logits(torch.ones(9, 8, dtype=torch.float64).cumsum(1), 3)
    hidden.requires_grad_()
    fused_objective(hidden, Head.of(layer), labels, mask, teacher).total.backward()
    whole = layer.weight.grad.full_tensor()
    plain, states = full.clone().requires_grad_(), hidden.detach().clone().requires_grad_()
    fused_objective(states, Head(plain), labels, mask, teacher).total.backward()
    torch.testing.assert_close(hidden.grad, states.grad)
    return whole, plain.grad


def work(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    equal, uneven = (mmd_of_parts(rank, share) for share in ([range(0, 8, 2), range(1, 8, 2)], [range(2), range(2, 9)]))
    sharded, plain = head_of_shards(rank)
    if rank == 0:
        torch.save({"equal": equal, "uneven": uneven, "sharded": sharded, "plain": plain}, out)
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_have_the_gradients_of_the_whole(tmp_path):
    out = tmp_path / "out.pt"
    multiprocessing.spawn(work, (str(tmp_path / "store"), str(out)), nprocs=2)
    found = torch.load(out, weights_only=True)
    rows, theirs, weight = case()
    for name, index in (("equal", [*range(0, 8, 2), *range(1, 8, 2)]), ("uneven", range(9))):
        layer = weight.clone().requires_grad_()
        mmd(rows[list(index)] @ layer.T, theirs[list(index)]).backward()
        # each rank has the loss of all rows, and their mean is that loss
        torch.testing.assert_close(found[name], layer.grad, atol=1e-14, rtol=1e-12)
    # both ranks took the same rows through the head, whose gradient is theirs together
    ratio = found["sharded"] / found["plain"]
    torch.testing.assert_close(ratio, ratio.mean().round().expand_as(ratio))
