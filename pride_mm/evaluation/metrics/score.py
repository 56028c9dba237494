"""One number, with what it was measured on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pride_mm.evaluation.bootstrap import Interval, interval


@dataclass(frozen=True)
class Score:
    """One number: ``n`` is what it was measured on, in ``unit``; no interval where none can be had."""

    value: float
    n: int
    unit: str = "responses"
    interval: Interval | None = None


def mean(groups: Sequence[str], values: Sequence[float], unit: str = "responses") -> Score | None:
    """The mean of one value a sample, with its interval over groups; None where there is no sample."""
    if not values:
        return None
    around = interval(groups, [values, [1.0] * len(values)], lambda sums: sums[:, 0] / sums[:, 1])
    return Score(math.fsum(values) / len(values), len(values), unit, around)
