"""The fused objective beside plain logits: peak memory, CPU time, and gradients in half precision.

``python -m benchmarks.losses [--quick]``. Each contender runs forward and backward in a process of its own,
in turn, with the same numbers; the median over the rounds counts. A peak is what the process grows by over the inputs.
All compute reverse KL against the teacher's whole distribution, given its hidden states and head; ``sparse`` is ours
against its cached top 64 and a bucket, which is what training uses unless it is told else. TRL and Liger are in the
environment that ``benchmarks/peers.txt`` makes: ``.venv-peers/bin/python -m benchmarks.losses``.
"""

import argparse
import contextlib
import ctypes
import importlib.util
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TOP_K = 64
PEERS = {"trl": "trl", "liger": "liger_kernel"}


def _inputs(rows: int, width: int, vocabulary: int) -> dict[str, Any]:
    import torch

    from pride_mm.head import Head
    from pride_mm.losses.fused import fused_objective  # noqa: F401 - what an import takes is nobody's peak
    from pride_mm.losses.teachers import SparseTeacher, StatesTeacher

    torch.set_num_threads(2)
    make = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=make).requires_grad_()
    weight = (torch.randn(vocabulary, width, generator=make) * width**-0.5).requires_grad_()
    teacher_hidden = torch.randn(rows, width, generator=make)
    labels = torch.randint(vocabulary, (rows,), generator=make)
    with torch.no_grad():
        parts = [SparseTeacher.from_logits(part @ weight.T, TOP_K) for part in teacher_hidden.split(128)]
    teacher = SparseTeacher(*(torch.cat([getattr(p, f) for p in parts]) for f in ("ids", "log_probs", "log_tail")))
    return {
        "hidden": hidden, "weight": weight, "teacher_hidden": teacher_hidden, "labels": labels, "sparse": teacher,
        "ours": StatesTeacher(teacher_hidden, Head(weight.detach())),
    }  # fmt: skip


def _fused(given: dict[str, Any], teacher: str) -> None:
    import torch

    from pride_mm.head import Head
    from pride_mm.losses.fused import fused_objective

    mask = torch.ones_like(given["labels"], dtype=torch.bool)
    fused_objective(
        given["hidden"], Head(given["weight"]), given["labels"], mask, given[teacher], ce_weight=0.0
    ).total.backward()


def _naive(given: dict[str, Any]) -> None:
    import torch

    from pride_mm.losses.plain import full_divergence

    teacher = given["teacher_hidden"] @ given["weight"].detach().T
    full_divergence(given["hidden"] @ given["weight"].T, teacher, torch.ones(len(teacher))).backward()


def _trl(given: dict[str, Any]) -> None:
    from trl.experimental.gkd import GKDTrainer

    teacher = (given["teacher_hidden"] @ given["weight"].detach().T)[None]
    student = (given["hidden"] @ given["weight"].T)[None]
    GKDTrainer.generalized_jsd_loss(student, teacher, beta=1.0).backward()


def _liger(given: dict[str, Any]) -> None:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, beta=1.0, compiled=False, chunk_size=256)
    weight = given["weight"]
    loss(given["hidden"], weight, given["teacher_hidden"], weight.detach(), given["labels"]).backward()


CONTENDERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "ours": partial(_fused, teacher="ours"),
    "sparse": partial(_fused, teacher="sparse"),
    "naive": _naive,
    "trl": _trl,
    "liger": _liger,
}


def _give_back() -> None:
    """Hand what the inputs' making left free to the system: reused, it would hide from the measure."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident() -> int:
    """Bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _measured(name: str, size: tuple[int, int, int], answer: Any) -> None:
    """In a process of its own: sends (peak bytes over the inputs, CPU seconds)."""
    given = _inputs(*size)
    _give_back()
    before, peak, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    CONTENDERS[name](given)
    seconds = time.process_time() - start
    done.set()
    watcher.join()
    answer.send((max(peak[0], _resident()) - before, seconds))


def _run(name: str, size: tuple[int, int, int]) -> tuple[int, float]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(name, size, theirs))
    process.start()
    theirs.close()
    result: tuple[int, float] = mine.recv()
    process.join()
    return result


def bf16_gradient_error() -> float:
    """Relative error of our gradient from bf16 inputs near the teacher, against float64 of the same inputs."""
    import torch

    from pride_mm.head import Head
    from pride_mm.losses.fused import fused_objective
    from pride_mm.losses.plain import full_divergence
    from pride_mm.losses.teachers import LogitsTeacher

    make = torch.Generator().manual_seed(0)
    hidden = torch.randn(256, 128, generator=make).bfloat16()
    weight = (torch.randn(4096, 128, generator=make) * 0.2).bfloat16()
    exact = hidden.double() @ weight.double().T
    near = exact + 0.05 * torch.randn(exact.shape, generator=make, dtype=torch.float64)
    mask = torch.ones(256, dtype=torch.bool)
    half, double = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    labels = torch.zeros(256, dtype=torch.long)
    fused_objective(half, Head(weight), labels, mask, LogitsTeacher(near), ce_weight=0.0).total.backward()
    full_divergence(double @ weight.double().T, near, mask.double()).backward()
    assert half.grad is not None
    assert double.grad is not None
    return float((half.grad.double() - double.grad).norm() / double.grad.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the size, one round")
    quick = parser.parse_args().quick
    size = (512, 288, 16_384) if quick else (2048, 576, 49_152)
    here = [name for name in CONTENDERS if name not in PEERS or importlib.util.find_spec(PEERS[name])]
    runs: dict[str, list[tuple[int, float]]] = {name: [] for name in here}
    for _round in range(1 if quick else 3):
        for name in here:
            runs[name].append(_run(name, size))
    memory = {name: statistics.median(peak for peak, _ in found) for name, found in runs.items()}
    seconds = {name: statistics.median(spent for _, spent in found) for name, found in runs.items()}
    print(f"N={size[0]} D={size[1]} V={size[2]}, float32, forward and backward, top {TOP_K} for sparse")
    print(f"{'':8}{'peak MiB':>12}{'CPU s':>10}")
    for name in CONTENDERS:
        print(
            f"{name:8}{memory[name] / 2**20:12.0f}{seconds[name]:10.2f}" if name in here else f"{name:8}  not installed"
        )
    ratios = {"bf16_gradient_error": round(bf16_gradient_error(), 5)}
    for name in here:
        if name not in ("ours", "sparse"):
            ratios[f"memory_vs_{name}"] = round(memory["ours"] / memory[name], 4)
            ratios[f"cpu_vs_{name}"] = round(seconds["ours"] / seconds[name], 4)
    ratios["sparse_memory_vs_naive"] = round(memory["sparse"] / memory["naive"], 4)
    ratios["sparse_cpu_vs_naive"] = round(seconds["sparse"] / seconds["naive"], 4)
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    print(json.dumps({"benchmark": "losses", "ratios": ratios, "machine": machine, "versions": _versions()}))


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "trl", "liger-kernel"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
