"""``pride plan`` beside the run that it is the plan of."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.cli import run as pride
from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.student.backbone import load_backbone
from pride_mm.training import checkpoint, loop
from pride_mm.training.history import read_history
from pride_mm.training.meters import count_flops, peak_bytes
from pride_mm.training.plan import Plan, make_plan
from pride_mm.training.settings import DataSettings, RankSettings, TeacherSettings
from tests.pride_mm.conftest import NOTE
from tests.pride_mm.training.test_loop import settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planned(small_model: Path, taught: Path) -> Plan:
    return make_plan(settings(small_model), [ShardSet.open(taught)], steps=3)


@pytest.fixture(scope="module")
def trained(small_model: Path, taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loop.train(settings(small_model), ShardSet.open(taught), tmp_path_factory.mktemp("runs")).run


def lines(run: Path) -> list[dict]:
    return [line for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]


def test_it_has_as_many_steps_and_tokens_as_the_run(planned, trained):
    assert planned.steps == lines(trained)[-1]["step"]
    tokens = [line["terms"]["tokens"] for line in lines(trained)]
    assert planned.tokens == pytest.approx(sum(tokens[:3]) / 3, rel=1e-6)


def test_it_counts_the_weights_that_the_run_saves(planned, trained):
    folder = checkpoint.checkpoints(trained)[-1]
    student = load_file(folder / "student" / "model.safetensors")
    others = {name: count for name, count in planned.parameters.items() if name != "training_only"}
    buffers = sum(value.numel() for name, value in student.items() if "running" in name or "num_batches" in name)
    assert sum(others.values()) == sum(value.numel() for value in student.values()) - buffers
    moments = [
        value for name, value in load_file(folder / "training.safetensors").items() if name.endswith("exp_avg_sq")
    ]
    assert planned.trained == sum(value.numel() for value in moments)


def test_a_checkpoint_is_as_large_as_it_says(planned, trained):
    folder = checkpoint.checkpoints(trained)[-1]
    tensors = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert planned.checkpoint == pytest.approx(tensors, rel=0.05)
    assert planned.checkpoints >= len(checkpoint.checkpoints(trained))


def test_operations_are_six_a_weight_and_token_and_those_of_attention(small_model):
    """6 N T (Kaplan et al., arXiv 2001.08361), and 12 L T^2 D for the products of queries, keys and values."""
    model, _ = load_backbone(small_model)
    tokens, config = 50, model.config
    ids = torch.randint(0, config.vocab_size, (1, tokens))
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    expected = 6 * weights * tokens + 12 * config.num_hidden_layers * tokens**2 * config.hidden_size
    assert count_flops(lambda: model(ids).logits.sum().backward()) == pytest.approx(expected, rel=0.01)


def test_a_pass_that_reads_notes_costs_more(planned, small_model, taught):
    less = settings(small_model, loss=DualAlignment(privileged=0.0))
    assert make_plan(less, [ShardSet.open(taught)], steps=3).flops < 0.95 * planned.flops


def test_memory_is_what_tensors_take(planned, trained):
    folder = checkpoint.checkpoints(trained)[-1]
    saved = load_file(folder / "training.safetensors")
    moments = sum(value.nbytes for name, value in saved.items() if name.startswith("optimizer."))
    assert planned.memory["moments"] == pytest.approx(moments, rel=0.01)
    gradients = 4 * planned.trained
    assert planned.memory["step"] > gradients


def test_the_peak_is_the_most_at_one_time():
    def run() -> None:
        for _ in range(3):  # four MB each, two of them at a time
            first = torch.zeros(1_000_000)
            second = torch.zeros(1_000_000)
            del first, second

    assert peak_bytes(run, CPU) == pytest.approx(8e6, rel=0.01)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_operations_are_those_of_the_products(mode):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(32, 64), torch.randn(10, 32)
    with mode():
        assert count_flops(lambda: layer(x)) == 2 * 10 * 32 * 64
        query = torch.randn(2, 4, 7, 8)
        attended = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
        assert attended == 2 * (2 * 2 * 4 * 7 * 7 * 8)
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * (2 * 10 * 32 * 64)


def test_more_in_a_step_takes_more_memory_and_parts_of_it_less(planned, small_model, taught):
    data = DataSettings(batch_size=5, at_once=1, max_context=96, max_response=12)
    parts = make_plan(settings(small_model, data=data), [ShardSet.open(taught)], steps=3)
    assert parts.memory["step"] < planned.memory["step"]
    assert parts.memory["weights"] == planned.memory["weights"]


def test_ranks_share_a_step_and_spread_weights(planned, small_model, taught):
    five = make_plan(settings(small_model), [ShardSet.open(taught)], ranks=5, steps=3)
    assert five.steps == planned.steps
    assert five.tokens < 0.4 * planned.tokens
    spread = settings(small_model, ranks=RankSettings(weights="spread"))
    assert make_plan(spread, [ShardSet.open(taught)], ranks=5).memory["moments"] == planned.memory["moments"] // 5
    with pytest.raises(UserError, match="shared by 4 ranks and is no multiple"):
        make_plan(settings(small_model), [ShardSet.open(taught)], ranks=4)


def test_a_teacher_in_training_is_in_the_plan(small_model, bare_shards):
    teacher = TeacherSettings(model=str(small_model), max_prompt=1024, on_policy=0.5)
    plan = make_plan(settings(small_model, teacher=teacher), [ShardSet.open(bare_shards)])
    assert plan.parameters["teacher"] > plan.parameters["backbone"]
    assert plan.memory["teacher"] == pytest.approx(4 * plan.parameters["teacher"], rel=0.01)
    assert plan.teacher_cache == 0


def test_time_of_a_speed_that_is_given(planned, small_model, taught):
    plan = make_plan(settings(small_model), [ShardSet.open(taught)], 1, 3, tflops=1e-6, mfu=0.5, price=2.0)
    assert plan.seconds == pytest.approx(planned.flops / 5e5, rel=0.01)
    assert not plan.measured
    assert planned.measured
    assert plan.cost == pytest.approx(2.0 * plan.seconds * plan.steps / 3600)


@pytest.fixture
def run_file(tmp_path: Path, small_model: Path) -> Path:
    path = tmp_path / "run.toml"
    text = f"""
name = "run"
student = {{ backbone = "{small_model}", layers = 2, latents = 4 }}
data = {{ batch_size = 5, max_context = 96, max_response = 12 }}
optim = {{ epochs = 2, warmup = 2 }}
loss = {{ privileged = 0.5 }}
"""
    path.write_text(text)
    return path


def test_the_command_says_it_in_80_columns_and_as_json(run_file, taught, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["plan", str(run_file), "--shards", str(taught), "--steps", "1", "--price", "2"]
    assert pride(given) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "steps             6 (14 samples an epoch, 2 epochs)" in said
    assert pride([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 6
    assert found["cost"] > 0
    assert NOTE not in said + str(found)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_what_the_run_would_refuse_is_refused(run_file, bare_shards, capsys):
    assert pride(["plan", str(run_file), "--shards", str(bare_shards)]) == 2
    said = capsys.readouterr().err
    assert "No teacher's cache" in said
    assert "Traceback" not in said
