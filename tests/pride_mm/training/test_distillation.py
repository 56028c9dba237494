"""The objective on one real batch: what depends on the notes, and what must not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pride_mm.data.batch import Padded
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import ShardSet
from pride_mm.losses.alignment import DualAlignment
from pride_mm.schema import Role
from pride_mm.student import Student
from pride_mm.student.backbone import load_backbone
from pride_mm.training.distillation import Distillation
from pride_mm.training.settings import RunSettings

ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)


@pytest.fixture(scope="module")
def parts(taught: Path, small_model: Path):
    shards = ShardSet.open(taught)
    model, tokenizer = load_backbone(small_model)
    collator = Collator(InputCollator(shards.schema, tokenizer, "", 96), 12, 16)
    batch = collator(shards.samples("train", ROLES, teacher=True)[:8])
    return shards.schema, model, batch


def build(parts, **weights: float) -> Distillation:
    schema, model, _ = parts
    torch.manual_seed(3)
    student = Student.from_backbone(model, schema, 2, latents=4)
    with torch.no_grad():  # open gates, so that what is read can be seen
        student.attention.gate.fill_(0.5)
    module = Distillation(student, schema, RunSettings(name="t", loss=DualAlignment(**weights)), 64)
    if module.path is not None:
        torch.nn.init.constant_(module.path.attention.gate, 0.5)
    return module


def altered(batch):
    notes = {
        name: Padded(torch.randint_like(note.values, 3, 400), torch.ones_like(note.mask))
        for name, note in batch.privileged.items()
    }
    return replace(batch, privileged=notes)


def gradients(module, terms):
    module.zero_grad()
    terms["total"].backward()
    return {name: p.grad.clone() for name, p in module.student.named_parameters() if p.grad is not None}


def test_without_privileged_terms_the_notes_change_nothing_by_bit(parts):
    batch = parts[2]
    module = build(parts, prior=0, privileged=0, mmd=0)
    given, other, gone = (module(b, 0.0) for b in (batch, altered(batch), replace(batch, privileged=None)))
    assert torch.equal(given["total"], other["total"])
    assert torch.equal(given["total"], gone["total"])


def test_the_deploy_terms_never_depend_on_the_notes(parts):
    batch = parts[2]
    for name in ("cross_entropy", "reverse_kl", "heads", "mmd"):
        given, other = (build(parts, privileged=0.5)(b, 0.0)[name] for b in (batch, altered(batch)))
        assert torch.equal(given, other), name


def test_the_privileged_pass_depends_on_the_notes_and_teaches_the_student(parts):
    batch = parts[2]
    given, other = (build(parts, privileged=0.5)(b, 0.0) for b in (batch, altered(batch)))
    assert not torch.equal(given["privileged"], other["privileged"])
    with_pass, without = build(parts, privileged=0.5), build(parts, privileged=0.0)
    ours, theirs = gradients(with_pass, with_pass(batch, 0.0)), gradients(without, without(batch, 0.0))
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_privileged_pass_ends_before_training_does(parts):
    assert "privileged" not in build(parts, privileged=0.5)(parts[2], 1.0)


@pytest.mark.parametrize("term", ["kd", "mmd", "prior", "heads"])
def test_each_term_can_be_switched_off(parts, term):
    torch.manual_seed(0)
    on, off = build(parts, privileged=0.0), build(parts, privileged=0.0, **{term: 0.0})
    assert not torch.equal(on(parts[2], 0.0)["total"], off(parts[2], 0.0)["total"])


def test_a_batch_without_a_single_response_has_a_loss_with_a_path(parts):
    batch = parts[2]
    name = parts[0].response.name
    empty = Padded(batch.targets[name].values, torch.zeros_like(batch.targets[name].mask))
    module = build(parts, privileged=0.0)
    terms = module(replace(batch, targets={**batch.targets, name: empty}, teaching=None), 0.0)
    terms["total"].backward()
    assert terms["cross_entropy"] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_measuring_reads_no_notes_for_the_deploy_loss(parts):
    module = build(parts).eval()
    given, other = module.measure(parts[2]), module.measure(altered(parts[2]))
    assert given["cross_entropy"] == other["cross_entropy"]
    assert given["privileged"] != other["privileged"]


def test_the_teachers_own_responses_are_distilled_but_are_no_experts_word(parts):
    batch = parts[2]
    written = replace(batch, teaching=replace(batch.teaching, written=torch.ones(len(batch), dtype=torch.bool)))
    terms = build(parts, privileged=0.0)(written, 0.0)
    assert terms["cross_entropy"] == 0
    assert terms["reverse_kl"] > 0
