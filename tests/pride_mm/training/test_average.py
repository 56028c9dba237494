"""The average of the weights over the steps: what is validated and saved, and how it is gone on with."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pride_mm.data.shards import ShardSet
from pride_mm.student import load_student
from pride_mm.training import checkpoint, loop
from pride_mm.training.average import Average
from pride_mm.training.settings import CheckpointSettings, LoraSettings, OptimSettings, RunSettings, StudentSettings
from tests.pride_mm.training.test_loop import settings, stop_after

DECAY = 0.6


def averaging(small_model: Path, lora: bool = False, decay: float | None = DECAY) -> RunSettings:
    made = StudentSettings(backbone=str(small_model), layers=2, latents=4, lora=LoraSettings(rank=2) if lora else None)
    return settings(small_model, student=made, optim=OptimSettings(epochs=2, warmup=2, average=decay))


def test_it_is_the_sum_that_it_should_be(small_model, taught, tmp_path):
    run = loop.train(averaging(small_model, decay=None), ShardSet.open(taught), tmp_path).run
    student, _, _ = load_student(checkpoint.student_folder(run))
    name, parameter = next(one for one in student.named_parameters() if one[1].requires_grad)
    average = Average(student, DECAY)
    expected = parameter.detach().double().clone()
    for step in range(8):
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter))
        average.update(step)
        decay = min(DECAY, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach().double()
    last = parameter.detach().clone()
    with average.worn():
        assert torch.allclose(dict(student.named_parameters())[name].double(), expected, atol=1e-5)
        assert torch.equal(average.tensors()[f"raw.{name}"], last)
    assert torch.equal(parameter, last)


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapters"])
def test_stopped_it_ends_as_if_never_stopped(small_model, taught, tmp_path, monkeypatch, lora):
    given = averaging(small_model, lora)
    alone = loop.train(given, ShardSet.open(taught), tmp_path / "alone").run
    stop_after(monkeypatch, 4)
    often = given.model_copy(update={"checkpoint": CheckpointSettings(steps=1)})
    with pytest.raises(KeyboardInterrupt):
        loop.train(often, ShardSet.open(taught), tmp_path / "stopped")
    monkeypatch.undo()
    run = loop.train(given, ShardSet.open(taught), tmp_path / "stopped").run
    for file in ("training.safetensors", "student/model.safetensors"):
        ours, theirs = (load_file(checkpoint.checkpoints(one)[-1] / file) for one in (run, alone))
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), file


def test_what_is_saved_is_the_average_and_what_trains_is_not(small_model, taught, tmp_path):
    with_average, without = (
        loop.train(averaging(small_model, decay=decay), ShardSet.open(taught), tmp_path / str(decay)).run
        for decay in (DECAY, None)
    )
    last = checkpoint.checkpoints(with_average)[-1]
    student, raw = load_file(last / "student/model.safetensors"), load_file(last / "training.safetensors")
    trained = load_file(checkpoint.checkpoints(without)[-1] / "student/model.safetensors")
    kept = {name.removeprefix("raw."): one for name, one in raw.items() if name.startswith("raw.")}
    assert all(torch.equal(one, trained[name]) for name, one in kept.items() if name in trained)
    assert any(not torch.equal(one, student[name]) for name, one in kept.items() if name in student)
