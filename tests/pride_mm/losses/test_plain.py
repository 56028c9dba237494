"""Reverse KL: properties, and what the bucket keeps that truncation and renormalisation lose."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from pride_mm.data.batch import Teaching
from pride_mm.losses.plain import bucket_divergence, full_divergence
from pride_mm.losses.teachers import SparseTeacher

seeds = st.integers(0, 10_000)


def pair(seed: int, rows: int = 5, vocabulary: int = 13):
    make = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(rows, vocabulary, generator=make, dtype=torch.float64) for _ in range(2))
    weights = (torch.rand(rows, generator=make) < 0.6).double()
    weights[0] = 1.0
    return student, teacher, weights


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.5, 1.0, 2.0]))
def test_is_that_of_torch(seed, temperature):
    student, teacher, weights = pair(seed)
    expected = kl_divergence(Categorical(logits=student / temperature), Categorical(logits=teacher / temperature))
    mean = temperature**2 * (weights * expected).sum() / weights.sum()
    torch.testing.assert_close(full_divergence(student, teacher, weights, temperature), mean)


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(-50, 50))
def test_zero_for_equals_and_blind_to_shifts(seed, shift):
    student, teacher, weights = pair(seed)
    assert abs(full_divergence(student, student + shift, weights)) < 1e-12
    assert full_divergence(student, teacher, weights) >= 0
    torch.testing.assert_close(
        full_divergence(student + shift, teacher, weights), full_divergence(student, teacher, weights)
    )


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 12))
def test_the_bucket_is_never_above_the_whole(seed, k):
    student, teacher, weights = pair(seed)
    bucket = bucket_divergence(student, SparseTeacher.from_logits(teacher, k), weights)
    assert -1e-12 <= bucket <= full_divergence(student, teacher, weights) + 1e-12


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_bucket_of_everything_is_the_whole(seed):
    student, teacher, weights = pair(seed)
    whole = SparseTeacher.from_logits(teacher, teacher.shape[1])
    torch.testing.assert_close(bucket_divergence(student, whole, weights), full_divergence(student, teacher, weights))


def test_the_square_of_the_temperature_keeps_the_gradient():
    student, teacher, weights = pair(0)
    sizes = []
    for temperature in (20.0, 40.0):
        logits = student.clone().requires_grad_()
        full_divergence(logits, teacher, weights, temperature).backward()
        sizes.append(logits.grad.norm())
    torch.testing.assert_close(sizes[0], sizes[1], rtol=0.1, atol=0.0)


def test_the_optimum_has_the_teachers_mass_in_the_tail():
    """Truncating leaves the student 64 % of its mass outside the top k; renormalising leaves whatever was there."""
    _, logits, _ = pair(3, rows=1, vocabulary=200)
    teacher = SparseTeacher.from_logits(logits, 8)
    student = torch.zeros(1, 200, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.1)
    for _step in range(400):
        optimiser.zero_grad()
        bucket_divergence(student, teacher, torch.ones(1, dtype=torch.float64)).backward()
        optimiser.step()
    outside = 1 - student.softmax(-1).gather(1, teacher.ids).sum()
    torch.testing.assert_close(outside, teacher.log_tail.exp()[0], rtol=0.01, atol=1e-4)


def test_nothing_counted_is_zero_with_a_gradient_even_over_nan():
    student = torch.full((3, 5), torch.nan, requires_grad=True)
    loss = full_divergence(student, torch.zeros(3, 5), torch.zeros(3))
    loss.backward()
    assert loss == 0
    assert torch.equal(student.grad, torch.zeros(3, 5))
    sparse = bucket_divergence(student, SparseTeacher.from_logits(torch.zeros(3, 5), 2), torch.zeros(3))
    assert sparse == 0
    assert sparse.requires_grad


def test_a_row_that_does_not_count_may_be_nan():
    student, teacher, weights = pair(1)
    weights[2] = 0.0
    clean = full_divergence(student, teacher, weights)
    student[2] = teacher[2] = torch.nan
    assert torch.equal(full_divergence(student, teacher, weights), clean)


def test_ids_that_both_forbid_cost_nothing():
    student, teacher, weights = pair(2)
    student[:, 3] = teacher[:, 3] = -torch.inf
    assert full_divergence(student, teacher, weights).isfinite()


def test_a_batch_becomes_rows_in_order():
    ids = torch.arange(12).reshape(2, 3, 2)
    teaching = Teaching(
        torch.zeros(2, 4),
        torch.ones(2, 3, dtype=torch.bool),
        torch.zeros(2).bool(),
        ids,
        ids.float(),
        ids[..., 0].float(),
    )
    sparse = SparseTeacher.from_teaching(teaching)
    assert sparse.ids[4].tolist() == [8, 9]
    assert sparse.log_tail[4] == 8
