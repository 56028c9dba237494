"""Evidence on fields whose values are counted: choices and scales, each turn, each option.

Letters: U units (an item; a turn of it; an option of it), A annotators, K values, I items.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
from numpy.typing import NDArray

from annotate.agreement import coefficients
from annotate.agreement.coefficients import Floats
from annotate.agreement.ratings import Rating
from annotate.agreement.resampling import ALL_THE_SAME, Statistic

Codes = NDArray[numpy.int64]
NOBODY_ELSE = "nobody else annotated the same items"


@dataclass(frozen=True)
class Counted:
    """Who said which value of each unit.

    ``codes`` (U, A) are positions in ``values``, -1 where an annotator said nothing; ``item`` (U,) is each unit's
    item. ``ordinal`` says that the values have an order; ``each`` what a unit is where it isn't the item.
    """

    codes: Codes
    item: NDArray[numpy.int64]
    annotators: tuple[str, ...]
    values: tuple[Any, ...]
    ordinal: bool = False
    each: str = ""

    @property
    def measure(self) -> str:
        """The name of the headline."""
        level = "ordinal" if self.ordinal else "nominal"
        return f"Krippendorff's alpha, {level}{self.each and f', each {self.each}'}"

    def only(self, items: NDArray[numpy.bool_]) -> "Counted":
        """The evidence on some items, by a mask over the items' numbers."""
        kept = items[self.item]
        return Counted(self.codes[kept], self.item[kept], self.annotators, self.values, self.ordinal, self.each)

    def without(self, annotator: int) -> "Counted":
        """The evidence without one annotator."""
        codes = numpy.delete(self.codes, annotator, 1)
        names = self.annotators[:annotator] + self.annotators[annotator + 1 :]
        return Counted(codes, self.item, names, self.values, self.ordinal, self.each)

    @cached_property
    def said(self) -> Floats:
        """How many annotators said each value of each unit, (U, K)."""
        return numpy.stack([(self.codes == value).sum(1) for value in range(len(self.values))], 1).astype(float)

    def headline(self) -> Statistic:
        """Krippendorff's alpha over the units that two or more annotators judged."""
        paired = self.said.sum(1) > 1
        said = self.said[paired]
        used = said.any(0)
        why = "" if len(said) else NOBODY_ELSE
        if not why and used.sum() < 2:
            why = ALL_THE_SAME
        if why:
            return Statistic(self.measure, numpy.zeros((0, 1)), lambda sums: sums[:, 0], len(said), why)
        counts, size = said[:, used], int(used.sum())
        sums = self._coincidences(paired, used)

        def of(sums: Floats) -> Floats:
            return coefficients.alpha(sums.reshape(-1, size, size), self.ordinal)

        def library() -> float:
            import krippendorff

            level = "ordinal" if self.ordinal else "nominal"
            return float(krippendorff.alpha(value_counts=counts.astype(int), level_of_measurement=level))

        return Statistic(self.measure, sums, of, len(said), library=library)

    def _coincidences(self, paired: NDArray[numpy.bool_], used: NDArray[numpy.bool_]) -> Any:
        """The coincidence matrix of each item over the values used, (I, K * K): a unit of n weighs 1 / (n - 1)."""
        place = numpy.cumsum(used) - 1
        codes, item = self.codes[paired], numpy.unique(self.item[paired], return_inverse=True)[1]
        weight = 1 / (self.said[paired].sum(1) - 1)
        size, items = int(used.sum()), int(item.max()) + 1
        found = []
        for one, other in itertools.permutations(range(len(self.annotators)), 2):
            both = (codes[:, one] >= 0) & (codes[:, other] >= 0)
            cells = place[codes[both, one]] * size + place[codes[both, other]]
            found.append(_by_cell(item[both], cells, size * size, items, weight[both]))
        return sum(found[1:], found[0])

    def others(self) -> list[Statistic]:
        """The kappas, and the intraclass correlations of scales, as far as they are defined."""
        found = [self._cohen(), self._fleiss()] + ([self._icc(False), self._icc(True)] if self.ordinal else [])
        return [statistic for statistic in found if statistic is not None]

    def _pairs(self) -> list[tuple[int, int]]:
        judged = self.codes >= 0
        pairs = itertools.combinations(range(len(self.annotators)), 2)
        return [(one, other) for one, other in pairs if (judged[:, one] & judged[:, other]).sum() > 1]

    def _cohen(self) -> Statistic | None:
        from scipy import sparse  # type: ignore[import-untyped]

        pairs, size = self._pairs(), len(self.values)
        if not pairs:
            return None
        item = numpy.unique(self.item, return_inverse=True)[1]
        weighted = ", quadratic weights" if self.ordinal else ""
        mean = f", mean of {len(pairs)} pairs" if len(pairs) > 1 else ""
        tables = []
        for one, other in pairs:
            both = (self.codes[:, one] >= 0) & (self.codes[:, other] >= 0)
            cells = self.codes[both, one] * size + self.codes[both, other]
            tables.append(_by_cell(item[both], cells, size * size, int(item.max()) + 1))

        def of(sums: Floats) -> Floats:
            every = sums.reshape(len(sums), len(pairs), size, size)
            kappas = numpy.stack([coefficients.cohen(every[:, n], self.ordinal) for n in range(len(pairs))])
            defined = numpy.isfinite(kappas).sum(0)
            return coefficients.ratio(numpy.nansum(kappas, 0), defined)

        def library() -> float:
            from sklearn.metrics import cohen_kappa_score

            kappas = []
            for one, other in pairs:
                both = (self.codes[:, one] >= 0) & (self.codes[:, other] >= 0)
                left, right = self.codes[both, one], self.codes[both, other]
                if len({*left.tolist(), *right.tolist()}) > 1:
                    weights = "quadratic" if self.ordinal else None
                    kappas.append(cohen_kappa_score(left, right, labels=range(size), weights=weights))
            return float(numpy.mean(kappas))

        units = int(sum(table.sum() for table in tables))
        sums = sparse.hstack(tables, format="csr")
        return Statistic(f"Cohen's kappa{weighted}{mean}", sums, of, units, library=library)

    def _fleiss(self) -> Statistic | None:
        """Of the units that equally many annotators judged, as many as there are; Cohen's does for two."""
        numbers = self.said.sum(1).astype(int)
        most = max(numbers.tolist(), default=0, key=lambda n: (n > 2) * (numbers == n).sum() * n)
        if most < 3:
            return None
        full = numbers == most
        said, item = self.said[full], self.item[full]
        agreeing = (said * (said - 1)).sum(1) / (most * (most - 1))
        sums = _by_item(numpy.column_stack([agreeing, numpy.ones(len(said)), said]), item)

        def of(sums: Floats) -> Floats:
            return coefficients.fleiss(sums[:, 0], sums[:, 1], sums[:, 2:])

        def library() -> float:
            from statsmodels.stats.inter_rater import fleiss_kappa

            return float(fleiss_kappa(said, method="fleiss"))

        return Statistic(f"Fleiss' kappa, {most} annotators", sums, of, len(said), library=library)

    def _icc(self, mean_of_all: bool) -> Statistic | None:
        """Over the items that all annotators rated; where some rated few, over those who rated half of the most."""
        rated = (self.codes >= 0).sum(0)
        kept = rated * 2 >= rated.max(initial=0)
        complete = (self.codes[:, kept] >= 0).all(1)
        k = int(kept.sum())
        if k < 2 or complete.sum() < 2:
            return None
        ratings = numpy.array(self.values, dtype=float)[self.codes[complete][:, kept]]
        ones = numpy.ones(len(ratings))
        sums = numpy.column_stack([ones, (ratings**2).sum(1), ratings.mean(1) ** 2, ratings])

        def of(sums: Floats) -> Floats:
            return coefficients.icc(sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:], mean_of_all)

        name = f"ICC(2,k), mean of {k} annotators" if mean_of_all else f"ICC(2,1), {k} annotators"
        return Statistic(name, sums, of, len(ratings))

    def with_others(self, annotator: int) -> tuple[float | None, int]:
        """The share of units where an annotator said what the others' majority (of a scale: median) is, of how many."""
        own = self.codes[:, annotator]
        others = self.said - (own[:, None] == numpy.arange(len(self.values)))
        if self.ordinal:  # the two middle ones may differ
            half = numpy.cumsum(others, 1) * 2 - others.sum(1, keepdims=True)
            consensus, upper = (half >= 0).argmax(1), (half > 0).argmax(1)
            clear = consensus == upper
        else:
            consensus = others.argmax(1)
            clear = (others == others.max(1, keepdims=True)).sum(1) == 1
        judged = (own >= 0) & (others.sum(1) > 0) & clear
        return (float((own == consensus)[judged].mean()) if judged.any() else None), int(judged.sum())

    def confusion(self) -> Floats:
        """How often one annotator said the row's value and another the column's of the same unit, (K, K)."""
        return self.said.T @ self.said - numpy.diag(self.said.sum(0))

    def disagreement(self) -> dict[int, float]:
        """For each item that two or more judged, 0 to 1: how far the pairs are apart, on a scale by distance."""
        paired = self.said.sum(1) > 1
        said, item = self.said[paired], self.item[paired]
        values = numpy.arange(len(self.values))
        apart = abs(values[:, None] - values) / max(1, len(values) - 1) if self.ordinal else values[:, None] != values
        number = said.sum(1)
        far = numpy.einsum("ui,uj,ij->u", said, said, apart.astype(float)) / (number * (number - 1))
        items, place = numpy.unique(item, return_inverse=True)
        means = numpy.bincount(place, far) / numpy.maximum(numpy.bincount(place), 1)
        return {int(one): float(mean) for one, mean in zip(items, means, strict=True)}


