"""How what was written compares with the gold texts, word by word.

Overlap rewards generic text: it is read beside the baselines, never alone. An empty text overlaps with nothing: it
counts as zero, and is named.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from pride_mm.evaluation.metrics.score import Score, mean

DISTINCT_TEXTS = 200
ROUGES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Written:
    """How generated texts compare with the gold ones.

    ``empty`` names the samples without an answer; ``each`` is, of scores that are means, what each sample has, by key.
    """

    scores: dict[str, Score]
    empty: tuple[str, ...]
    each: dict[str, dict[str, float]]


def written(
    keys: Sequence[str], texts: Sequence[str], gold: Sequence[str], groups: Sequence[str] | None = None
) -> Written:
    """BLEU, chrF, ROUGE, METEOR and Distinct of texts; ``groups`` are those of the samples, each its own without."""
    groups = groups or keys
    scores = {f"bleu_{n}": Score(bleu(texts, gold, n), len(texts)) for n in (1, 2, 3)}
    scores |= {"bleu": Score(bleu(texts, gold), len(texts)), "chrf": Score(chrf(texts, gold), len(texts))}
    each = {**rouge(texts, gold), "meteor": meteor(texts, gold)}
    scores |= {name: found for name, values in each.items() if (found := mean(groups, values)) is not None}
    for n in (1, 2):
        scores[f"distinct_{n}"] = Score(distinct(texts, n), min(len(texts), DISTINCT_TEXTS), "texts")
    empty = tuple(key for key, text in zip(keys, texts, strict=True) if not text.strip())
    scores["empty"] = Score(float(len(empty)), len(texts))
    return Written(scores, empty, {name: dict(zip(keys, values, strict=True)) for name, values in each.items()})


def _bleu(n: int = 4) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(max_ngram_order=n)


def bleu(texts: Sequence[str], gold: Sequence[str], n: int = 4) -> float:
    """Corpus BLEU of n-grams up to ``n`` by sacrebleu with its defaults, 0 to 100, one reference each."""
    return float(_bleu(n).corpus_score(list(texts), [list(gold)]).score) if texts else math.nan


def bleu_sums(texts: Sequence[str], gold: Sequence[str]) -> list[list[float]]:
    """What BLEU is made of, a row a text: tokens written and right, n-grams that match, and n-grams, of 1 to 4."""
    from sacrebleu.metrics import BLEU

    scorer = BLEU(effective_order=True)  # as it wants it for single texts; what it counts is the same
    found = [scorer.sentence_score(text, [right]) for text, right in zip(texts, gold, strict=True)]
    return [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found]


def bleu_of(sums: Sequence[float]) -> float:
    """Corpus BLEU of rows of ``bleu_sums`` that were added up."""
    from sacrebleu.metrics import BLEU

    written, right, *grams = (round(one) for one in sums)
    return float(BLEU.compute_bleu(grams[:4], grams[4:], written, right, "exp").score)


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


def chrf(texts: Sequence[str], gold: Sequence[str]) -> float:
    """Corpus chrF2 by sacrebleu with its defaults, 0 to 100, one reference each."""
    return float(_chrf().corpus_score(list(texts), [list(gold)]).score) if texts else math.nan


def rouge(texts: Sequence[str], gold: Sequence[str]) -> dict[str, list[float]]:
    """F1 of ROUGE-1, 2 and L of each text by rouge-score with its Porter stemmer, 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGES.values()), use_stemmer=True)
    found = [scorer.score(right, text) for text, right in zip(texts, gold, strict=True)]
    return {name: [100 * one[theirs].fmeasure for one in found] for name, theirs in ROUGES.items()}


class _NoSynonyms:
    """Stands where WordNet isn't."""

    def synsets(self, _word: str) -> list[Any]:
        return []


@cache
def _wordnet() -> Any:
    """nltk's WordNet where its data is on this machine, else None."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None
    return wordnet


def meteor(texts: Sequence[str], gold: Sequence[str]) -> list[float]:
    """METEOR of each text by nltk with its defaults, 0 to 100; synonyms match only where its WordNet is."""
    from nltk.tokenize import wordpunct_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    synonyms = _wordnet() or _NoSynonyms()
    return [
        100 * float(single_meteor_score(wordpunct_tokenize(right), wordpunct_tokenize(text), wordnet=synonyms))
        for text, right in zip(texts, gold, strict=True)
    ]


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
    """How each of these was made, for a reader who wants to compare: library, version, options."""
    overlap, characters = _bleu(), _chrf()
    for scorer in (overlap, characters):
        scorer.corpus_score(["a"], [["a"]])
    matches = "exact, stem and WordNet matches" if _wordnet() else "exact and stem matches only: no WordNet here"
    return {
        "bleu": f"{overlap.get_signature()}; BLEU-1 to 3 are the same over n-grams up to that length",
        "chrf": str(characters.get_signature()),
        "rouge": f"rouge-score {version('rouge-score')}, rouge1, rouge2 and rougeL, its own tokenizer, F1, mean over "
        "responses, Porter stemmer on",
        "meteor": f"nltk {version('nltk')}, meteor_score (alpha 0.9, beta 3, gamma 0.5), wordpunct_tokenize, "
        f"lower-cased, mean over responses; {matches}",
        "distinct": f"over the first {min(count, DISTINCT_TEXTS)} texts; lower-cased words and signs",
    }
