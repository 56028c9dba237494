"""Intervals by resampling whole groups: dialogues or speakers, never single turns.

Turns of one dialogue are alike; resampling turns would give intervals that are too narrow.
Letters: ``G`` groups, ``S`` sums, ``R`` rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A percentile interval at ``LEVEL``, and over how many groups."""

    low: float
    high: float
    groups: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def interval(
    groups: Sequence[str],
    columns: Sequence[Sequence[float]],
    statistic: Callable[[Array], Array],
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Interval | None:
    """A percentile bootstrap interval of a statistic of sums.

    Args:
        groups: the group of each sample.
        columns: ``S`` columns with one value a sample, such as negative log-likelihoods and tokens.
        statistic: takes sums ``(R, S)`` and gives ``(R,)``, such as the exponential of a ratio.
        rounds: how many times the groups are drawn with replacement.
        seed: of the draw; two contenders with one seed are resampled alike, so their differences are paired.

    Returns:
        None where there are fewer than two groups, or where a resample leaves the statistic undefined.
    """
    names, inverse = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    sums: Array = np.zeros((len(names), len(columns)))
    for number, column in enumerate(columns):
        np.add.at(sums[:, number], inverse, np.asarray(column, dtype=np.float64))
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = statistic(counts @ sums)
    values = values[np.isfinite(values)]
    if len(values) < 0.99 * rounds:  # a share of groups without a single token makes the interval a fiction
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), len(names))
