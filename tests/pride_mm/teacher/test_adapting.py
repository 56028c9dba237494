"""A teacher that learns the experts' responses before it teaches."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher import adapting
from pride_mm.teacher.adapting import FOLDER, adapt
from pride_mm.teacher.cache import teach
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher, weights_sha256


@pytest.fixture
def shards(bare_shards: Path, tmp_path: Path) -> ShardSet:
    shutil.copytree(bare_shards, tmp_path / "shards")
    return ShardSet.open(tmp_path / "shards")


def adapted(shards: ShardSet, small_model: Path, epochs: int = 3) -> Any:
    prompt = Prompt.load(shards.schema, "empathy_reasoning", limit=1024)
    model, tokenizer = load_backbone(small_model)
    before = weights_sha256(model)
    found = adapt(model, tokenizer, prompt, shards, BadSamples(0), epochs, 12, batch_size=4)
    assert weights_sha256(model) == before
    return found


def test_it_learns_and_is_taken_again(shards, small_model, monkeypatch):
    model, record = adapted(shards, small_model)
    assert (record.pairs, record.epochs) == (12, 3)
    assert record.after < record.before
    assert not any(".lora_" in name for name in model.state_dict())

    monkeypatch.setattr(adapting, "_learn", None)  # nothing is learnt again
    again, same = adapted(shards, small_model)
    assert same == record
    torch.testing.assert_close(again.state_dict(), model.state_dict())


def test_with_other_notes_or_for_longer_it_learns_anew(shards, small_model):
    _, record = adapted(shards, small_model, 1)
    _, longer = adapted(shards, small_model, 2)
    assert (longer.epochs, longer.after < record.after) == (2, True)
    (shards.folder / FOLDER / "adaptation.json").write_text("{")
    assert adapted(shards, small_model, 2)[1] == longer


def test_its_lessons_are_its_own(shards, small_model):
    model, _ = adapted(shards, small_model)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", limit=1024)
    _, tokenizer = load_backbone(small_model)
    record = teach(shards, Teacher(model, tokenizer, 16), prompt, BadSamples(0), "small", 12)
    assert record.weights_sha256 == weights_sha256(model)
