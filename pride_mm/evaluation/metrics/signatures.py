"""How each metric that needs no model of its own is made, for a reader who wants to compare."""

from importlib.metadata import version

from pride_mm.evaluation.bootstrap import LEVEL, ROUNDS
from pride_mm.evaluation.metrics.heads import BINS
from pride_mm.evaluation.metrics.written import signatures as written


def signatures(count: int) -> dict[str, str]:
    """By metric: library, version, tokenisation, options; ``count`` answers were compared."""
    return {
        "perplexity": "exp of the mean negative log-likelihood over all response tokens, ends included; no notes given",
        "bits_per_byte": "the same likelihood in bits, over the UTF-8 bytes of the response",
        **written(count),
        "heads": f"scikit-learn {version('scikit-learn')}; macro-F1 over the classes that occur in the gold labels",
        "calibration_error": f"expected calibration error of the likeliest class, {BINS} bins of equal width; the most "
        "common class is as sure as it is common in the training split",
        "intervals": f"{LEVEL:.0%}, percentile bootstrap over groups, {ROUNDS} rounds",
    }
