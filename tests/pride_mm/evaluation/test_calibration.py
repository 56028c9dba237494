"""The calibration error on known probabilities, and against scikit-learn's reliability curve."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from pride_mm.evaluation.calibration import calibration


def test_a_head_that_is_always_sure_and_half_right_is_off_by_half() -> None:
    found = calibration({"a": (1.0, 0.0), "b": (1.0, 0.0)}, {"a": 0, "b": 1}, {"a": "x", "b": "y"})
    assert found is not None
    assert found.error.value == pytest.approx(50)
    assert (found.confidence, found.accuracy) == (1.0, 0.5)
    assert calibration({"a": (1.0, 0.0)}, {}, {}) is None


def test_the_bins_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    given = draw.dirichlet(np.ones(3), 400)
    labels = np.array([draw.choice(3, p=row**2 / (row**2).sum()) for row in given])  # too unsure by design
    keys = [f"k{number}" for number in range(400)]
    found = calibration(
        dict(zip(keys, map(tuple, given.tolist()), strict=True)),
        dict(zip(keys, labels.tolist(), strict=True)),
        {key: key for key in keys},
    )
    right, sure = calibration_curve(given.argmax(1) == labels, given.max(1), n_bins=10)
    assert found is not None
    assert [one.accuracy for one in found.bins] == pytest.approx(right.tolist())
    assert [one.confidence for one in found.bins] == pytest.approx(sure.tolist())
    weights = np.array([one.samples for one in found.bins])
    assert found.error.value == pytest.approx(100 * float((weights * abs(right - sure)).sum() / 400))
    assert found.error.interval is not None
    assert found.error.interval.low < found.error.value + 5
