"""The fused objective against plain autograd in float64, and its traps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.errors import UserError
from pride_mm.losses.fused import fused_objective
from pride_mm.losses.reverse_kl import SparseTeacher, bucket_reverse_kl


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
    divergence = bucket_reverse_kl(logits, teacher, kd_mask.to(logits.dtype))
    return ce * cross_entropy + kd * divergence, cross_entropy, divergence


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 17), st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 0.7]))
def test_equals_autograd(rows, k, chunk, seed, ce):
    hidden, weight, *rest = case(rows=rows, k=k, seed=seed)
    fused = fused_objective(hidden, weight, *rest, ce_weight=ce, kd_weight=1.3, chunk=chunk)
    expected = plain(hidden, weight, *rest, ce=ce, kd=1.3)
    torch.testing.assert_close((fused.total, fused.cross_entropy, fused.reverse_kl), expected, atol=1e-12, rtol=1e-12)
    got = torch.autograd.grad(3 * fused.total, (hidden, weight))
    torch.testing.assert_close(got, torch.autograd.grad(3 * expected[0], (hidden, weight)), atol=1e-12, rtol=1e-10)


def test_gradient_is_the_difference_quotient():
    hidden, weight, *rest = case(rows=4, width=3, vocabulary=7, k=3)
    gradients = torch.autograd.grad(fused_objective(hidden, weight, *rest, chunk=2).total, (hidden, weight))
    with torch.no_grad():
        for tensor, gradient in zip((hidden, weight), gradients, strict=True):
            for value, expected in zip(tensor.view(-1).split(1), gradient.flatten(), strict=True):
                value += 1e-5
                above = fused_objective(hidden, weight, *rest).total
                value -= 2e-5
                below = fused_objective(hidden, weight, *rest).total
                value += 1e-5
                torch.testing.assert_close((above - below) / 2e-5, expected, atol=1e-8, rtol=1e-6)


def test_without_a_teacher_it_is_cross_entropy():
    hidden, weight, labels, label_mask, *_ = case()
    fused = fused_objective(hidden, weight, labels, label_mask)
    torch.testing.assert_close(fused.total, F.cross_entropy((hidden @ weight.T)[label_mask], labels[label_mask]))
    assert fused.reverse_kl == 0


def test_nothing_counted_gives_zero_with_a_gradient():
    hidden, weight, labels, label_mask, teacher, _ = case()
    nothing = torch.zeros_like(label_mask)
    fused = fused_objective(hidden, weight, labels, nothing, teacher, nothing)
    fused.total.backward()
    assert fused.total == 0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_rows_that_do_not_count_may_hold_anything():
    hidden, weight, labels, label_mask, teacher, kd_mask = case()
    label_mask[3] = kd_mask[3] = kd_mask[4] = False
    label_mask[4] = True
    clean = fused_objective(hidden, weight, labels, label_mask, teacher, kd_mask)
    spoilt = hidden.detach().clone()
    spoilt[3] = torch.nan
    spoilt.requires_grad_()
    labels[3] = -100
    for part in (teacher.log_probs, teacher.log_tail):
        part[3] = part[4] = torch.nan
    teacher.ids[3] = teacher.ids[4] = -1
    dirty = fused_objective(spoilt, weight, labels, label_mask, teacher, kd_mask)
    assert torch.equal(clean.total, dirty.total)
    clean_gradient = torch.autograd.grad(clean.total, (hidden, weight))
    dirty_gradient = torch.autograd.grad(dirty.total, (spoilt, weight))
    assert all(torch.equal(a, b) for a, b in zip(clean_gradient, dirty_gradient, strict=True))


def test_micro_batches_add_up_to_the_batch():
    hidden, weight, labels, label_mask, teacher, kd_mask = case(rows=12)
    fused_objective(hidden, weight, labels, label_mask, teacher, kd_mask).total.backward()
    whole = hidden.grad.clone(), weight.grad.clone()
    hidden.grad = weight.grad = None
    counts = float(label_mask.sum()), float(kd_mask.sum())
    for part in torch.arange(12).split(5):
        fused_objective(
            hidden[part], weight, labels[part], label_mask[part], teacher.rows(part), kd_mask[part], counts=counts
        ).total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad), whole)


def test_a_tied_head_adds_to_the_embedding():
    _, _, labels, label_mask, teacher, kd_mask = case()
    embedding = torch.randn(17, 6, dtype=torch.float64).requires_grad_()
    ids = torch.arange(11)
    total = fused_objective(embedding[ids].tanh(), embedding, labels, label_mask, teacher, kd_mask).total
    expected = plain(embedding[ids].tanh(), embedding, labels, label_mask, teacher, kd_mask)[0]
    torch.testing.assert_close(torch.autograd.grad(total, embedding), torch.autograd.grad(expected, embedding))


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, *rest = case()
    fused_objective(hidden, weight.detach(), *rest).total.backward()
    expected = torch.autograd.grad(plain(hidden, weight, *rest)[0], hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert weight.grad is None


def test_without_gradients_none_are_made():
    hidden, weight, *rest = case()
    with torch.no_grad():
        assert not fused_objective(hidden, weight, *rest).total.requires_grad


def test_a_second_backward_is_refused_not_wrong():
    hidden, weight, *rest = case()
    total = fused_objective(hidden, weight, *rest).total
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
    fused_objective(half, weight, labels, mask, teacher, ce_weight=0.0).total.backward()
    bucket_reverse_kl(double @ weight.double().T, teacher, mask.double()).backward()
    off = (half.grad.double() - double.grad).norm() / double.grad.norm()
    assert off < 4e-3


def test_autocast_does_not_touch_it():
    hidden, weight, *rest = case(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fused_objective(hidden, weight, *rest).total
    assert torch.equal(inside, fused_objective(hidden, weight, *rest).total)


def test_extreme_logits_stay_finite():
    hidden, weight, *rest = case(dtype=torch.float32, k=17)
    fused = fused_objective(hidden * 1e4, weight, *rest)
    fused.total.backward()
    assert fused.total.isfinite()
    assert hidden.grad.isfinite().all()


def test_a_temperature_does_not_fit_a_sparse_teacher():
    with pytest.raises(UserError, match="temperature to 1"):
        fused_objective(*case(), temperature=2.0)


def test_inputs_are_left_as_they_were():
    given_ = case()
    before = copy.deepcopy([tensor.detach().clone() for tensor in (given_[0], given_[1], given_[4].log_probs)])
    fused_objective(*given_).total.backward()
    after = (given_[0], given_[1], given_[4].log_probs)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
