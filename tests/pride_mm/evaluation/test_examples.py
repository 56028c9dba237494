"""The ends of what a run gains and loses."""

import pytest

from pride_mm.evaluation.examples import extremes, nats_per_token
from pride_mm.evaluation.metrics import Likelihood


def _given(**nats: float) -> Likelihood:
    keys = tuple(nats)
    return Likelihood(keys, keys, tuple(nats.values()), (2,) * len(keys), (9,) * len(keys))


def test_the_largest_gains_come_first_then_the_largest_losses() -> None:
    base = _given(a=4.0, b=4.0, c=4.0, d=4.0, gone=1.0)
    run = _given(a=3.0, b=8.0, c=1.0, d=5.0, new=1.0)
    assert extremes(run, base, 1) == [("c", 1.5), ("b", -2.0)]
    assert extremes(run, base, 9) == [("c", 1.5), ("a", 0.5), ("b", -2.0), ("d", -0.5)]
    assert extremes(base, base) == []
    assert nats_per_token({"run": run, "teacher": base}, "gone") == {"teacher": pytest.approx(0.5)}
