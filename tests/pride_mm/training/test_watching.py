"""What a run shows while it trains: answers to look at, and its numbers where others are used to look."""

import json
from pathlib import Path

import pytest

from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.training import loop
from pride_mm.training.answers import ANSWERS
from pride_mm.training.history import read_history
from pride_mm.training.settings import CheckpointSettings
from tests.pride_mm.conftest import NOTE
from tests.pride_mm.training.test_loop import settings, stop_after


def test_the_same_samples_are_answered_after_each_epoch(small_model, taught, tmp_path, monkeypatch):
    stop_after(monkeypatch, 5)
    often = settings(small_model, checkpoint=CheckpointSettings(steps=1))
    with pytest.raises(KeyboardInterrupt):
        loop.train(often, ShardSet.open(taught), tmp_path)
    monkeypatch.undo()
    run = loop.train(settings(small_model), ShardSet.open(taught), tmp_path).run
    lines = [json.loads(line) for line in (run / ANSWERS).read_text().splitlines()]
    assert [(line["step"], line["key"]) for line in lines] == [
        (3, "ed_12"),
        (3, "ed_13"),
        (6, "ed_12"),
        (6, "ed_13"),
    ]
    assert all(line["said"] and line["expert"] for line in lines)
    assert any(line["answer"] for line in lines)
    assert NOTE not in (run / ANSWERS).read_text()


def test_none_are_answered_where_none_are_wanted(small_model, taught, tmp_path):
    assert not (loop.train(settings(small_model, answers=0), ShardSet.open(taught), tmp_path).run / ANSWERS).exists()


def test_tensorboard_reads_the_numbers_of_the_history(small_model, taught, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = loop.train(settings(small_model, trackers=("tensorboard",)), ShardSet.open(taught), tmp_path).run
    (written,) = {path.parent for path in (tmp_path / "tensorboard" / "run").glob("events*")}
    seen = EventAccumulator(str(written)).Reload()
    lines = [line for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]
    told = [(one.step, one.value) for one in seen.Scalars("train/cross_entropy")]
    expected = [(line["step"], pytest.approx(line["terms"]["cross_entropy"], rel=1e-4)) for line in lines]
    assert told == expected
    assert "valid/total" in seen.Tags()["scalars"]
    assert not any(NOTE.encode() in path.read_bytes() for path in Path(tmp_path / "tensorboard").rglob("events*"))


def test_a_tracker_that_is_not_installed_is_refused_by_name(small_model, taught, tmp_path):
    with pytest.raises(UserError, match="trackers has 'wandb', which is not installed: pip install wandb"):
        loop.train(settings(small_model, trackers=("wandb",)), ShardSet.open(taught), tmp_path)
    assert not (tmp_path / "run").exists()


def test_each_line_says_what_memory_it_took(small_model, taught, tmp_path):
    run = loop.train(settings(small_model), ShardSet.open(taught), tmp_path).run
    assert all(100 < line["memory_mib"] < 100_000 for line in read_history(run / "metrics.jsonl"))
