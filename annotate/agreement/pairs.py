"""Evidence on fields that are compared, not counted: texts and time segments, each pair of annotators.

Letters: P pairs of annotators on one item, I items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy
from numpy.typing import NDArray

from annotate.agreement.codes import NOBODY_ELSE
from annotate.agreement.coefficients import Floats, ratio
from annotate.agreement.ratings import Rating
from annotate.agreement.resampling import Statistic

_SHUFFLED = 2000


@dataclass(frozen=True)
class Compared:
    """How alike the values of each pair of annotators are, 0 to 1.

    ``alike`` (P,), ``item`` (P,), ``pair`` (P, 2) are positions in ``annotators``. ``chance`` is the mean of pairs
    of values by two annotators of two different items: what agreement is there without looking.
    """

    alike: Floats
    item: NDArray[numpy.int64]
    pair: NDArray[numpy.int64]
    annotators: tuple[str, ...]
    measure: str
    chance: float | None = None

    def only(self, items: NDArray[numpy.bool_]) -> "Compared":
        """The evidence on some items, by a mask over the items' numbers."""
        kept = items[self.item]
        return Compared(self.alike[kept], self.item[kept], self.pair[kept], self.annotators, self.measure)

    def without(self, annotator: int) -> "Compared":
        """The evidence without one annotator, whose number stays unused."""
        kept = (self.pair != annotator).all(1)
        return Compared(self.alike[kept], self.item[kept], self.pair[kept], self.annotators, self.measure)

    def headline(self) -> Statistic:
        """The mean over all pairs."""
        item = numpy.unique(self.item, return_inverse=True)[1]
        sums = numpy.column_stack([numpy.bincount(item, self.alike), numpy.bincount(item)])
        why = "" if len(self.alike) else NOBODY_ELSE
        return Statistic(self.measure, sums, lambda sums: ratio(sums[:, 0], sums[:, 1]), len(self.alike), why)

    def with_others(self, annotator: int) -> tuple[float | None, int]:
        """The mean over an annotator's pairs, and how many there are."""
        mine = (self.pair == annotator).any(1)
        return (float(self.alike[mine].mean()) if mine.any() else None), int(mine.sum())

    def disagreement(self) -> dict[int, float]:
        """For each item, 1 minus the mean over its pairs."""
        item, number = numpy.unique(self.item, return_inverse=True)
        alike = numpy.bincount(number, self.alike) / numpy.maximum(numpy.bincount(number), 1)
        return {int(one): float(1 - value) for one, value in zip(item, alike, strict=True)}


def compared(
    ratings: Sequence[Rating], annotators: tuple[str, ...], alike: Callable[[Any, Any], float], measure: str
) -> Compared:
    """The evidence on a field from what was said of each item, by a similarity of two values."""
    column = {name: number for number, name in enumerate(annotators)}
    found: list[tuple[float, int, int, int]] = []
    for number, rating in enumerate(ratings):
        for (one, left), (other, right) in combinations(rating.items(), 2):
            found.append((alike(left, right), number, column[one], column[other]))
    table = numpy.array(found, dtype=float).reshape(-1, 4)
    places = table[:, 1:].astype(int)
    chance = shuffled(ratings, alike)
    return Compared(table[:, 0], places[:, 0], places[:, 1:], annotators, measure, chance)


def shuffled(ratings: Sequence[Rating], alike: Callable[[Any, Any], float], seed: int = 0) -> float | None:
    """The mean similarity of pairs by different annotators of different items, drawn with a seed.

    None where there is no such pair. Items whose values are the same would make chance look high, and rightly so.
    """
    said = [(item, name, value) for item, rating in enumerate(ratings) for name, value in rating.items()]
    if len(said) < 2:
        return None
    drawn = numpy.random.default_rng(seed).integers(len(said), size=(4 * _SHUFFLED, 2)).tolist()
    pairs = [(said[one], said[other]) for one, other in drawn]
    values = [alike(a[2], b[2]) for a, b in pairs if a[0] != b[0] and a[1] != b[1]][:_SHUFFLED]
    return float(numpy.mean(values)) if values else None
