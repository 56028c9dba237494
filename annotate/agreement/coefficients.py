"""Coefficients of agreement from sums over items, for many resamples of the items at once.

Each coefficient is a function of sums that add up over items, so that a bootstrap is one matrix product.
Letters: R resamples, K values that were said, A annotators. Undefined is NaN.

Sources: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability"; Cohen (1968), "Weighted kappa";
Fleiss (1971), "Measuring nominal scale agreement among many raters"; Shrout and Fleiss (1979),
"Intraclass correlations: uses in assessing rater reliability".
"""

from typing import Any

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]


def alpha(coincidences: Floats, ordinal: bool) -> Floats:
    """Krippendorff's alpha of coincidence matrices (R, K, K), the values in their order."""
    said = coincidences.sum(-1)
    total = said.sum(-1)
    if ordinal:
        # the ordinal distance of two values is that of their middle ranks
        ranks = numpy.cumsum(said, -1) - said / 2
        observed = 2 * ((said * ranks**2).sum(-1) - numpy.einsum("rij,ri,rj->r", coincidences, ranks, ranks))
        expected = 2 * (total * (said * ranks**2).sum(-1) - (said * ranks).sum(-1) ** 2)
    else:
        observed = total - numpy.einsum("rii->r", coincidences)
        expected = total**2 - (said**2).sum(-1)
    return 1 - ratio((total - 1) * observed, expected)


def cohen(tables: Floats, quadratic: bool) -> Floats:
    """Cohen's kappa of contingency tables (R, K, K): rows one annotator, columns the other."""
    values = numpy.arange(tables.shape[-1])
    weights = (values[:, None] - values) ** 2 if quadratic else values[:, None] != values
    expected = tables.sum(-1)[:, :, None] * tables.sum(-2)[:, None, :]
    return 1 - ratio((tables * weights).sum((-1, -2)) * tables.sum((-1, -2)), (expected * weights).sum((-1, -2)))


def fleiss(agreeing: Floats, units: Floats, said: Floats) -> Floats:
    """Fleiss' kappa.

    Args:
        agreeing: the sum over units of the share of pairs of annotators that agree, (R,).
        units: how many units, each by equally many annotators, (R,).
        said: how often each value was said, (R, K).
    """
    observed = ratio(agreeing, units)
    expected = ratio((said**2).sum(-1), said.sum(-1) ** 2)
    return ratio(observed - expected, 1 - expected)


def icc(items: Floats, squares: Floats, means: Floats, columns: Floats, mean_of_all: bool) -> Floats:
    """ICC(2,1), or ICC(2,k) of the annotators' mean: two-way random effects, absolute agreement.

    Args:
        items: how many items, each rated by all A annotators, (R,).
        squares: sum of the squared ratings, (R,).
        means: sum of the squared means of the items, (R,).
        columns: sum of the ratings of each annotator, (R, A).
        mean_of_all: ICC(2,k) instead of ICC(2,1).
    """
    k = columns.shape[-1]
    centre = columns.sum(-1) ** 2 / (items * k)
    between_items = k * means - centre
    between_annotators = (columns**2).sum(-1) / items - centre
    left = squares - centre - between_items - between_annotators
    rows = between_items / (items - 1)
    judges = between_annotators / (k - 1)
    error = left / ((items - 1) * (k - 1))
    shared = (judges - error) / items
    below = rows + shared if mean_of_all else rows + (k - 1) * error + k * shared
    return ratio(rows - error, numpy.maximum(below, 0))  # below zero there is no variance that could be shared


def ratio(above: Any, below: Any) -> Floats:
    """Above over below, NaN where that is undefined."""
    above, below = numpy.asarray(above, dtype=float), numpy.asarray(below, dtype=float)
    # what cancels leaves a rest of rounding, which is no variance
    defined = numpy.abs(below) > 1e-9
    return numpy.where(defined, above / numpy.where(defined, below, 1.0), numpy.nan)
