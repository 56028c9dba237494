"""The fused objective against plain autograd in float64, and its traps."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.errors import UserError
from pride_mm.head import Head, LowRank
from pride_mm.losses.divergence import Divergence
from pride_mm.losses.fused import fused_objective
from pride_mm.losses.plain import bucket_divergence, full_divergence
from pride_mm.losses.teachers import LOWEST_LOG_MASS, LogitsTeacher, SparseTeacher, StatesTeacher


def case(rows: int = 11, width: int = 6, vocabulary: int = 17, k: int = 4, seed: int = 0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=make, dtype=dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=make, dtype=dtype).requires_grad_()
    labels = torch.randint(vocabulary, (rows,), generator=make)
    teacher = SparseTeacher.from_logits(torch.randn(rows, vocabulary, generator=make, dtype=dtype), k)
    label_mask = torch.rand(rows, generator=make) < 0.7
    kd_mask = torch.rand(rows, generator=make) < 0.6
    label_mask[0] = kd_mask[0] = True
    return hidden, weight, labels, label_mask, teacher, kd_mask


def plain(hidden, weight, labels, label_mask, teacher, kd_mask, ce=1.0, kd=1.0):
    logits = hidden @ weight.T
    cross_entropy = F.cross_entropy(logits[label_mask], labels[label_mask])
    divergence = bucket_divergence(logits, teacher, kd_mask.to(logits.dtype))
    return ce * cross_entropy + kd * divergence, cross_entropy, divergence


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 17), st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 0.7]))
def test_equals_autograd(rows, k, chunk, seed, ce):
    hidden, weight, *rest = case(rows=rows, k=k, seed=seed)
    fused = fused_objective(hidden, Head(weight), *rest, ce_weight=ce, kd_weight=1.3, chunk=chunk)
    expected = plain(hidden, weight, *rest, ce=ce, kd=1.3)
    torch.testing.assert_close((fused.total, fused.cross_entropy, fused.divergence), expected, atol=1e-12, rtol=1e-12)
    got = torch.autograd.grad(3 * fused.total, (hidden, weight))
    torch.testing.assert_close(got, torch.autograd.grad(3 * expected[0], (hidden, weight)), atol=1e-12, rtol=1e-10)


def test_gradient_is_the_difference_quotient():
    hidden, weight, *rest = case(rows=4, width=3, vocabulary=7, k=3)
    gradients = torch.autograd.grad(fused_objective(hidden, Head(weight), *rest, chunk=2).total, (hidden, weight))
    with torch.no_grad():
        for tensor, gradient in zip((hidden, weight), gradients, strict=True):
            for value, expected in zip(tensor.view(-1).split(1), gradient.flatten(), strict=True):
                value += 1e-5
                above = fused_objective(hidden, Head(weight), *rest).total
                value -= 2e-5
                below = fused_objective(hidden, Head(weight), *rest).total
                value += 1e-5
                torch.testing.assert_close((above - below) / 2e-5, expected, atol=1e-8, rtol=1e-6)


def test_without_a_teacher_it_is_cross_entropy():
    hidden, weight, labels, label_mask, *_ = case()
    fused = fused_objective(hidden, Head(weight), labels, label_mask)
    torch.testing.assert_close(fused.total, F.cross_entropy((hidden @ weight.T)[label_mask], labels[label_mask]))
    assert fused.divergence == 0


def test_nothing_counted_gives_zero_with_a_gradient():
    hidden, weight, labels, label_mask, teacher, _ = case()
    nothing = torch.zeros_like(label_mask)
    fused = fused_objective(hidden, Head(weight), labels, nothing, teacher, nothing)
    fused.total.backward()
    assert fused.total == 0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_rows_that_do_not_count_may_hold_anything():
    hidden, weight, labels, label_mask, teacher, kd_mask = case()
    label_mask[3] = kd_mask[3] = kd_mask[4] = False
    label_mask[4] = True
    clean = fused_objective(hidden, Head(weight), labels, label_mask, teacher, kd_mask)
    spoilt = hidden.detach().clone()
    spoilt[3] = torch.nan
    spoilt.requires_grad_()
    labels[3] = -100
    for part in (teacher.log_probs, teacher.log_tail):
        part[3] = part[4] = torch.nan
    teacher.ids[3] = teacher.ids[4] = -1
    dirty = fused_objective(spoilt, Head(weight), labels, label_mask, teacher, kd_mask)
    assert torch.equal(clean.total, dirty.total)
    clean_gradient = torch.autograd.grad(clean.total, (hidden, weight))
    dirty_gradient = torch.autograd.grad(dirty.total, (spoilt, weight))
    assert all(torch.equal(a, b) for a, b in zip(clean_gradient, dirty_gradient, strict=True))


def test_micro_batches_add_up_to_the_batch():
    hidden, weight, labels, label_mask, teacher, kd_mask = case(rows=12)
    fused_objective(hidden, Head(weight), labels, label_mask, teacher, kd_mask).total.backward()
    whole = hidden.grad.clone(), weight.grad.clone()
    hidden.grad = weight.grad = None
    counts = float(label_mask.sum()), float(kd_mask.sum())
    for part in torch.arange(12).split(5):
        fused_objective(
            hidden[part], Head(weight), labels[part], label_mask[part], teacher.rows(part), kd_mask[part], counts=counts
        ).total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad), whole)


def test_a_tied_head_adds_to_the_embedding():
    _, _, labels, label_mask, teacher, kd_mask = case()
    embedding = torch.randn(17, 6, dtype=torch.float64).requires_grad_()
    ids = torch.arange(11)
    total = fused_objective(embedding[ids].tanh(), Head(embedding), labels, label_mask, teacher, kd_mask).total
    expected = plain(embedding[ids].tanh(), embedding, labels, label_mask, teacher, kd_mask)[0]
    torch.testing.assert_close(torch.autograd.grad(total, embedding), torch.autograd.grad(expected, embedding))


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, *rest = case()
    fused_objective(hidden, Head(weight.detach()), *rest).total.backward()
    expected = torch.autograd.grad(plain(hidden, weight, *rest)[0], hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert weight.grad is None


def test_without_gradients_none_are_made():
    hidden, weight, *rest = case()
    with torch.no_grad():
        assert not fused_objective(hidden, Head(weight), *rest).total.requires_grad


def test_a_second_backward_is_refused_not_wrong():
    hidden, weight, *rest = case()
    total = fused_objective(hidden, Head(weight), *rest).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        total.backward()


def test_bf16_gradients_near_the_teacher():
    """Half precision logits are a tenth and more off here; ours are as good as the inputs allow."""
    make = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 64, generator=make).bfloat16()
    weight = (torch.randn(512, 64, generator=make) * 0.3).bfloat16()
    exact = hidden.double() @ weight.double().T
    teacher = SparseTeacher.from_logits(exact + 0.05 * torch.randn(64, 512, generator=make, dtype=torch.float64), 32)
    mask = torch.ones(64, dtype=torch.bool)
    labels = torch.zeros(64, dtype=torch.long)
    half, double = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    fused_objective(half, Head(weight), labels, mask, teacher, ce_weight=0.0).total.backward()
    bucket_divergence(double @ weight.double().T, teacher, mask.double()).backward()
    off = (half.grad.double() - double.grad).norm() / double.grad.norm()
    assert off < 4e-3


def test_autocast_does_not_touch_it():
    hidden, weight, *rest = case(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fused_objective(hidden, Head(weight), *rest).total
    assert torch.equal(inside, fused_objective(hidden, Head(weight), *rest).total)


def test_extreme_logits_stay_finite():
    hidden, weight, *rest = case(dtype=torch.float32, k=17)
    fused = fused_objective(hidden * 1e4, Head(weight), *rest)
    fused.total.backward()
    assert fused.total.isfinite()
    assert hidden.grad.isfinite().all()


def test_a_temperature_does_not_fit_a_sparse_teacher():
    hidden, weight, *rest = case()
    with pytest.raises(UserError, match="temperature to 1"):
        fused_objective(hidden, Head(weight), *rest, temperature=2.0)


def test_inputs_are_left_as_they_were():
    hidden, weight, labels, label_mask, teacher, kd_mask = case()
    for teaching in (teacher, LogitsTeacher(torch.randn(11, 17, dtype=torch.float64))):
        tensors = [hidden, weight, *(part for part in vars(teaching).values())]
        before = [tensor.detach().clone() for tensor in tensors]
        fused_objective(hidden, Head(weight), labels, label_mask, teaching, kd_mask, DIVERGENCES[2]).total.backward()
        assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))


DIVERGENCES = [
    Divergence(), Divergence(name="forward_kl"), Divergence(name="jensen_shannon"),
    Divergence(name="skewed_kl", skew=0.2), Divergence(name="skewed_reverse_kl", skew=0.2),
]  # fmt: skip
WHICH = st.sampled_from(DIVERGENCES)


def whole(head, hidden, labels, label_mask, teacher_logits, kd_mask, divergence, ce, temperature):
    logits = head.logits(hidden)
    cross_entropy = F.cross_entropy(logits[label_mask], labels[label_mask])
    kd = full_divergence(logits, teacher_logits, kd_mask.to(logits.dtype), temperature, divergence)
    return ce * cross_entropy + 1.3 * kd, cross_entropy, kd


def same(fused, expected, parameters):
    torch.testing.assert_close((fused.total, fused.cross_entropy, fused.divergence), expected, atol=1e-12, rtol=1e-11)
    got = torch.autograd.grad(3 * fused.total, parameters)
    torch.testing.assert_close(got, torch.autograd.grad(3 * expected[0], parameters), atol=1e-12, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(WHICH, st.integers(1, 17), st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 0.7]))
def test_every_divergence_to_a_sparse_teacher_equals_autograd(divergence, k, chunk, seed, ce):
    hidden, weight, labels, label_mask, teacher, kd_mask = case(k=k, seed=seed)
    fused = fused_objective(
        hidden, Head(weight), labels, label_mask, teacher, kd_mask, divergence, ce_weight=ce, kd_weight=1.3, chunk=chunk
    )
    logits = hidden @ weight.T
    cross_entropy = F.cross_entropy(logits[label_mask], labels[label_mask])
    kd = bucket_divergence(logits, teacher, kd_mask.to(logits.dtype), divergence)
    same(fused, (ce * cross_entropy + 1.3 * kd, cross_entropy, kd), (hidden, weight))


UNIVERSAL = Divergence(name="universal")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 17), st.integers(1, 12), st.integers(0, 99))
def test_the_universal_divergence_is_of_sorted_probabilities(k, chunk, seed):
    hidden, weight, labels, label_mask, teacher, kd_mask = case(k=k, seed=seed)
    fused = fused_objective(
        hidden, Head(weight), labels, label_mask, teacher, kd_mask, UNIVERSAL, kd_weight=1.3, chunk=chunk
    )
    logits = hidden @ weight.T
    ours = logits.softmax(-1).sort(-1, descending=True).values
    theirs = torch.cat([teacher.log_probs.exp(), teacher.log_tail.exp()[:, None]], 1)
    ours = torch.cat([ours[:, :k], ours[:, k:].sum(-1, keepdim=True)], 1)
    kd = (ours - theirs).abs().sum(-1)[kd_mask].mean()
    torch.testing.assert_close(kd, bucket_divergence(logits, teacher, kd_mask.double(), UNIVERSAL))
    cross_entropy = F.cross_entropy(logits[label_mask], labels[label_mask])
    same(fused, (cross_entropy + 1.3 * kd, cross_entropy, kd), (hidden, weight))


def test_the_universal_divergence_knows_no_ids_and_is_nothing_for_equals():
    hidden, weight, labels, label_mask, _, kd_mask = case()
    logits = (hidden @ weight.T).detach()
    same_masses = SparseTeacher.from_logits(logits[:, torch.randperm(17)], 4)
    fused = fused_objective(hidden, Head(weight), labels, label_mask, same_masses, kd_mask, UNIVERSAL)
    assert float(fused.divergence) == pytest.approx(0, abs=1e-12)
    with pytest.raises(UserError, match="give it a top-k"):
        fused_objective(hidden, Head(weight), labels, label_mask, LogitsTeacher(logits), kd_mask, UNIVERSAL)


@settings(max_examples=30, deadline=None)
@given(WHICH, st.integers(2, 17), st.integers(0, 99))
def test_a_token_that_the_student_lacks_is_as_if_in_the_tail(divergence, k, seed):
    hidden, weight, labels, label_mask, teacher, kd_mask = case(k=k, seed=seed)
    keep = k // 2
    within = SparseTeacher(
        teacher.ids[:, :keep],
        teacher.log_probs[:, :keep],
        torch.cat([teacher.log_probs[:, keep:], teacher.log_tail[:, None]], 1).logsumexp(1),
    )
    place = torch.randperm(k, generator=torch.Generator().manual_seed(seed))
    ids, log_probs = teacher.ids.clone(), teacher.log_probs.clone()
    ids[:, keep:], log_probs[:, keep:] = -1, LOWEST_LOG_MASS
    lacking = SparseTeacher(ids[:, place], log_probs[:, place], within.log_tail)
    one, other = (
        fused_objective(hidden, Head(weight), labels, label_mask, said, kd_mask, divergence)
        for said in (within, lacking)
    )
    torch.testing.assert_close(one.divergence, other.divergence, atol=1e-12, rtol=1e-10)
    gradients = [torch.autograd.grad(loss.total, (hidden, weight)) for loss in (one, other)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(WHICH, st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 0.7]), st.sampled_from([0.5, 1.0, 3.0]))
def test_every_divergence_to_a_whole_teacher_equals_autograd(divergence, chunk, seed, ce, temperature):
    hidden, weight, labels, label_mask, _, kd_mask = case(seed=seed)
    make = torch.Generator().manual_seed(seed + 1)
    states = torch.randn(11, 5, generator=make, dtype=torch.float64)
    teaching = StatesTeacher(states, Head(torch.randn(17, 5, generator=make, dtype=torch.float64)))
    logits = teaching.head.logits(states)
    expected = whole(Head(weight), hidden, labels, label_mask, logits, kd_mask, divergence, ce, temperature)
    for given_teacher in (teaching, LogitsTeacher(logits)):
        fused = fused_objective(
            hidden, Head(weight), labels, label_mask, given_teacher, kd_mask, divergence,
            ce_weight=ce, kd_weight=1.3, temperature=temperature, chunk=chunk,
        )  # fmt: skip
        same(fused, expected, (hidden, weight))
        expected = whole(Head(weight), hidden, labels, label_mask, logits, kd_mask, divergence, ce, temperature)


@pytest.mark.parametrize("soft_cap", [None, 3.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("vocabulary", [None, 13])
def test_every_part_of_a_head_equals_autograd(soft_cap, scale, vocabulary):
    hidden, weight, labels, label_mask, _, kd_mask = case()
    labels = labels % 13
    make = torch.Generator().manual_seed(1)
    bias, down, up = (
        torch.randn(*shape, generator=make, dtype=torch.float64).requires_grad_() for shape in ((17,), (2, 6), (17, 2))
    )
    head = Head(weight, bias, LowRank(down, up, 0.5), scale, soft_cap, vocabulary)
    logits = torch.randn(11, head.ids, generator=make, dtype=torch.float64)
    fused = fused_objective(
        hidden, head, labels, label_mask, LogitsTeacher(logits), kd_mask, ce_weight=0.7, kd_weight=1.3, chunk=4
    )
    expected = whole(head, hidden, labels, label_mask, logits, kd_mask, DIVERGENCES[0], 0.7, 1.0)
    same(fused, expected, (hidden, weight, bias, down, up))


def test_only_the_adapter_is_trained():
    hidden, weight, *rest = case()
    down, up = torch.randn(2, 6, dtype=torch.float64), torch.randn(17, 2, dtype=torch.float64)
    head = Head(weight.detach(), adapter=LowRank(down.requires_grad_(), up.requires_grad_(), 2.0))
    fused_objective(hidden.detach(), head, *rest).total.backward()
    expected = plain(
        torch.cat([hidden.detach(), 2.0 * hidden.detach() @ down.T], 1), torch.cat([weight.detach(), up], 1), *rest
    )[0]
    torch.testing.assert_close((down.grad, up.grad), torch.autograd.grad(expected, (down, up)))


def test_padding_of_the_vocabulary_is_in_no_softmax():
    """Filled up with zeros it would change the normaliser, whatever is in it here changes nothing."""
    hidden, weight, labels, label_mask, teacher, kd_mask = case(k=4)
    padded = torch.cat([weight.detach(), 1e3 * torch.ones(3, 6, dtype=torch.float64)]).requires_grad_()
    fused = fused_objective(hidden, Head(padded, vocabulary=17), labels, label_mask, teacher, kd_mask)
    expected = fused_objective(hidden, Head(weight), labels, label_mask, teacher, kd_mask)
    assert torch.equal(fused.total, expected.total)
    gradient = torch.autograd.grad(fused.total, padded)[0]
    assert torch.equal(gradient[17:], torch.zeros(3, 6, dtype=torch.float64))
    assert torch.equal(gradient[:17], torch.autograd.grad(expected.total, weight)[0])


def test_a_teacher_of_other_ids_is_refused():
    hidden, weight, labels, label_mask, _, kd_mask = case()
    teaching = LogitsTeacher(torch.zeros(11, 19, dtype=torch.float64))
    with pytest.raises(UserError, match="19 ids and the student's 17"):
        fused_objective(hidden, Head(weight), labels, label_mask, teaching, kd_mask)


def test_rows_of_a_whole_teacher_that_do_not_count_may_hold_anything():
    hidden, weight, labels, label_mask, _, kd_mask = case()
    label_mask[3], kd_mask[3] = True, False
    logits = torch.randn(11, 17, dtype=torch.float64)
    clean = fused_objective(hidden, Head(weight), labels, label_mask, LogitsTeacher(logits), kd_mask)
    logits = logits.clone()
    logits[3] = torch.nan
    dirty = fused_objective(hidden, Head(weight), labels, label_mask, LogitsTeacher(logits), kd_mask)
    assert torch.equal(clean.total, dirty.total)
    grads = [torch.autograd.grad(loss.total, (hidden, weight)) for loss in (clean, dirty)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda divergence: divergence.name)
@pytest.mark.parametrize("sparse", [True, False])
def test_extreme_logits_of_every_divergence_stay_finite(divergence, sparse):
    hidden, weight, labels, label_mask, _, kd_mask = case(dtype=torch.float32)
    logits = 300 * torch.randn(11, 17)
    teaching = SparseTeacher.from_logits(logits, 4) if sparse else LogitsTeacher(logits)
    fused = fused_objective(hidden * 1e3, Head(weight), labels, label_mask, teaching, kd_mask, divergence)
    fused.total.backward()
    assert fused.total.isfinite()
    assert hidden.grad.isfinite().all()
    assert weight.grad.isfinite().all()
