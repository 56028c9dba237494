"""``pride train`` as torchrun starts it: two real processes that share each step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pride_mm.training import checkpoint
from pride_mm.training.history import read_history

BIN = Path(sys.executable).parent
RUN = """
name = "run"
student = {{ backbone = "{model}", layers = 2, latents = 4 }}
data = {{ batch_size = 4, max_context = 96, max_response = 12 }}
optim = {{ epochs = 2, warmup = 2, norms_every = 3 }}
loss = {{ privileged = 0.5, consistency = 0.1, cosine = 0.1 }}
checkpoint = {{ steps = 1 }}
"""
SPREAD = ("--set", "ranks.weights=spread")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, taught: Path, small_model: Path) -> list[str]:
    run = tmp_path_factory.mktemp("run") / "run.toml"
    run.write_text(RUN.format(model=small_model))
    return [str(BIN / "pride"), "train", str(run), "--shards", str(taught)]


def on_two(command: list[str], out: Path, *more: str, restarts: int = 0) -> subprocess.Popen[str]:
    launch = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    given = {**os.environ, "TQDM_DISABLE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": given}
    return subprocess.Popen([*launch, "--no-python", *command, "--out", str(out), *more], **pipes)


def ended(process: subprocess.Popen[str]) -> str:
    said, complained = process.communicate(timeout=240)
    assert process.returncode == 0, complained
    return said


def on_one(command: list[str], out: Path, *more: str) -> Path:
    subprocess.run([*command, "--out", str(out), *more], check=True, capture_output=True, timeout=240)
    return out / "run"


@pytest.fixture(scope="module")
def alone(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_one(command, tmp_path_factory.mktemp("alone"))


def lines(run: Path) -> list[dict[str, Any]]:
    return read_history(run / "metrics.jsonl")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.checkpoints(run)[-1] / "training.safetensors")


def same_run(ours: Path, theirs: Path) -> None:
    assert [(one["split"], one["step"]) for one in lines(ours)] == [
        (one["split"], one["step"]) for one in lines(theirs)
    ]
    for one, other in zip(lines(ours), lines(theirs), strict=True):
        mine = {name: value for name, value in one["terms"].items() if name != "data_wait"}
        norms = [name for name in mine if name.startswith("gradient_norm.")]  # of a rank's own rows
        expected = {name: value for name, value in other["terms"].items() if name in mine}
        for name in norms:
            mine.pop(name), expected.pop(name)
        assert mine == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_two_ranks_train_as_one_does(command, alone, tmp_path):
    said = ended(on_two(command, tmp_path))
    assert said.count("validation loss without notes") == 1, "one of them speaks"
    same_run(tmp_path / "run", alone)
    tokens = [
        [one["terms"]["tokens"] for one in lines(run) if one["split"] == "train"] for run in (alone, tmp_path / "run")
    ]
    assert tokens[0] == tokens[1]


def rank_processes(launcher: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found]


def wait_for_steps(run: Path, steps: int, running: subprocess.Popen[bytes] | None = None) -> None:
    """Until so many lines are there, or whoever writes them has ended."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if len(checkpoint.checkpoints(run)) and len(lines(run)) >= steps:
            return
        if running is not None and running.poll() is not None:
            return
        time.sleep(0.01)
    pytest.fail("no step was taken")


@pytest.mark.parametrize("how", [(), SPREAD], ids=["copied", "spread"])
def test_a_killed_rank_is_started_again_and_nothing_is_lost(command, alone, tmp_path, how):
    running = on_two(command, tmp_path, *how, restarts=3)
    wait_for_steps(tmp_path / "run", 3)
    os.kill(rank_processes(running.pid)[-1], signal.SIGKILL)
    ended(running)
    same_run(tmp_path / "run", alone)


@pytest.mark.parametrize("how", [(), SPREAD], ids=["copied", "spread"])
def test_asked_to_stop_on_one_it_goes_on_on_two(command, alone, tmp_path, how):
    running = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    wait_for_steps(tmp_path / "run", 2)
    running.terminate()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    if checkpoint.read_state(checkpoint.checkpoints(tmp_path / "run")[-1]).finished:
        pytest.skip("it was done before it was asked")
    assert "asked to stop, and saved at step" in " ".join(said.split())
    ended(on_two(command, tmp_path, *how))
    same_run(tmp_path / "run", alone)


@pytest.mark.timeout(900)  # each time it starts anew, which on a busy machine takes its time
def test_killed_ten_times_it_ends_with_the_same_weights(command, alone, tmp_path):
    kills = 0
    for _ in range(10):
        before = len(lines(tmp_path / "run")) if kills else 0
        running = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=subprocess.DEVNULL)
        wait_for_steps(tmp_path / "run", before + 1, running)
        kills += running.poll() is None
        running.kill()
        running.wait()
    assert kills > 5
    run = on_one(command, tmp_path)
    ours, theirs = weights(run), weights(alone)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    student = "student/model.safetensors"
    assert (checkpoint.best(run) / student).read_bytes() == (checkpoint.best(alone) / student).read_bytes()


def test_a_step_that_cannot_be_shared_is_refused(command, tmp_path):
    running = on_two(command, tmp_path, "--set", "data.batch_size=5")
    _, complained = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "is no multiple of that: give one that is, such as 6" in " ".join(complained.split())
    assert json.dumps("Traceback") not in complained


def test_spread_over_two_ranks_they_train_as_one_does(command, alone, tmp_path):
    ended(on_two(command, tmp_path, *SPREAD))
    same_run(tmp_path / "run", alone)
    ours, theirs = (load_file(checkpoint.best(run) / "student/model.safetensors") for run in (tmp_path / "run", alone))
    assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=0, atol=1e-4), name


def test_what_cannot_be_spread_is_refused(command, tmp_path):
    running = on_two(command, tmp_path, *SPREAD, "--set", "data.at_once=1")
    _, complained = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "ranks.weights=spread goes without data.at_once: leave that out" in " ".join(complained.split())


def test_a_teacher_that_is_asked_in_training_is_asked_on_both(command, bare_shards, small_model, tmp_path):
    command = [*command[:-1], str(bare_shards)]
    teacher = f'teacher={{{{model="{small_model}", max_prompt=1024, on_policy={{}}}}}}'
    online, mixed = ("--set", teacher.format(0.0)), ("--set", teacher.format(0.5))
    one = on_one(command, tmp_path / "one", *online)
    ended(on_two(command, tmp_path / "two", *online))
    same_run(tmp_path / "two" / "run", one)
    ended(on_two(command, tmp_path / "mixed", *mixed))
    entropies = [
        line["terms"]["cross_entropy"] for line in lines(tmp_path / "mixed" / "run") if "train" in line.values()
    ]
    assert 0.0 in entropies
    assert any(entropies)
