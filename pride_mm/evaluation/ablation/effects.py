"""What an arm is worth against the base: a difference in pairs, with an interval over groups and seeds.

Two things are by chance: which dialogues the test set holds, and which seed a student was trained from. Both are drawn
anew together (a two-level bootstrap): the same groups for both arms, and the seeds in pairs.
Letters: ``E`` seeds, ``G`` groups, ``C`` sums, ``R`` rounds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pride_mm.evaluation.bootstrap import LEVEL, ROUNDS, Array

Statistic = Callable[[Array], Array]


@dataclass(frozen=True)
class Measured:
    """What the students of one arm did in one measure.

    Attributes:
        sums: ``(E, G, C)``, one row a group: what the statistic is made of.
        statistic: takes sums ``(..., C)`` and gives ``(...)``.
        better: +1 where more is better, -1 where less is.
    """

    sums: Array
    statistic: Statistic
    better: int

    @property
    def values(self) -> Array:
        """One number a seed, over all groups."""
        return self.statistic(self.sums.sum(1))


@dataclass(frozen=True)
class Effect:
    """An arm minus the base.

    Attributes:
        value: mean over seeds of the difference.
        low, high: the 95 % interval; with one seed over groups alone.
        by_seed: the difference of each seed.
        size: Cohen's d of the differences over seeds (their mean in their standard deviations); None with one seed, or
            where all are the same.
        p: two-sided, of the bootstrap.
        adjusted: ``p`` by Holm over the arms that were compared at once.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    size: float | None
    p: float
    better: int
    groups: int
    adjusted: float = math.nan

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``same``: what the arm is, where the family of tests allows to say so."""
        if not self.adjusted < 1 - LEVEL or self.low <= 0 <= self.high:
            return "same"
        return "better" if self.value * self.better > 0 else "worse"


def effect(arm: Measured, base: Measured, rounds: int = ROUNDS, seed: int = 0) -> Effect | None:
    """What the arm has more than the base; None where the statistic is undefined in a hundredth of the rounds.

    Args:
        arm, base: of the same seeds and groups, in the same order.
        rounds: how often groups and seeds are drawn.
        seed: of the draw.
    """
    assert arm.sums.shape == base.sums.shape, "arms are compared on the same seeds and groups"
    some = ((arm.sums != 0) | (base.sums != 0)).any((0, 2))  # a group that was asked nothing says nothing
    ours, theirs = arm.sums[:, some], base.sums[:, some]
    seeds, groups, _ = ours.shape
    if not groups:
        return None
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(groups, np.full(groups, 1 / groups), size=rounds).astype(np.float64)
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rounds) / seeds
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        apart = np.stack(
            [arm.statistic(counts @ ours[e]) - base.statistic(counts @ theirs[e]) for e in range(seeds)], axis=1
        )
        found = (apart * drawn).sum(1)
        by_seed = arm.values - base.values
    found = found[np.isfinite(found)]
    if len(found) < 0.99 * rounds or not np.isfinite(by_seed).all():
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    spread = float(by_seed.std(ddof=1)) if seeds > 1 else 0.0
    p = 2 * min(np.mean(found <= 0), np.mean(found >= 0))
    return Effect(
        value=float(by_seed.mean()),
        low=float(low),
        high=float(high),
        by_seed=tuple(float(one) for one in by_seed),
        size=float(by_seed.mean()) / spread if spread > 0 else None,
        p=float(min(1.0, max(p, 1 / rounds))),
        better=arm.better,
        groups=groups,
    )


def adjusted(p: Sequence[float]) -> list[float]:
    """Holm's step-down over a family of tests (statsmodels)."""
    from statsmodels.stats.multitest import multipletests

    return [float(one) for one in multipletests(list(p), method="holm")[1]] if p else []
