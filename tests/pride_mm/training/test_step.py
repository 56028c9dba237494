"""The gradient of a step: the same however its batch is split, and whoever takes which part."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pride_mm.data.batch import Batch, Padded
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import ShardSet
from pride_mm.losses.alignment import DualAlignment
from pride_mm.schema import Role
from pride_mm.student import Student
from pride_mm.student.backbone import load_backbone
from pride_mm.training.distillation import Distillation
from pride_mm.training.settings import RunSettings
from pride_mm.training.step import take_gradient

ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
EVERY_TERM = {"privileged": 0.5, "consistency": 0.4, "cka": 0.2, "cosine": 0.3}


def read_batch(folder: Path, model: Path) -> tuple[ShardSet, Any, Batch]:
    shards = ShardSet.open(folder)
    backbone, tokenizer = load_backbone(model)
    samples = shards.samples("train", ROLES, teacher=True)[:9]
    batch = Collator(InputCollator(shards.schema, tokenizer, "", 96), 12, 16)(samples)
    # one row without a response and one that the teacher has not spoken on, so that parts count unequally
    response = batch.targets["response"]
    response.mask[1] = False
    batch.teaching.mask[4] = False
    return shards, backbone, batch


def build(shards: ShardSet, backbone: Any, **weights: Any) -> Distillation:
    torch.manual_seed(3)
    student = Student.from_backbone(backbone, shards.schema, 2, latents=4).double()
    with torch.no_grad():
        student.attention.gate.fill_(0.5)
    module = Distillation(student, shards.schema, RunSettings(name="t", loss=DualAlignment(**weights)), 64).double()
    if module.path is not None:
        torch.nn.init.constant_(module.path.attention.gate, 0.5)
    return module.train()


def wide(batch: Batch) -> Batch:
    """Sound in float64, as the network is."""
    inputs = {
        name: Padded(given.values.double() if given.values.is_floating_point() else given.values, given.mask)
        for name, given in batch.inputs.items()
    }
    return replace(batch, inputs=inputs)


def gradient_of(
    module: Distillation, batch: Batch, at_once: int | None, model: Any = None
) -> tuple[dict[str, Any], torch.Tensor]:
    terms = take_gradient(module, batch, 0.3, 7, at_once, model=model)
    flat = [p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in module.parameters()]
    return {name: float(term) for name, term in terms.items()}, torch.cat(flat)


@pytest.fixture(scope="module")
def given(taught: Path, small_model: Path) -> tuple[ShardSet, Any, Batch]:
    shards, backbone, batch = read_batch(taught, small_model)
    return shards, backbone, wide(batch)


@pytest.fixture(scope="module")
def whole(given: Any) -> tuple[dict[str, Any], torch.Tensor]:
    shards, backbone, batch = given
    return gradient_of(build(shards, backbone, **EVERY_TERM), batch, None)


@pytest.mark.parametrize("at_once", [1, 2, 4, 9])
def test_parts_add_up_to_the_whole(given, whole, at_once):
    shards, backbone, batch = given
    terms, gradient = gradient_of(build(shards, backbone, **EVERY_TERM), batch, at_once)
    assert terms == pytest.approx(whole[0], rel=1e-6, abs=1e-9)
    assert {"mmd", "cka", "cosine", "prior", "privileged", "consistency", "heads", "reverse_kl"} < set(terms)
    assert float((gradient - whole[1]).norm() / whole[1].norm()) < 1e-6


def test_the_queue_remembers_the_same(given):
    shards, backbone, batch = given
    one, other = (build(shards, backbone, **EVERY_TERM) for _ in range(2))
    gradient_of(one, batch, None)
    gradient_of(other, batch, 2)
    assert int(one.queue.filled) == int(other.queue.filled) == 8
    torch.testing.assert_close(one.queue.student, other.queue.student)


def test_norms_are_of_each_term_and_leave_everything_as_it_was(given):
    shards, backbone, batch = given
    module = build(shards, backbone, **EVERY_TERM)
    norms = module.gradient_norms(batch, 0.3, 7)
    assert set(norms) == {"ce", "kd", "mmd", "cka", "cosine", "heads", "prior", "privileged", "consistency"}
    assert all(norm > 0 for norm in norms.values())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert int(module.queue.filled) == 0
    alone = build(shards, backbone, mmd=0, prior=0, heads=0, kd=0)
    gradient = gradient_of(alone, batch, None)[1]
    assert norms["ce"] == pytest.approx(float(gradient.norm()), rel=1e-6)


def take_share(rank: int, folder: Path, model: Path, store: Path) -> None:
    """Of nine rows the first rank has five, and takes them two at a time; then all at once, wrapped as for training."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    shards, backbone, batch = read_batch(folder, model)
    mine = wide(batch).rows(torch.arange(5) if rank == 0 else torch.arange(5, 9))
    terms, gradient = gradient_of(build(shards, backbone, **EVERY_TERM), mine, 2 if rank == 0 else None)
    dist.all_reduce(gradient)  # data parallelism takes the mean
    module = build(shards, backbone, **EVERY_TERM)
    wrapped = DistributedDataParallel(module, find_unused_parameters=True)
    _, by_wrapper = gradient_of(module, mine, None, wrapped)
    found = {"terms": terms, "gradient": gradient / 2, "by_wrapper": by_wrapper}
    torch.save(found, store.parent / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_have_the_gradient_of_the_whole(given, whole, taught, small_model, tmp_path):
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=take_share, args=(rank, taught, small_model, tmp_path / "store")) for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
        assert rank.exitcode == 0
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for gradient in (found[0]["gradient"], found[0]["by_wrapper"], found[1]["by_wrapper"]):
        assert float((gradient - whole[1]).norm() / whole[1].norm()) < 1e-6
    for name in ("cross_entropy", "reverse_kl", "prior", "privileged", "heads", "total"):
        assert sum(one["terms"].get(name, 0.0) for one in found) / 2 == pytest.approx(whole[0][name], rel=1e-6), name
