"""The loop on real clips with a real small model: every term, resuming, and what is never in a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.student import load_student
from pride_mm.training import checkpoint, loop
from pride_mm.training.history import read_history
from pride_mm.training.settings import DataSettings, OptimSettings, RunSettings, StudentSettings

ALL_TERMS = {"total", "cross_entropy", "reverse_kl", "heads", "mmd", "prior", "privileged"}


def settings(small_model: Path, **changes: object) -> RunSettings:
    given = {
        "name": "run",
        "student": StudentSettings(backbone=str(small_model), layers=2, latents=4),
        "data": DataSettings(batch_size=5, max_context=96, max_response=12),
        "optim": OptimSettings(epochs=2, warmup=2),
        "loss": DualAlignment(privileged=0.5),
    }
    return RunSettings(**(given | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, taught: Path, small_model: Path) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return loop.train(settings(small_model), ShardSet.open(taught), out).run


def test_every_term_is_in_the_history_and_the_loss_falls(finished):
    lines = read_history(finished / "metrics.jsonl")
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5, 6]
    assert set().union(*(line["terms"] for line in train)) >= ALL_TERMS
    assert train[-1]["terms"]["cross_entropy"] < train[0]["terms"]["cross_entropy"]
    valid = [line["terms"] for line in lines if line["split"] == "valid"]
    assert len(valid) == 2
    assert {"cross_entropy", "total", "accuracy.emotion", "privileged"} <= set(valid[0])


def test_a_checkpoint_holds_no_teacher_and_its_student_nothing_privileged(finished):
    folder = checkpoint.student_folder(finished)
    student, _, schema = load_student(folder)
    assert not schema.privileged
    names = list(load_file(folder / "model.safetensors"))
    assert not [
        name for name in names if "teacher" in name or "path" in name or "privileged" in name or "queue" in name
    ]
    text = "".join(path.read_text() for path in folder.glob("*.json") if "tokenizer" not in path.name)
    assert "situation" not in text
    assert not list(finished.rglob("*.bin")) + list(finished.rglob("*.pt")) + list(finished.rglob("*.pkl"))
    assert student.config.max_context == 96


def test_stopped_after_an_epoch_it_ends_as_if_never_stopped(finished, tmp_path, taught, small_model, monkeypatch):
    whole = loop._Session.epoch

    def stopped(self, progress):
        if self.order.epoch == 1:
            raise KeyboardInterrupt
        whole(self, progress)

    monkeypatch.setattr(loop._Session, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        loop.train(settings(small_model), ShardSet.open(taught), tmp_path)
    monkeypatch.undo()
    outcome = loop.train(settings(small_model), ShardSet.open(taught), tmp_path)
    assert outcome.resumed
    ours, theirs = (
        checkpoint.checkpoints(run)[-1] / "student" / "model.safetensors" for run in (outcome.run, finished)
    )
    ours, theirs = load_file(ours), load_file(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    terms = [
        [line["terms"]["total"] for line in read_history(run / "metrics.jsonl")] for run in (outcome.run, finished)
    ]
    assert terms[0] == terms[1]


def test_other_settings_under_the_same_name_are_refused(finished, taught, small_model):
    with pytest.raises(UserError, match="other settings"):
        loop.train(settings(small_model, seed=5), ShardSet.open(taught), finished.parent)


def test_a_finished_run_is_left_as_it_is(finished, taught, small_model):
    before = (finished / "metrics.jsonl").read_bytes()
    outcome = loop.train(settings(small_model), ShardSet.open(taught), finished.parent)
    assert outcome.steps == 6
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_plain_training_reads_neither_notes_nor_teacher(tmp_path, bare_shards, small_model):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    for tar in folder.glob("*.privileged.tar"):
        tar.unlink()
    plain = DualAlignment(kd=0, mmd=0, prior=0, privileged=0)
    outcome = loop.train(settings(small_model, loss=plain), ShardSet.open(folder), tmp_path / "runs")
    terms = read_history(outcome.run / "metrics.jsonl")[0]["terms"]
    assert terms["reverse_kl"] == 0
    assert "prior" not in terms


def test_without_the_teachers_cache_it_says_what_to_do(tmp_path, bare_shards, small_model):
    with pytest.raises(UserError, match="pride teach"):
        loop.train(settings(small_model), ShardSet.open(bare_shards), tmp_path)


def test_a_half_written_checkpoint_is_taken_for_none(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    last = checkpoint.checkpoints(copy)[-1]
    (last / "state.json").unlink()
    (copy / "checkpoint-000099.partial").mkdir()
    assert last not in checkpoint.checkpoints(copy)
    assert all(json.loads((found / "state.json").read_text()) for found in checkpoint.checkpoints(copy))


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="No checkpoint"):
        checkpoint.best(tmp_path)
