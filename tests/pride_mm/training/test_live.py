"""A teacher that is asked in training: of the experts' words as a cache would have it, and of the student's own."""

import json
from dataclasses import replace

import pytest
import torch

from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.schema import Role
from pride_mm.student import load_student
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.cache import teach
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher
from pride_mm.training import checkpoint, loop
from pride_mm.training.history import read_history
from pride_mm.training.live import LiveTeacher
from pride_mm.training.settings import CheckpointSettings, RunSettings, TeacherSettings
from tests.pride_mm.conftest import NOTE
from tests.pride_mm.training.test_loop import settings, stop_after

ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)


def asked(small_model, on_policy: float, **changes: object) -> RunSettings:
    teacher = TeacherSettings(model=str(small_model), max_prompt=1024, on_policy=on_policy)
    return settings(small_model, teacher=teacher, **changes)


def losses(run) -> list[dict]:
    lines = [line["terms"] for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]
    return [{name: value for name, value in terms.items() if name != "data_wait"} for terms in lines]


def test_of_the_experts_words_it_says_what_it_says_in_a_cache(small_model, bare_shards, tmp_path):
    shards = ShardSet.open(bare_shards)
    live = loop.train(asked(small_model, 0.0), shards, tmp_path / "live").run
    prompt = Prompt.load(shards.schema, "empathy_reasoning", 1024)
    teacher = Teacher(*load_backbone(small_model), top_k=0)
    teach(shards, teacher, prompt, BadSamples(0), "small", 12, write_missing=False)
    cached = loop.train(settings(small_model), ShardSet.open(bare_shards), tmp_path / "cached").run
    for mine, theirs in zip(losses(live), losses(cached), strict=True):
        for name in ("total", "cross_entropy", "reverse_kl", "mmd", "privileged_reverse_kl"):
            assert mine[name] == pytest.approx(theirs[name], rel=2e-3), name  # a cache rounds states


@pytest.fixture
def live(small_model, bare_shards):
    """A teacher and a batch of eight with its prompts."""
    shards = ShardSet.open(bare_shards)
    tokenizer = load_backbone(small_model)[1]
    collator = Collator(InputCollator(shards.schema, tokenizer, max_context=96), max_response=12)
    chosen = TeacherSettings(model=str(small_model), max_prompt=1024, on_policy=1.0)
    teacher = LiveTeacher.load(chosen, shards.schema, collator, 0, torch.device("cpu"))
    reader = shards.samples("train", ROLES)
    samples = [reader[place] for place in range(8)]
    return teacher, samples, replace(collator, ask=teacher.asking)(samples)


def test_in_other_steps_it_scores_what_the_student_said(live, small_model, finished_student):
    teacher, samples, batch = live
    torch.manual_seed(3)
    student = finished_student.train()
    taught = teacher.teach(batch, 0, student)
    name = teacher.prompt.schema.response.name
    said, own = taught.targets[name], taught.teaching
    assert student.training
    assert own.written.all(), "no cross-entropy takes them for an expert's words"
    assert said.mask.any(1).all()
    assert not torch.equal(said.values, batch.targets[name].values)
    model, tokenizer = load_backbone(small_model)
    for row, sample in enumerate(samples):
        prompt, answer = teacher.asking(sample), said.values[row][said.mask[row]].tolist()
        assert NOTE in tokenizer.decode(prompt) or not sample.privileged
        with torch.no_grad():
            states = model.base_model(torch.tensor([prompt + answer[:-1]])).last_hidden_state[0, len(prompt) - 1 :]
        torch.testing.assert_close(own.states[row][own.mask[row]].float(), states, rtol=1e-2, atol=2e-2)
        ends = [place for place, token in enumerate(answer) if token == tokenizer.eos_token_id]
        assert ends in ([], [len(answer) - 1]), "nothing is said behind the end"


@pytest.fixture(scope="module")
def finished_student(small_model, taught, tmp_path_factory):
    run = loop.train(settings(small_model), ShardSet.open(taught), tmp_path_factory.mktemp("runs")).run
    return load_student(checkpoint.student_folder(run))[0]


