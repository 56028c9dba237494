"""``pride plan`` beside the run that it is the plan of."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pipelines.cli import run as pride
from pride_mm.data.batch import Batch
from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.student.backbone import load_backbone
from pride_mm.training import checkpoint, loop
from pride_mm.training.history import read_history
from pride_mm.training.meters import count_flops, peak_bytes
from pride_mm.training.plan import Plan, longest_batch, make_plan
from pride_mm.training.session import Session
from pride_mm.training.settings import DataSettings, RankSettings, TeacherSettings
from pride_mm.training.step import take_gradient
from tests.pride_mm.conftest import NOTE
from tests.pride_mm.training.test_loop import settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planned(small_model: Path, taught: Path) -> Plan:
    return make_plan(settings(small_model), [ShardSet.open(taught)], steps=3)


@pytest.fixture(scope="module")
def trained(small_model: Path, taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loop.train(settings(small_model), ShardSet.open(taught), tmp_path_factory.mktemp("runs")).run


def built(small_model: Path, taught: Path, run: Path) -> Session:
    return Session.build(settings(small_model), [ShardSet.open(taught)], run, Accelerator(cpu=True))


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
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert planned.checkpoint == pytest.approx(size, rel=0.05)
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


def test_memory_is_what_tensors_take(planned, small_model, taught, tmp_path):
    """What a session really holds after a step, before and after its gradients are let go."""
    session = built(small_model, taught, tmp_path)
    batch, model = next(iter(session.loader)), session.distillation.train()
    take_gradient(model, batch, 0.0, 0)
    session.optimizer.step()
    parameters = [one for one in model.parameters() if one.requires_grad]
    moments = [session.optimizer.state[one] for one in parameters if one in session.optimizer.state]
    taken = {
        "weights": sum(one.nbytes for one in [*model.parameters(), *model.buffers()]),
        "gradients": sum(one.nbytes for one in parameters),
        "moments": 2 * sum(one.nbytes for one in parameters),
    }
    assert {name: planned.memory[name] for name in taken} == taken
    # a batch without a clip has no gradient for what sees
    used = [one for one in parameters if one.grad is not None]
    assert sum(one["exp_avg"].nbytes + one["exp_avg_sq"].nbytes for one in moments) == 2 * sum(o.nbytes for o in used)


def test_activations_are_no_less_than_what_is_saved_for_the_gradient(planned, small_model, taught, tmp_path):
    """Against autograd's own word for it: the storages that a real step's graph holds on to, weights left out."""
    session = built(small_model, taught, tmp_path)
    model = session.distillation.train()
    own = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
    saved = []
    for batch in islice(session.loader, 3):
        held: dict[int, int] = {}

        def keep(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total, _ = model(batch, 0.0, 0)
        saved.append(sum(held.values()))
        del total
    # what is computed with on the way, and gradients, come on top
    assert max(saved) <= planned.memory["activations"] + planned.memory["gradients"] <= 4 * max(saved)


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
    assert parts.memory["activations"] < planned.memory["activations"]
    assert parts.memory["weights"] == planned.memory["weights"]


def test_ranks_share_a_step_and_what_they_do_together_is_as_before(planned, small_model, taught):
    five = make_plan(settings(small_model), [ShardSet.open(taught)], ranks=5, steps=15)
    assert five.steps == planned.steps
    assert five.tokens < 0.4 * planned.tokens
    # the one sample with a clip is among them, whichever rank's it is
    assert five.total_flops == pytest.approx(planned.total_flops, rel=0.3)
    assert five.memory["exchange"] == five.memory["gradients"] == 4 * five.trained
    with pytest.raises(UserError, match="shared by 4 ranks and is no multiple"):
        make_plan(settings(small_model), [ShardSet.open(taught)], ranks=4)


def test_ranks_spread_weights_and_gather_some(planned, small_model, taught):
    given = settings(small_model, ranks=RankSettings(weights="spread"))
    spread = make_plan(given, [ShardSet.open(taught)], ranks=5)
    for name in ("weights", "gradients", "moments"):
        assert spread.memory[name] == planned.memory[name] // 5
    # of two layers all is whole at one time, with its gradients
    assert spread.memory["exchange"] == planned.memory["weights"] + planned.memory["gradients"]
    assert min(spread.memory.values()) >= 0
    parts = given.model_copy(update={"data": given.data.model_copy(update={"at_once": 1})})
    with pytest.raises(UserError, match=r"spread goes without data\.at_once"):
        make_plan(parts, [ShardSet.open(taught)], ranks=5)


def test_the_longest_batch_is_found_where_lengths_are_known(small_model, taught, tmp_path):
    data = DataSettings(batch_size=5, tokens=400, max_context=96, max_response=12)
    given = settings(small_model, data=data)
    loader = Session.build(given, [ShardSet.open(taught)], tmp_path, Accelerator(cpu=True)).loader

    def padded(batch: Batch) -> int:
        texts = batch.inputs["dialogue"], batch.targets["response"]
        return len(batch) * int(sum(text.mask.sum(1) for text in texts).max())

    sizes = [padded(batch) for batch in loader]
    assert len(set(sizes)) > 1
    found = longest_batch(loader)
    assert found is not None
    assert padded(found) == max(sizes)
    assert longest_batch(built(small_model, taught, tmp_path / "other").loader) is None


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
    assert plan.waiting > 0, "media are read and decoded in the step's own process"
    assert plan.cost == pytest.approx(2.0 * (plan.seconds + plan.waiting) * plan.steps / 3600)


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
    assert pride([*given, "--ranks", "5", "--set", "optim.average=0.9", "--set", "ranks.weights=spread"]) == 0
    said = capsys.readouterr().out
    assert "average" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    assert pride(given) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "steps             6 (14 samples an epoch, 2 epochs)" in said
    assert pride([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 6
    assert found["cost"] > 0
    assert found["whole"] == sum(found["parameters"].values()) >= found["trained"]
    assert NOTE not in said + str(found)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_part_of_nothing_is_refused(run_file, taught, capsys):
    assert pride(["plan", str(run_file), "--shards", str(taught), "--mfu", "0.3"]) == 2
    assert capsys.readouterr().err == (
        "--mfu is a part of --tflops: give that as well, or leave --mfu out to measure time here.\n"
    )


def test_what_the_run_would_refuse_is_refused(run_file, bare_shards, capsys):
    assert pride(["plan", str(run_file), "--shards", str(bare_shards), "--set", "optim.speed=3"]) == 2
    assert "optim.speed: no such setting" in capsys.readouterr().err
    assert pride(["plan", str(run_file), "--shards", str(bare_shards)]) == 2
    said = capsys.readouterr().err
    assert "No teacher's cache" in said
    assert "Traceback" not in said
