"""The training loop beside a bare one, compiled, on two processes, and on real clips.

``python -m benchmarks.training [--quick] [--data DIR]``. Alone on a machine of two cores.

- ``loop_vs_bare``: seconds a step of ``pride train`` beside forward, backward, clipping and AdamW in a plain ``for``
  over the same loader, model and batches (real dialogues with notes, top-k of SmolLM2-135M, six of its layers).
- ``compiled_vs_not``: the same with ``student.compile``, its first epoch left out.
- ``two_vs_one``: weak scaling, each process on one core: tokens a second and core of two that share a step of twice
  the size, by torchrun, beside one.
- ``apart_vs_one``: the same of two processes that know nothing of each other: what the machine itself loses.
- ``waiting``: the part of the time in which that student waits for real clips, decoded by one worker beside it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.proxies import Size as Clips
from benchmarks.proxies import data_dir, pack_clips
from benchmarks.step import BACKBONE, LAYERS, TERMS, Size, taught_batches

BATCH = 8


def _settings(name: str, epochs: int, **student: Any) -> Any:
    from pride_mm.losses.alignment import DualAlignment
    from pride_mm.training.settings import DataSettings, OptimSettings, RunSettings, StudentSettings

    return RunSettings(
        name=name,
        student=StudentSettings(backbone=BACKBONE, layers=LAYERS, **student),
        data=DataSettings(batch_size=BATCH, max_context=128),
        optim=OptimSettings(epochs=epochs, norms_every=0),
        loss=DualAlignment(**TERMS["top-k"]),
    )


def _steps(run: Path) -> list[dict[str, Any]]:
    from pride_mm.training.history import read_history

    return [line for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]


def _ours(shards: Any, work: Path, name: str, epochs: int, **student: Any) -> list[float]:
    from pride_mm.training.loop import train

    return [line["seconds"] for line in _steps(train(_settings(name, epochs, **student), shards, work).run)]


def _bare(shards: Any, work: Path, name: str, epochs: int) -> list[float]:
    from accelerate import Accelerator

    from pride_mm.training.session import Session

    session = Session.build(_settings(name, epochs), [shards], work / name, Accelerator(cpu=True))
    module, optimizer, parameters = session.distillation.train(), session.optimizer, list(session.model.parameters())
    seconds, begun = [], time.perf_counter()
    while session.loader.batches.epoch < epochs:
        for batch in session.loader:
            total, _ = module(batch, 0.5)
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            session.scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - begun)
            begun = time.perf_counter()
    return seconds


def _scaled(shards: Path, work: Path, processes: int, epochs: int, name: str) -> float:
    """Tokens a second and process, each process on one core."""
    run = work / f"{name}.toml"
    run.write_text(
        f'name = "{name}"\nstudent = {{ backbone = "{BACKBONE}", layers = {LAYERS} }}\n'
        f"data = {{ batch_size = {BATCH * processes}, max_context = 128 }}\n"
        f"optim = {{ epochs = {epochs}, norms_every = 0 }}\nloss = {json.dumps(TERMS['top-k']).replace(':', ' =')}\n"
    )
    pride = [str(Path(sys.executable).parent / "pride"), "train", str(run), "--shards", str(shards), "--out", str(work)]
    launch = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", str(processes)]
    subprocess.run(
        [*launch, "--no-python", *pride], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    steps = _steps(work / name)[1:]
    return sum(line["terms"]["tokens"] for line in steps) / sum(line["seconds"] for line in steps) / processes


def _waiting(data: Path, work: Path, clips: int) -> float:
    from pride_mm.data.shards import ShardSet
    from pride_mm.losses.alignment import DualAlignment
    from pride_mm.training.loop import train

    pack_clips(data, work, "clips", Clips(clips, 1, 1))
    settings = _settings("clips", 1).model_copy(update={"loss": DualAlignment(kd=0, mmd=0, prior=0, heads=0)})
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"workers": 1})})
    steps = _steps(train(settings, ShardSet.open(work / "clips"), work).run)[1:]
    return sum(line["terms"]["data_wait"] for line in steps) / sum(line["seconds"] for line in steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of one epoch")
    parser.add_argument("--data", type=Path, help="the folder above the corpora; default: PRIDE_DATA")
    given = parser.parse_args()
    from pride_mm.memory import keep_freed_memory

    keep_freed_memory()
    data, (rounds, epochs) = data_dir(given.data), (1, 1) if given.quick else (3, 2)
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards, _ = taught_batches(data / "empathetic_dialogues", work, Size(8, BATCH, 1, 1))
        for turn in range(rounds):
            # the first step of each run warms up
            seconds["loop"] += _ours(shards, work, f"loop-{turn}", epochs)[1:]
            seconds["bare"] += _bare(shards, work, f"bare-{turn}", epochs)[1:]
        compiled = _ours(shards, work, "compiled", 3, compile=True)
        one, two = (_scaled(work / "shards", work, processes, 2, f"on-{processes}") for processes in (1, 2))
        with ThreadPoolExecutor() as pool:
            apart = statistics.mean(
                pool.map(lambda name: _scaled(work / "shards", work, 1, 2, name), ("apart-1", "apart-2"))
            )
        waiting = _waiting(data, work, 20 if given.quick else 100)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    last = statistics.median(compiled[len(compiled) // 3 :])
    print(f"{medians['loop']:.3f} s a step of the loop, {medians['bare']:.3f} bare, {last:.3f} compiled")
    print(f"{one:,.0f} tokens a second on one process, {two:,.0f} on each of two, {apart:,.0f} on each of two apart")
    ratios = {
        "loop_vs_bare": sum(seconds["loop"]) / sum(seconds["bare"]),
        "compiled_vs_not": last / medians["loop"],
        "two_vs_one": two / one,
        "apart_vs_one": apart / one,
        "waiting": waiting,
    }
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in ("torch", "accelerate")}
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    print(json.dumps({"benchmark": "training", "ratios": rounded, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
