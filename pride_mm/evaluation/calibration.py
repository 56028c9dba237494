"""Does a head know how sure it may be: the reliability diagram and the expected calibration error.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017): samples go to bins of equal width by the
probability of their likeliest class; the error is the mean gap between that probability and the share that is right.
It is biased upwards where bins hold few samples, and says nothing of the classes that were not chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pride_mm.evaluation.bootstrap import Array, interval
from pride_mm.evaluation.metrics import Score

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Samples whose likeliest class has a probability of about ``confidence``, of which ``accuracy`` are right."""

    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """One head's. ``bins`` are those with samples, from unsure to sure; ``confidence`` and ``accuracy`` are of all."""

    bins: tuple[Bin, ...]
    confidence: float
    accuracy: float
    error: Score


def calibration(
    probabilities: Mapping[str, Sequence[float]], labels: Mapping[str, int], groups: Mapping[str, str]
) -> Calibration | None:
    """Hold a head's probabilities against gold labels.

    Args:
        probabilities: of each class, by key.
        labels: gold class numbers, by key.
        groups: by key, for the interval.

    Returns:
        None where no sample has both. The error is in percent.
    """
    keys = [key for key in probabilities if key in labels]
    if not keys:
        return None
    given = np.array([probabilities[key] for key in keys], dtype=np.float64)
    confidence = given.max(1)
    right = (given.argmax(1) == np.array([labels[key] for key in keys])).astype(np.float64)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    inside = np.eye(BINS)[place]
    gaps = inside * (confidence - right)[:, None]
    columns = [*gaps.T.tolist(), [1.0] * len(keys)]

    def error(sums: Array) -> Array:
        return np.asarray(100 * np.abs(sums[:, :-1]).sum(1) / sums[:, -1])

    value = float(error(np.array([[*gaps.sum(0), len(keys)]]))[0])
    around = interval([groups[key] for key in keys], columns, error)
    bins = tuple(
        Bin(int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
        for own in (place == number for number in range(BINS))
        if own.any()
    )
    score = Score(value, len(keys), "samples", around)
    return Calibration(bins, float(confidence.mean()), float(right.mean()), score)
