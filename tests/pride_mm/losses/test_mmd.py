"""Maximum mean discrepancy: a float64 reference by loops, and properties."""

import math
import statistics

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.losses.mmd import LARGE, SCALES, mmd, mmd_by_features, pooled_states


def sets(seed: int, m: int = 6, n: int = 5, width: int = 3):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(m, width, generator=make).double(), torch.randn(n, width, generator=make).double() + 0.5


def by_loops(x, y):
    rows = [*x.tolist(), *y.tolist()]
    apart = [math.dist(a, b) ** 2 for i, a in enumerate(rows) for b in rows[i + 1 :]]
    middle = statistics.median_low(apart)

    def kernel(a, b):
        return sum(math.exp(-(math.dist(a, b) ** 2) / (s * middle)) for s in SCALES) / len(SCALES)

    def within(part):
        return sum(kernel(a, b) for i, a in enumerate(part) for j, b in enumerate(part) if i != j) / (
            len(part) * (len(part) - 1)
        )

    x, y = x.tolist(), y.tolist()
    return within(x) + within(y) - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999))
def test_is_the_sum_by_loops(seed):
    x, y = sets(seed)
    assert abs(float(mmd(x, y)) - by_loops(x, y)) < 1e-12


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.floats(-100, 100))
def test_symmetric_and_blind_to_order_and_shift(seed, shift):
    x, y = sets(seed)
    value = mmd(x, y)
    torch.testing.assert_close(mmd(y, x), value)
    torch.testing.assert_close(mmd(x[torch.randperm(len(x))], y.flip(0)), value)
    torch.testing.assert_close(mmd(x + shift, y + shift), value)


def test_unbiased_for_equal_distributions_and_negative_for_one_set():
    make = torch.Generator().manual_seed(0)
    values = [mmd(torch.randn(16, 8, generator=make), torch.randn(16, 8, generator=make)) for _ in range(300)]
    mean, error = torch.stack(values).mean(), torch.stack(values).std() / 300**0.5
    assert abs(mean) < 3 * error
    assert min(values) < 0
    same = torch.randn(16, 8, generator=make)
    assert -2 / 16 <= mmd(same, same) <= 0


def test_finds_a_shift():
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 8, generator=make), torch.randn(64, 8, generator=make)
    assert mmd(x, y + 2.0) > 20 * abs(mmd(x, y))


def test_gradient_is_right_and_lives_where_the_student_is_ten_times_too_large():
    x, y = sets(0)
    with torch.no_grad():
        pooled = torch.cat([x, y])
        middle = torch.cdist(pooled, pooled).square()[torch.ones(11, 11).triu(1).bool()].median()

    def fixed(z):  # the bandwidth has no gradient, so a difference quotient needs it held
        a = torch.cat([z, y])
        d = (a[:, None] - a).square().sum(-1)
        k = sum((-d / (s * middle)).exp() for s in SCALES) / 5
        off = 1 - torch.eye(11, dtype=d.dtype)
        k_off = k * off
        return k_off[:6, :6].sum() / 30 + k_off[6:, 6:].sum() / 20 - 2 * k[:6, 6:].mean()

    z = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(mmd(z, y), z), torch.autograd.grad(fixed(z), z))
    make = torch.Generator().manual_seed(0)
    large = (10 * torch.randn(32, 64, generator=make)).requires_grad_()
    mmd(large, torch.randn(32, 64, generator=make)).backward()
    assert large.grad.norm() > 1e-3


def test_half_precision_with_huge_dimensions():
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 256, generator=make), torch.randn(32, 256, generator=make) + 0.3
    for rows in (x, y):
        rows[:, :2] += 300
    x, y = x.bfloat16(), y.bfloat16()
    exact = mmd(x.double(), y.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mmd(x, y).double(), exact, rtol=1e-3, atol=1e-6)


def test_too_few_rows_or_no_distance():
    x = torch.randn(1, 4, requires_grad=True)
    value = mmd(x, torch.randn(5, 4))
    value.backward()
    assert value == 0
    assert torch.equal(x.grad, torch.zeros(1, 4))
    same = torch.ones(4, 3, requires_grad=True)
    mmd(same, torch.ones(4, 3)).backward()
    assert same.grad.isfinite().all()


def test_pooling_looks_at_real_tokens_only():
    hidden = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    hidden[0, 2] = torch.nan
    pooled = pooled_states(hidden, mask)
    torch.testing.assert_close(pooled[0], hidden[0, :2].mean(0))
    assert torch.equal(pooled[1], torch.zeros(4))


def test_random_features_give_the_same_estimate():
    x, y = torch.randn(200, 16, dtype=torch.float64), torch.randn(150, 16, dtype=torch.float64) + 0.3
    exact = mmd(x, y)
    by_features = torch.stack([mmd_by_features(x, y, 2000, seed=seed) for seed in range(8)])
    assert abs(by_features.mean() - exact) < 4 * by_features.std() / 8**0.5 + 0.02 * exact
    assert by_features.std() < 0.2 * exact


def test_random_features_give_the_same_direction():
    x, y = torch.randn(120, 8, dtype=torch.float64).requires_grad_(), torch.randn(120, 8, dtype=torch.float64) + 0.5
    exact, other = (
        torch.autograd.grad(of(x, y), x)[0].flatten() for of in (mmd, lambda a, b: mmd_by_features(a, b, 8000))
    )
    assert torch.cosine_similarity(exact, other, dim=0) > 0.9


def test_random_features_of_too_few_rows_are_zero_with_a_gradient():
    x = torch.randn(1, 4, requires_grad=True)
    mmd_by_features(x, torch.randn(5, 4)).backward()
    assert torch.equal(x.grad, torch.zeros(1, 4))


def test_many_rows_are_compared_without_the_square_of_their_number():
    x, y = torch.randn(LARGE // 2, 8), torch.randn(LARGE // 2, 8) + 0.3
    assert torch.equal(mmd(x, y), mmd_by_features(x, y))
    fewer = mmd(x[:-1], y)
    assert not torch.equal(fewer, mmd_by_features(x[:-1], y))
    assert abs(mmd(x, y) - fewer) < 0.2 * fewer