def test_the_same_chance_says_the_same_and_the_student_has_read_no_notes(live, finished_student):
    teacher, _, batch = live
    name = teacher.prompt.schema.response.name
    answers = []
    for seed, notes in ((1, batch.privileged), (1, None), (2, batch.privileged)):
        torch.manual_seed(seed)
        answers.append(teacher.teach(replace(batch, privileged=notes), 0, finished_student).targets[name].values)
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_steps_are_the_students_own(live, share):
    teacher = replace(live[0], settings=live[0].settings.model_copy(update={"on_policy": share}))
    own = sum(teacher.is_on_policy(step) for step in range(1000))
    assert abs(own / 1000 - share) < 0.05


def test_mixed_it_learns_from_both_and_ends_as_if_never_stopped(small_model, bare_shards, tmp_path, monkeypatch):
    shards = ShardSet.open(bare_shards)
    whole = loop.train(asked(small_model, 0.5), shards, tmp_path / "whole").run
    stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        loop.train(asked(small_model, 0.5, checkpoint=CheckpointSettings(steps=1)), shards, tmp_path / "cut")
    monkeypatch.undo()
    cut = loop.train(asked(small_model, 0.5), shards, tmp_path / "cut")
    assert cut.resumed
    assert losses(cut.run) == losses(whole)
    entropies = [line["cross_entropy"] for line in losses(whole)]
    assert 0.0 in entropies, "a step on the student's own words has no expert's"
    assert any(entropies)
    assert all(line["reverse_kl"] > 0 for line in losses(whole))


def test_without_a_cache_on_its_own_words_it_comes_closer_to_the_teacher(small_model, bare_shards, tmp_path):
    only = DualAlignment(ce=0.0, kd=1.0, mmd=0.0, prior=0.0, privileged=0.0, heads=0.0)
    chosen = asked(small_model, 1.0, loss=only)
    run = loop.train(
        chosen.model_copy(update={"optim": chosen.optim.model_copy(update={"epochs": 8, "lr": 1e-3})}),
        ShardSet.open(bare_shards),
        tmp_path,
    ).run
    gaps = [line["reverse_kl"] for line in losses(run)]
    assert sum(gaps[-4:]) < 0.8 * sum(gaps[:4])
    assert NOTE not in "".join(path.read_text() for path in run.glob("*.json*"))


def test_another_teacher_under_the_same_name_is_refused_on_resume(small_model, bare_shards, tmp_path, monkeypatch):
    shards = ShardSet.open(bare_shards)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(asked(small_model, 0.0, checkpoint=CheckpointSettings(steps=1)), shards, tmp_path)
    monkeypatch.undo()
    claimed = tmp_path / "run" / "settings.json"
    claimed.write_text(json.dumps(json.loads(claimed.read_text()) | {"teacher_sha256": "0" * 64}))
    with pytest.raises(UserError, match="these differ: teacher_sha256"):
        loop.train(asked(small_model, 0.0), shards, tmp_path)


def test_a_teacher_of_another_family_is_refused(small_model, other_family, bare_shards, tmp_path):
    chosen = settings(small_model, teacher=TeacherSettings(model=str(other_family), max_prompt=1024))
    with pytest.raises(UserError, match=r"other vocabularies.*run 'pride teach'"):
        loop.train(chosen, ShardSet.open(bare_shards), tmp_path)


def test_prompts_too_long_are_counted_and_not_cut(small_model, bare_shards, tmp_path):
    chosen = TeacherSettings(model=str(small_model), max_prompt=8)
    with pytest.raises(UserError, match=r"8 are allowed \(--max-prompt; in training teacher\.max_prompt\)"):
        loop.train(settings(small_model, teacher=chosen), ShardSet.open(bare_shards), tmp_path)


def test_what_makes_no_sense_is_refused(small_model):
    with pytest.raises(ValueError, match=r"nobody listens: set one of loss\.kd"):
        asked(small_model, 0.5, loss=DualAlignment(kd=0.0, mmd=0.0))
    with pytest.raises(ValueError, match="universal is for a teacher of another family"):
        asked(small_model, 0.5, loss=DualAlignment(divergence="universal", mmd=0.0))
