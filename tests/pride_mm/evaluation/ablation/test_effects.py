"""Differences in pairs: their intervals hold the truth, and a verdict needs both groups and seeds behind it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pride_mm.evaluation.ablation.effects import Measured, adjusted, effect


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def measured(values: np.ndarray, better: int = -1) -> Measured:
    """``(E, G)`` values, each of one sample."""
    return Measured(np.stack([values, np.ones_like(values)], -1), ratio, better)


def students(
    shift: float, by_seed: float, seed: int = 0, seeds: int = 3, groups: int = 200
) -> tuple[Measured, Measured]:
    """An arm and a base on the same groups: they differ by ``shift``, and each seed has a whim of its own."""
    draw = np.random.default_rng(seed)
    hard = draw.normal(size=groups)
    base = hard + 0.1 * draw.normal(size=(seeds, groups))
    arm = hard + shift + by_seed * draw.normal(size=(seeds, 1)) + 0.1 * draw.normal(size=(seeds, groups))
    return measured(arm), measured(base)


def test_an_arm_is_no_better_than_itself() -> None:
    arm, _ = students(0.0, 0.0)
    found = effect(arm, arm)
    assert found is not None
    assert (found.value, found.low, found.high, found.size, found.p) == (0.0, 0.0, 0.0, None, 1.0)


@given(shift=st.floats(-2, 2), seed=st.integers(0, 50))
def test_the_value_is_the_mean_over_seeds_of_the_difference(shift: float, seed: int) -> None:
    arm, base = students(shift, 0.2, seed, groups=20)
    found = effect(arm, base, rounds=50)
    assert found is not None
    assert found.value == pytest.approx(np.mean(arm.values - base.values))
    assert found.by_seed == pytest.approx(arm.values - base.values)
    turned = effect(base, arm, rounds=50)
    assert turned is not None
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_a_steady_difference_is_found_and_said_in_the_right_direction() -> None:
    found = effect(*students(0.3, 0.01))
    assert found is not None
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.1
    from dataclasses import replace

    assert replace(found, adjusted=found.p).verdict == "worse"  # less is better, and it has more
    assert replace(found, adjusted=found.p, better=1).verdict == "better"
    assert replace(found, adjusted=0.2).verdict == "same"
    assert found.verdict == "same"  # before it is adjusted, nothing is said


def test_what_only_one_seed_shows_is_not_said() -> None:
    """Many groups make a seed's whim look certain; resampling seeds, too, does not."""
    whim = np.array([[0.5], [-0.45], [0.02]])
    hard = np.random.default_rng(1).normal(size=(1, 500))
    found = effect(measured(hard + whim), measured(hard + np.zeros((3, 1))))
    assert found is not None
    assert found.low < 0 < found.high
    alone = effect(measured(hard + whim[:1]), measured(hard + np.zeros((1, 1))))
    assert alone is not None
    assert alone.low > 0  # of one seed nobody can know


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        found = effect(*students(0.1, 0.0, seed, groups=80), rounds=300)
        assert found is not None
        held += found.low <= 0.1 <= found.high
    assert held >= 50


def test_a_statistic_that_is_undefined_gives_no_effect() -> None:
    nothing = Measured(np.zeros((2, 3, 2)), ratio, 1)
    assert effect(nothing, nothing) is None


def test_groups_that_were_asked_nothing_do_not_count() -> None:
    arm, base = students(0.3, 0.01, groups=40)
    more = [Measured(np.concatenate([one.sums, np.zeros((3, 60, 2))], 1), ratio, -1) for one in (arm, base)]
    assert effect(*more) == effect(arm, base)


def test_holm_by_hand() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([]) == []