def _by_item(rows: Floats, item: NDArray[numpy.int64]) -> Floats:
    """The rows of each item summed, (I, M), items without a row left out."""
    _, number = numpy.unique(item, return_inverse=True)
    sums = numpy.zeros((int(number.max(initial=-1)) + 1, rows.shape[1]))
    numpy.add.at(sums, number, rows)
    return sums


def _by_cell(
    item: NDArray[numpy.int64], cells: NDArray[numpy.int64], size: int, items: int, weight: Floats | None = None
) -> Any:
    """What is counted in each cell of each item, (I, size), sparse: an item fills few of its cells."""
    from scipy import sparse  # type: ignore[import-untyped]

    weights = numpy.ones(len(cells)) if weight is None else weight
    return sparse.csr_array((weights, (item, cells)), shape=(items, size))


def counted(
    ratings: Sequence[Rating],
    annotators: tuple[str, ...],
    values: tuple[Any, ...],
    ordinal: bool = False,
    each: str = "",
) -> Counted:
    """The evidence on a field from what was said of each item; a rating's value is a list, with one entry a unit."""
    column = {name: number for number, name in enumerate(annotators)}
    code = {value: number for number, value in enumerate(values)}
    rows: list[Codes] = []
    item: list[int] = []
    for number, rating in enumerate(ratings):
        units = max((len(said) for said in rating.values()), default=0)  # type: ignore[arg-type]
        block = numpy.full((units, len(annotators)), -1)
        for name, said in rating.items():
            for unit, value in enumerate(said):  # type: ignore[arg-type]
                if value is not None:
                    block[unit, column[name]] = code[value]
        rows.append(block)
        item += [number] * units
    codes = numpy.concatenate(rows) if rows else numpy.zeros((0, len(annotators)), dtype=int)
    return Counted(codes, numpy.array(item, dtype=int), annotators, values, ordinal, each)
