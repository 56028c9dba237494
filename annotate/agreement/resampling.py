"""A statistic with its 95 % interval: a percentile bootstrap over items, seeded.

Items are drawn, not units: the turns of one item, and the pairs of its annotators, stay together.
Letters: I items, M sums, R resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy
from numpy.typing import NDArray

from annotate.agreement.coefficients import Floats

RESAMPLES = 1000
_LEVEL = (2.5, 97.5)
_CHUNK = 2**22
FEWEST = 5
FEW_ITEMS = f"fewer than {FEWEST} items, so no interval"
ALIKE = "too much alike to draw an interval from"
ALL_THE_SAME = "everybody said the same everywhere, so chance agreement is undefined"


@dataclass(frozen=True)
class Statistic:
    """What a figure is made from.

    ``sums`` has a row an item, (I, M), dense or as a sparse array of scipy; ``of`` makes figures (R,) from sums over
    items (R, M). ``units`` says how many units (or pairs) went in. ``why`` says why the figure is undefined, where that
    is known beforehand. ``library`` computes the figure by a library, where one has it.
    """

    name: str
    sums: Any = field(repr=False)
    of: Callable[[Floats], Floats] = field(repr=False)
    units: int
    why: str = ""
    library: Callable[[], float] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Figure:
    """A measured statistic with its 95 % interval.

    ``value`` is None where it is undefined, ``low`` and ``high`` where the items are too few, or too much alike, to
    draw from; ``why`` says why. Nothing here is ever NaN.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    units: int = 0
    why: str = ""
    chance: float | None = None


def measure(statistic: Statistic, interval: bool = True, chance: float | None = None, seed: int = 0) -> Figure:
    """The figure of a statistic, with its interval unless that isn't wanted."""
    if statistic.why:
        return Figure(statistic.name, None, units=statistic.units, why=statistic.why)
    value = float(statistic.of(statistic.sums.sum(0)[None])[0])
    if not numpy.isfinite(value):
        return Figure(statistic.name, None, units=statistic.units, why=ALL_THE_SAME)
    if statistic.library:
        value = statistic.library()
    low, high, why = bootstrap(statistic, seed) if interval else (None, None, "")
    return Figure(statistic.name, value, low, high, statistic.units, why, chance)


def bootstrap(statistic: Statistic, seed: int = 0) -> tuple[float | None, float | None, str]:
    """The 95 % interval; (None, None, why) with under five items, or where most resamples leave it undefined."""
    items, columns = statistic.sums.shape
    if items < FEWEST:
        return None, None, FEW_ITEMS
    step = max(1, _CHUNK // max(items, columns))
    turned = statistic.sums.T  # a sparse array multiplies from the left only
    figures = []
    for start in range(0, RESAMPLES, step):
        drawn = _draws(items, seed)[start : start + step].astype(float)
        figures.append(statistic.of((turned @ drawn.T).T))
    defined = numpy.concatenate(figures)
    defined = defined[numpy.isfinite(defined)]
    if len(defined) < RESAMPLES / 2:
        return None, None, ALIKE
    low, high = numpy.percentile(defined, _LEVEL)
    return float(low), float(high), ""


@lru_cache(maxsize=16)
def _draws(items: int, seed: int) -> NDArray[numpy.uint8]:
    """How often each resample draws each item, (R, I); kept, since every figure of a report asks for the same."""
    random = numpy.random.default_rng(seed)
    counts = numpy.empty((RESAMPLES, items), dtype=numpy.uint8)  # an item is drawn once on average, never 256 times
    for row in counts:
        row[:] = numpy.bincount(random.integers(items, size=items), minlength=items)
    return counts
