"""The objective on one real batch: what depends on the notes, and what must not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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


def build(parts, fusion: str = "multi_source", **weights: Any) -> Distillation:
    schema, model, _ = parts
    torch.manual_seed(3)
    student = Student.from_backbone(model, schema, 2, latents=4, fusion=fusion)
    with torch.no_grad():  # open gates, so that what is read can be seen
        if fusion != "concat":
            student.attention.gate.fill_(0.5)
    module = Distillation(student, schema, RunSettings(name="t", loss=DualAlignment(**weights)), 64)
    if module.path is not None and module.path.attention is not None:
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
    terms[0].backward()
    return {name: p.grad.clone() for name, p in module.student.named_parameters() if p.grad is not None}


def test_without_privileged_terms_the_notes_change_nothing_by_bit(parts):
    batch = parts[2]
    module = build(parts, prior=0, privileged=0, mmd=0)
    given, other, gone = (module(b, 0.0)[1] for b in (batch, altered(batch), replace(batch, privileged=None)))
    assert torch.equal(given["total"], other["total"])
    assert torch.equal(given["total"], gone["total"])


def test_the_deploy_terms_never_depend_on_the_notes(parts):
    batch = parts[2]
    for name in ("cross_entropy", "reverse_kl", "heads", "mmd", "cka", "cosine"):
        given, other = (
            build(parts, privileged=0.5, cka=0.1, cosine=0.1)(b, 0.0)[1][name] for b in (batch, altered(batch))
        )
        assert torch.equal(given, other), name


def test_the_privileged_pass_depends_on_the_notes_and_teaches_the_student(parts):
    batch = parts[2]
    given, other = (build(parts, privileged=0.5)(b, 0.0)[1] for b in (batch, altered(batch)))
    assert not torch.equal(given["privileged"], other["privileged"])
    with_pass, without = build(parts, privileged=0.5), build(parts, privileged=0.0)
    ours, theirs = gradients(with_pass, with_pass(batch, 0.0)), gradients(without, without(batch, 0.0))
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_privileged_pass_ends_before_training_does(parts):
    assert "privileged" not in build(parts, privileged=0.5)(parts[2], 1.0)[1]


@pytest.mark.parametrize("term", ["kd", "mmd", "prior", "heads"])
def test_each_term_can_be_switched_off(parts, term):
    torch.manual_seed(0)
    on, off = build(parts, privileged=0.0), build(parts, privileged=0.0, **{term: 0.0})
    assert not torch.equal(on(parts[2], 0.0)[0], off(parts[2], 0.0)[0])


def test_a_batch_without_a_single_response_has_a_loss_with_a_path(parts):
    batch = parts[2]
    name = parts[0].response.name
    empty = Padded(batch.targets[name].values, torch.zeros_like(batch.targets[name].mask))
    module = build(parts, privileged=0.0)
    total, terms = module(replace(batch, targets={**batch.targets, name: empty}, teaching=None), 0.0)
    total.backward()
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
    terms = build(parts, privileged=0.0)(written, 0.0)[1]
    assert terms["cross_entropy"] == 0
    assert terms["reverse_kl"] > 0


@pytest.mark.parametrize("term", ["cka", "cosine"])
def test_paired_terms_teach_the_student(parts, term):
    off, on = build(parts, privileged=0.0), build(parts, privileged=0.0, **{term: 1.0})
    ours, theirs = gradients(on, on(parts[2], 0.0)), gradients(off, off(parts[2], 0.0))
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_divergence_is_in_the_terms_by_its_name(parts):
    terms = build(parts, divergence="skewed_kl")(parts[2], 0.0)[1]
    assert terms["skewed_kl"] > 0
    assert "reverse_kl" not in terms


def test_a_weight_may_change_while_training(parts):
    module = build(parts, privileged=0.0, prior=0.0, kd={"start": 0.0, "end": 1.0}).eval()
    start, middle, end = (float(module(parts[2], done)[0].detach()) for done in (0.0, 0.5, 1.0))
    assert middle - start == pytest.approx(end - middle, rel=1e-4)
    assert end > start


@pytest.mark.parametrize("fusion", ["joint", "hierarchical", "concat"])
def test_every_fusion_reads_notes_in_training_and_needs_none(parts, fusion):
    batch = parts[2]
    given, other = (build(parts, fusion, privileged=0.5)(b, 0.0)[1] for b in (batch, altered(batch)))
    assert not torch.equal(given["privileged"], other["privileged"])
    assert torch.equal(given["cross_entropy"], other["cross_entropy"])
    module = build(parts, fusion, privileged=0.5)
    module(batch, 0.0)[0].backward()
    assert module.path.mark.grad.abs().sum() > 0
    assert not any("mark" in name for name in module.student.state_dict())


def test_inputs_and_targets_are_padded_alike_whatever_the_notes_are(taught, small_model):
    """Another length would be another kernel, and other bits."""
    shards = ShardSet.open(taught)
    collator = Collator(InputCollator(shards.schema, load_backbone(small_model)[1], "", 96), 12, 160)
    samples = shards.samples("train", ROLES, teacher=True)[:8]
    long = {"situation": "there was a storm and the bridge was gone " * 12}
    given, longer, gone = (
        collator([replace(sample, privileged=notes(sample.privileged)) for sample in samples])
        for notes in (lambda notes: notes, lambda _: long, lambda _: {})
    )
    assert longer.privileged["situation"].mask.shape[1] > given.privileged["situation"].mask.shape[1]
    for other in (longer, gone):
        for role in ("inputs", "targets"):
            mine, theirs = getattr(given, role), getattr(other, role)
            assert mine.keys() == theirs.keys()
            for name, value in mine.items():
                assert torch.equal(value.values, theirs[name].values)
                assert torch.equal(value.mask, theirs[name].mask)


def test_consistency_is_the_divergence_from_what_is_said_with_notes_and_teaches_only_what_is_said_without(parts):
    batch = parts[2]
    module = build(parts, ce=0, kd=0, mmd=0, prior=0, heads=0, consistency=1.0).double().eval()
    batch = replace(
        batch,
        inputs={
            name: replace(one, values=one.values.double()) if one.values.is_floating_point() else one
            for name, one in batch.inputs.items()
        },
    )
    total, terms = module(batch, 0.0)
    response, embedding = batch.targets["response"], module.student.get_input_embeddings()
    latents = module.path.encode(batch.privileged, embedding)
    rows = latents.present.nonzero().flatten()
    read, sources = module.path.join(latents, module.student.encode(batch.inputs))
    without = module.student.respond(batch.inputs, response)
    noted = module.student.respond(batch.inputs, response, read, sources)
    log_p, log_q = (module.student.head.logits(out.hidden[rows]).log_softmax(-1) for out in (without, noted))
    apart = (log_q.detach().exp() * (log_q.detach() - log_p)).sum(-1)
    real = response.mask[rows]
    torch.testing.assert_close(terms["consistency"], (apart * real).sum() / real.sum())
    total.backward()
    assert module.path.attention.gate.grad is None or module.path.attention.gate.grad == 0
    assert module.student.attention.gate.grad != 0


def test_bf16_is_near_and_its_losses_are_wide(parts):
    batch = parts[2]
    module = build(parts, privileged=0.5, cosine=0.1)
    exact = module(batch, 0.0)[1]
    module.precision = "bf16"
    rounded_total, rounded = module(batch, 0.0)
    rounded_total.backward()
    for name in ("total", "cross_entropy", "privileged"):
        assert rounded[name].dtype is torch.float32
        assert rounded[name] != exact[name], "really in another precision"
        assert float(rounded[name]) == pytest.approx(float(exact[name]), rel=0.02)
    assert all(p.grad is None or p.grad.dtype is torch.float32 for p in module.parameters())
    assert module.student.backbone.dtype is torch.float32
