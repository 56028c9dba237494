"""What is measured, by the field's definitions, each with how many it was measured on. A file a kind of metric."""

from pride_mm.evaluation.metrics.heads import HeadScores, accuracy_difference, calibration, head_scores
from pride_mm.evaluation.metrics.likelihood import Likelihood, bits_per_byte, perplexity, perplexity_difference
from pride_mm.evaluation.metrics.score import Score, mean
from pride_mm.evaluation.metrics.signatures import signatures
from pride_mm.evaluation.metrics.written import (
    Written,
    bleu,
    bleu_of,
    bleu_sums,
    chrf,
    distinct,
    meteor,
    rouge,
    written,
)

__all__ = [
    "HeadScores",
    "Likelihood",
    "Score",
    "Written",
    "accuracy_difference",
    "bits_per_byte",
    "bleu",
    "bleu_of",
    "bleu_sums",
    "calibration",
    "chrf",
    "distinct",
    "head_scores",
    "mean",
    "meteor",
    "perplexity",
    "perplexity_difference",
    "rouge",
    "signatures",
    "written",
]
