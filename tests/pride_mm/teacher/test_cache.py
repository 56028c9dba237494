"""The cache: complete or not there, and refused by name where it doesn't fit."""

import json
import shutil
from pathlib import Path

import pytest

from pride_mm.data.shards import ShardSet
from pride_mm.data.teaching import Lesson
from pride_mm.errors import BadSamples, UserError
from pride_mm.schema import Role
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher import cache
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher

ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)


def test_it_scores_what_is_there_and_writes_what_is_missing_in_training(taught):
    shards = ShardSet.open(taught)
    record = cache.open_cache(shards)
    assert record.counts.samples == 16
    assert record.counts.written == 2
    assert record.counts.scored == 16
    assert record.counts.with_notes == 14
    for sample in shards.samples("train", ROLES, teacher=True):
        lesson = Lesson.from_bytes(sample.teacher)
        assert lesson.written == (shards.schema.response.name not in sample.targets)
        assert len(lesson.response_ids) > 0


def test_the_record_names_everything_but_the_notes(taught):
    text = (taught / "teacher.json").read_text()
    assert "situation" in json.loads(text)["privileged_fields"]
    assert "lost a friend" not in text


def test_the_teacher_has_read_the_notes(taught, bare_shards, small_model, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    shards = ShardSet.open(folder)
    blind = Prompt(shards.schema, "Answer the person.", 1024)
    cache.teach(shards, Teacher(*load_backbone(small_model), top_k=16), blind, BadSamples(0), "blind", 12)
    one, other = (
        Lesson.from_bytes(ShardSet.open(place).samples("valid", ROLES, teacher=True)[0].teacher)
        for place in (taught, folder)
    )
    assert one.response_ids.tolist() == other.response_ids.tolist()
    assert one.gold_log_probs.tolist() != other.gold_log_probs.tolist()


def test_the_same_teacher_gives_the_same_bytes(taught, bare_shards, small_model, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    shards = ShardSet.open(folder)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", 1024)
    cache.teach(shards, Teacher(*load_backbone(small_model), top_k=16), prompt, BadSamples(0), "small", 12)
    for tar in folder.glob("*.teacher.tar"):
        assert tar.read_bytes() == (taught / tar.name).read_bytes()


def test_stopped_in_the_middle_it_is_not_taken_for_complete(bare_shards, small_model, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    shards = ShardSet.open(folder)

    def stop(done: int, total: int | None = None, note: str = "") -> None:
        raise KeyboardInterrupt

    teacher, prompt = Teacher(*load_backbone(small_model)), Prompt(shards.schema, "", 1024)
    with pytest.raises(KeyboardInterrupt):
        cache.teach(shards, teacher, prompt, BadSamples(0), "small", progress=stop)
    with pytest.raises(UserError, match="pride teach"):
        cache.open_cache(shards)


def test_a_cache_that_does_not_fit_is_refused_by_name(taught, tmp_path, small_model):
    shards, tokenizer = ShardSet.open(taught), load_backbone(small_model)[1]
    assert cache.open_cache(shards, tokenizer, 12)
    with pytest.raises(UserError, match="up to 12 tokens, the run reads up to 13"):
        cache.open_cache(shards, tokenizer, 13)
    tokenizer.add_tokens(["<another>"])
    with pytest.raises(UserError, match="other vocabularies"):
        cache.open_cache(shards, tokenizer)
    folder = tmp_path / "shards"
    shutil.copytree(taught, folder)
    record = json.loads((folder / "teacher.json").read_text())
    record["shards"] = dict.fromkeys(record["shards"], "0" * 64)
    (folder / "teacher.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="packed anew"):
        cache.open_cache(ShardSet.open(folder))
    (folder / "teacher.json").write_text("{")
    with pytest.raises(UserError, match="not the record"):
        cache.open_cache(ShardSet.open(folder))


def test_a_prompt_that_is_refused_is_counted_and_the_rest_is_taught(
    bare_shards: Path, small_model: Path, tmp_path: Path
):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    shards, bad = ShardSet.open(folder), BadSamples(100)
    teacher, prompt = Teacher(*load_backbone(small_model)), Prompt.load(shards.schema, "empathy_reasoning", 2048)
    lengths = sorted(len(prompt.ids(teacher.tokenizer, sample)) for sample in shards.samples("train", ROLES))
    prompt.limit = lengths[len(lengths) // 2]
    record = cache.teach(shards, teacher, prompt, bad, "small", 12)
    assert len(bad) > 0
    assert record.counts.scored == 16 - len(bad)
    assert "lost a friend" not in "".join(map(str, bad))
