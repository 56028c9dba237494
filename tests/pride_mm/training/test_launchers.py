"""The launchers of docs/launching.md beside torchrun: ``accelerate launch`` and Ray Train start the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pride_mm.training.test_ranks import BIN, RUN, same_run

RAY = """
import os, sys
os.environ |= {"RAY_TRAIN_V2_ENABLED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def work(config):
    from pathlib import Path
    from pride_mm.config import load_settings
    from pride_mm.data.shards import ShardSet
    from pride_mm.training.loop import train
    from pride_mm.training.settings import RunSettings

    settings = load_settings(RunSettings, Path(config["run"]), ())
    train(settings, ShardSet.open(config["shards"]), Path(config["out"]))


run, shards, out = sys.argv[1:]
ray.init(num_cpus=3, include_dashboard=False)
TorchTrainer(
    work,
    train_loop_config={"run": run, "shards": shards, "out": out},
    torch_config=TorchConfig(backend="gloo"),
    scaling_config=ScalingConfig(num_workers=2),
    run_config=RunConfig(name="launch", storage_path=out + "/ray"),
).fit()
"""


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    path = tmp_path_factory.mktemp("launch") / "run.toml"
    path.write_text(RUN.format(model=small_model))
    return path


@pytest.fixture(scope="module")
def alone(run_file: Path, taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    subprocess.run([str(BIN / "pride"), "train", str(run_file), "--shards", str(taught), "--out", str(out)], check=True)
    return out / "run"


def test_accelerate_launch(run_file, alone, taught, tmp_path):
    launch = [str(BIN / "accelerate"), "launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--no_python", str(BIN / "pride"), "train"]
    subprocess.run([*launch, str(run_file), "--shards", str(taught), "--out", str(tmp_path)], check=True, timeout=240)
    same_run(tmp_path / "run", alone)


def test_ray_train(run_file, alone, taught, tmp_path):
    pytest.importorskip("ray")
    script = tmp_path / "launch.py"
    script.write_text(RAY)
    given = [str(run_file), str(taught), str(tmp_path)]
    subprocess.run([sys.executable, str(script), *given], check=True, timeout=300, env=dict(os.environ))
    same_run(tmp_path / "run", alone)
