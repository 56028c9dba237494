"""What is measured, by the field's definitions, each with how many it was measured on.

Perplexity is weighted by tokens over the whole set, ends included, in deploy mode: no notes. Bits per
byte is the same likelihood without a tokenizer in it. Overlap metrics (BLEU, ROUGE) reward generic
text; they are read beside the baselines, never alone.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from pride_mm.evaluation.bootstrap import Array, Interval, interval

DISTINCT_TEXTS = 200
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Score:
    """One number: ``n`` is what it was measured on, in ``unit``; no interval where none can be had."""

    value: float
    n: int
    unit: str = "responses"
    interval: Interval | None = None


@dataclass(frozen=True)
class Likelihood:
    """What a model gave the gold responses, one entry a sample.

    Attributes:
        keys, groups: of the samples, in order.
        nats: negative log-likelihood of the response and its end, summed over its tokens.
        tokens: how many tokens that were.
        bytes: UTF-8 bytes of the response's text.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]

    def on(self, keys: Sequence[str]) -> "Likelihood":
        """The same for some of the samples, in the order of ``keys``."""
        where = {key: number for number, key in enumerate(self.keys)}
        rows = [where[key] for key in keys]
        return Likelihood(
            tuple(keys),
            tuple(self.groups[row] for row in rows),
            tuple(self.nats[row] for row in rows),
            tuple(self.tokens[row] for row in rows),
            tuple(self.bytes[row] for row in rows),
        )


def perplexity(given: Likelihood) -> Score | None:
    """exp(nats / tokens) over the whole set; None where there is no token."""
    if not sum(given.tokens):
        return None
    value = math.exp(math.fsum(given.nats) / sum(given.tokens))
    around = interval(given.groups, [given.nats, given.tokens], lambda sums: np.exp(sums[:, 0] / sums[:, 1]))
    return Score(value, sum(given.tokens), "tokens", around)


def bits_per_byte(given: Likelihood) -> Score | None:
    """Bits for one byte of the responses' text; the end counts as nats but not as a byte."""
    if not sum(given.bytes):
        return None
    value = math.fsum(given.nats) / math.log(2) / sum(given.bytes)
    around = interval(given.groups, [given.nats, given.bytes], lambda sums: sums[:, 0] / sums[:, 1] / math.log(2))
    return Score(value, sum(given.bytes), "bytes", around)


def perplexity_difference(one: Likelihood, other: Likelihood) -> Score | None:
    """Perplexity of ``one`` minus that of ``other`` on the samples both scored, resampled in pairs."""
    both = [key for key in one.keys if key in set(other.keys)]
    first, second = one.on(both), other.on(both)
    if not sum(first.tokens) or not sum(second.tokens):
        return None

    def statistic(sums: Array) -> Array:
        return np.asarray(np.exp(sums[:, 0] / sums[:, 1]) - np.exp(sums[:, 2] / sums[:, 3]))

    columns = [first.nats, first.tokens, second.nats, second.tokens]
    value = float(statistic(np.array([[math.fsum(column) for column in columns]]))[0])
    return Score(value, len(both), "responses", interval(first.groups, columns, statistic))


# ---- what was written -------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """How generated texts compare with the gold ones. ``empty`` names the samples without an answer."""

    scores: dict[str, Score]
    empty: tuple[str, ...]


def written(keys: Sequence[str], texts: Sequence[str], gold: Sequence[str]) -> Written:
    """BLEU, ROUGE-L and Distinct of texts; an empty text counts with zero overlap and is named."""
    scores = {
        "bleu": Score(bleu(texts, gold), len(texts)),
        "rouge_l": Score(rouge_l(texts, gold), len(texts)),
    }
    for n in (1, 2):
        scores[f"distinct_{n}"] = Score(distinct(texts, n), min(len(texts), DISTINCT_TEXTS), "texts")
    empty = tuple(key for key, text in zip(keys, texts, strict=True) if not text.strip())
    scores["empty"] = Score(float(len(empty)), len(texts))
    return Written(scores, empty)


def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU()


def bleu(texts: Sequence[str], gold: Sequence[str]) -> float:
    """Corpus BLEU-4 by sacrebleu with its defaults, 0 to 100, one reference each."""
    if not texts:
        return math.nan
    return float(_bleu().corpus_score(list(texts), [list(gold)]).score)


def rouge_l(texts: Sequence[str], gold: Sequence[str]) -> float:
    """Mean F1 of ROUGE-L by rouge-score with its Porter stemmer, 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer

    if not texts:
        return math.nan
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return (
        100
        * math.fsum(scorer.score(right, text)["rougeL"].fmeasure for text, right in zip(texts, gold, strict=True))
        / len(texts)
    )


def distinct(texts: Sequence[str], n: int, count: int = DISTINCT_TEXTS) -> float:
    """Different n-grams over all n-grams of the first ``count`` texts, 0 to 100.

    It falls as texts are added, so that only figures over equally many texts compare. Words are
    lower-cased runs of letters and digits; every other sign is a word.
    """
    grams = [gram for text in texts[:count] for gram in _grams(text, n)]
    return 100 * len(set(grams)) / len(grams) if grams else 0.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _WORDS.findall(text.lower())
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def signatures(count: int) -> dict[str, str]:
    """How each metric was made, for a reader who wants to compare: library, version, options."""
    scorer = _bleu()
    scorer.corpus_score(["a"], [["a"]])
    return {
        "perplexity": "exp of the mean negative log-likelihood over all response tokens, ends included; no notes given",
        "bits_per_byte": "the same likelihood in bits, over the UTF-8 bytes of the response",
        "bleu": str(scorer.get_signature()),
        "rouge_l": f"rouge-score {version('rouge-score')}, rougeL, F1, Porter stemmer on",
        "distinct": f"over the first {min(count, DISTINCT_TEXTS)} texts; lower-cased words and signs",
        "heads": f"scikit-learn {version('scikit-learn')}; macro-F1 over the classes that occur in the gold labels",
        "intervals": "95 %, percentile bootstrap over groups, 2000 rounds",
    }


# ---- heads ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadScores:
    """How well one head reads its target.

    Attributes:
        classes: in the order of the matrix.
        matrix: ``matrix[gold][predicted]`` counts.
        predicted: class number by sample key.
    """

    accuracy: Score
    macro_f1: Score
    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    predicted: dict[str, int] = field(repr=False)


def head_scores(
    keys: Sequence[str], groups: Sequence[str], gold: Sequence[int], predicted: Sequence[int], classes: tuple[str, ...]
) -> HeadScores | None:
    """Accuracy and macro-F1 over the samples that have a gold label; None where none has."""
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    if not gold:
        return None
    right = [float(a == b) for a, b in zip(gold, predicted, strict=True)]
    around = interval(groups, [right, [1.0] * len(right)], lambda sums: 100 * sums[:, 0] / sums[:, 1])
    macro = 100 * f1_score(gold, predicted, labels=sorted(set(gold)), average="macro", zero_division=0)
    matrix = confusion_matrix(gold, predicted, labels=list(range(len(classes))))
    return HeadScores(
        accuracy=Score(100 * float(accuracy_score(gold, predicted)), len(gold), "labels", around),
        macro_f1=Score(float(macro), len(gold), "labels"),
        classes=classes,
        matrix=tuple(tuple(int(count) for count in row) for row in matrix),
        predicted=dict(zip(keys, (int(number) for number in predicted), strict=True)),
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
