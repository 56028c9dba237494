"""How well the heads read their targets, and whether they know how well.

Calibration is that of the likeliest class: samples are put into ten bins of equal width by the probability it was
given; the expected calibration error (Guo et al., ICML 2017) is the mean gap between how sure the head was and
how often it was right, weighted by the samples of each bin. Letters: ``N`` samples, ``C`` classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pride_mm.evaluation.bootstrap import interval
from pride_mm.evaluation.metrics.score import Score

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The samples whose likeliest class got about the same probability.

    Attributes:
        count: of samples; an empty bin is not among the bins.
        sure: the mean probability of the likeliest class, 0 to 1.
        right: the share of samples whose likeliest class is the gold one, 0 to 1.
    """

    count: int
    sure: float
    right: float


def calibration(sure: Sequence[float], right: Sequence[bool], bins: int = BINS) -> tuple[Bin, ...]:
    """Samples by how sure the head was, from unsure to sure."""
    held: dict[int, list[tuple[float, bool]]] = {}
    for one, hit in zip(sure, right, strict=True):
        held.setdefault(min(int(one * bins), bins - 1), []).append((one, hit))
    return tuple(
        Bin(len(rows), math.fsum(one for one, _ in rows) / len(rows), sum(hit for _, hit in rows) / len(rows))
        for _, rows in sorted(held.items())
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error in points, 0 to 100."""
    total = sum(each.count for each in bins)
    return 100 * math.fsum(each.count * abs(each.sure - each.right) for each in bins) / total


@dataclass(frozen=True)
class HeadScores:
    """How well one head reads its target.

    Attributes:
        classes: in the order of the matrix.
        matrix: ``matrix[gold][predicted]`` counts.
        predicted: class number by sample key.
        calibration_error: expected, in points; None where only classes are known, as of a constant guess.
        bins: what it is made of.
    """

    accuracy: Score
    macro_f1: Score
    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    predicted: dict[str, int] = field(repr=False)
    calibration_error: Score | None = None
    bins: tuple[Bin, ...] = ()


def head_scores(
    keys: Sequence[str],
    groups: Sequence[str],
    gold: Sequence[int],
    predicted: Sequence[int],
    classes: tuple[str, ...],
    sure: Sequence[float] | None = None,
) -> HeadScores | None:
    """Accuracy, macro-F1 and calibration over the samples that have a gold label; None where none has.

    ``sure`` is the probability that was given to each predicted class, 0 to 1; None where there is none.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    if not gold:
        return None
    right = [float(a == b) for a, b in zip(gold, predicted, strict=True)]
    around = interval(groups, [right, [1.0] * len(right)], lambda sums: 100 * sums[:, 0] / sums[:, 1])
    macro = 100 * f1_score(gold, predicted, labels=sorted(set(gold)), average="macro", zero_division=0)
    matrix = confusion_matrix(gold, predicted, labels=list(range(len(classes))))
    bins = () if sure is None else calibration(sure, [hit == 1 for hit in right])
    return HeadScores(
        accuracy=Score(100 * float(accuracy_score(gold, predicted)), len(gold), "labels", around),
        macro_f1=Score(float(macro), len(gold), "labels"),
        classes=classes,
        matrix=tuple(tuple(int(count) for count in row) for row in matrix),
        predicted=dict(zip(keys, (int(number) for number in predicted), strict=True)),
        calibration_error=Score(calibration_error(bins), len(gold), "labels") if bins else None,
        bins=bins,
    )


def accuracy_difference(
    one: HeadScores, other: HeadScores, gold: dict[str, int], groups: dict[str, str]
) -> Score | None:
    """Accuracy of ``one`` minus that of ``other`` in points, on the samples both read, resampled in pairs."""
    both = [key for key in one.predicted if key in other.predicted and key in gold]
    if not both:
        return None
    first = [float(one.predicted[key] == gold[key]) for key in both]
    second = [float(other.predicted[key] == gold[key]) for key in both]
    around = interval(
        [groups[key] for key in both],
        [first, second, [1.0] * len(both)],
        lambda sums: 100 * (sums[:, 0] - sums[:, 1]) / sums[:, 2],
    )
    return Score(100 * (math.fsum(first) - math.fsum(second)) / len(both), len(both), "labels", around)
