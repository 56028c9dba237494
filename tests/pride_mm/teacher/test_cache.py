"""The cache: complete or not there, and refused by name where it doesn't fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pride_mm.data.shards import ShardSet
from pride_mm.data.teaching import Lesson
from pride_mm.errors import BadSamples, UserError
from pride_mm.schema import Role
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher import cache
from pride_mm.teacher.asking import as_read
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
    assert cache.open_cache(shards, tokenizer, 13), "a student of other tokens learns from the likeliest ones"
    folder = tmp_path / "shards"
    shutil.copytree(taught, folder)
    record = json.loads((folder / "teacher.json").read_text())
    record["shards"] = dict.fromkeys(record["shards"], "0" * 64)
    (folder / "teacher.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="packed anew"):
        cache.open_cache(ShardSet.open(folder))
    (folder / "teacher.json").write_text(json.dumps({**record, "shards": cache._identities(shards), "top_k": 0}))
    with pytest.raises(UserError, match=r"other vocabularies.*--top-k 64"):
        cache.open_cache(ShardSet.open(folder), tokenizer)
    (folder / "teacher_vocabulary.json").write_text("[]")
    with pytest.raises(UserError, match=r"teacher_vocabulary\.json.*another teacher's"):
        cache.open_vocabulary(ShardSet.open(folder), cache.open_cache(shards))
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


class Counting(Teacher):
    """A real teacher that counts what it is asked."""

    asked = 0

    def score(self, prompts, responses, written):
        self.asked += len(prompts)
        return super().score(prompts, responses, written)


@pytest.fixture
def copied(bare_shards, tmp_path):
    return shutil.copytree(bare_shards, tmp_path / "shards")


def teach_again(folder, small_model, **options):
    shards = ShardSet.open(folder)
    teacher = Counting(*load_backbone(small_model), top_k=16)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", 1024)
    return teacher, cache.teach(shards, teacher, prompt, BadSamples(0), "small", 12, **options)


def test_what_was_asked_before_is_not_asked_again(taught, copied, small_model):
    first, begun = teach_again(copied, small_model)
    before = {tar.name: tar.read_bytes() for tar in copied.glob("*.teacher.tar")}
    (copied / "teacher.json").unlink()  # as if it had been stopped before the end
    second, record = teach_again(copied, small_model)
    assert first.asked == 16 + record.gain.samples
    assert second.asked == record.gain.samples
    assert record.counts.kept == record.counts.scored == 16
    assert record.gain.nats == pytest.approx(begun.gain.nats, abs=1e-3), "the same samples, whoever was asked first"
    assert {tar.name: tar.read_bytes() for tar in copied.glob("*.teacher.tar")} == before
    other, record = teach_again(copied, small_model, notes="none")
    assert record.counts.kept == 2  # those that have no notes
    assert other.asked == 14


def test_a_stopped_run_goes_on(copied, small_model, taught):
    def stop(done: int, total: int | None = None, note: str = "") -> None:
        if done > 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach_again(copied, small_model, progress=stop)
    assert any(copied.glob("*.teacher.tar"))
    _, record = teach_again(copied, small_model)
    assert 0 < record.counts.kept < 16
    for tar in copied.glob("*.teacher.tar"):
        assert tar.read_bytes() == (taught / tar.name).read_bytes()


def test_a_damaged_leftover_is_asked_anew(copied, small_model, taught):
    teach_again(copied, small_model)
    for tar in copied.glob("*.teacher.tar"):
        tar.write_bytes(tar.read_bytes()[:700])
    teach_again(copied, small_model)
    for tar in copied.glob("*.teacher.tar"):
        assert tar.read_bytes() == (taught / tar.name).read_bytes()


def test_the_gain_is_what_the_notes_add_to_the_experts_words(copied, small_model):
    _, record = teach_again(copied, small_model)
    nats = {"given": 0.0, "none": 0.0}
    keys = []
    for notes in nats:
        teach_again(copied, small_model, notes=notes)
        tokens = 0
        for sample in ShardSet.open(copied).samples("train", ROLES, teacher=True):
            lesson = Lesson.from_bytes(sample.teacher)
            if sample.privileged and not lesson.written:
                keys.append(sample.key)
                nats[notes] += float(lesson.gold_log_probs.double().sum())
                tokens += len(lesson.response_ids)
    assert record.gain.nats == pytest.approx((nats["given"] - nats["none"]) / tokens, abs=1e-5)
    assert record.gain.samples == len(set(keys))


def test_shuffled_notes_are_another_samples(copied, small_model):
    shards = ShardSet.open(copied)
    samples = [replace(s, privileged={"situation": s.key}) for s in shards.samples("train", ROLES)]
    shuffled = as_read(samples, "shuffled")
    assert sorted(s.privileged["situation"] for s in shuffled) == sorted(s.key for s in samples)
    assert all(s.privileged["situation"] != s.key for s in shuffled)
    assert [s.key for s in shuffled] == [s.key for s in samples]
    _, record = teach_again(copied, small_model, notes="none")
    assert record.counts.with_notes == 0
    assert record.gain is None
    assert record.notes == "none"
    with pytest.raises(UserError, match="only sample of its shard"):
        as_read(samples[:1], "shuffled")


def test_states_come_with_the_head_that_they_were_made_for(copied, small_model):
    shards = ShardSet.open(copied)
    teacher = Teacher(*load_backbone(small_model), top_k=0)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", 1024)
    record = cache.teach(shards, teacher, prompt, BadSamples(0), "small", 12)
    head = cache.open_head(ShardSet.open(copied), record)
    states = torch.randn(3, record.features)
    expected = teacher.model.get_output_embeddings()(states)[:, : teacher.vocabulary]
    assert torch.allclose(head.logits(states), expected, atol=1e-5)
    path = copied / cache.HEAD
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"teacher_head.safetensors.*another teacher's"):
        cache.open_head(ShardSet.open(copied), record)
    teach_again(copied, small_model)
    assert not path.exists()
