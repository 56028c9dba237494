"""Metrics against reference libraries and values worked out by hand."""

import math

import pytest
import sacrebleu
import torch
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

from pride_mm.evaluation import metrics
from pride_mm.evaluation.bootstrap import interval
from pride_mm.evaluation.metrics import Likelihood

GOLD = ["I am so happy for you!", "That must have been hard.", "What did you do then?"]
SAID = ["I am happy for you.", "That was hard.", "And what did you do then?"]


def likelihood(nats: list[float], tokens: list[int], groups: list[str] | None = None) -> Likelihood:
    keys = tuple(f"k{number}" for number in range(len(nats)))
    return Likelihood(keys, tuple(groups or keys), tuple(nats), tuple(tokens), tuple(4 * t for t in tokens))


def test_perplexity_weighs_tokens_not_samples() -> None:
    given = likelihood([math.log(2) * 10, math.log(8) * 2], [10, 2])
    score = metrics.perplexity(given)
    assert score is not None
    assert score.value == pytest.approx(2 ** (16 / 12))
    assert (score.n, score.unit) == (12, "tokens")
    bits = metrics.bits_per_byte(given)
    assert bits is not None
    assert bits.value == pytest.approx(16 / 48)


def test_no_token_no_perplexity() -> None:
    assert metrics.perplexity(likelihood([], [])) is None
    assert metrics.bits_per_byte(likelihood([0.0], [0])) is None


def test_overlap_equals_the_reference_libraries() -> None:
    assert metrics.bleu(SAID, GOLD) == pytest.approx(sacrebleu.corpus_bleu(SAID, [GOLD]).score)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    mean = sum(scorer.score(g, s)["rougeL"].fmeasure for g, s in zip(GOLD, SAID, strict=True)) / 3
    assert metrics.rouge_l(SAID, GOLD) == pytest.approx(100 * mean)
    assert metrics.bleu(GOLD, GOLD) == pytest.approx(100)


def test_distinct_by_hand_and_over_a_fixed_number() -> None:
    assert metrics.distinct(["a b a", "a c"], 1) == pytest.approx(100 * 3 / 5)
    assert metrics.distinct(["a b a", "a c"], 2) == pytest.approx(100)
    assert metrics.distinct(["a b", "c d"], 1, count=1) == metrics.distinct(["a b"], 1)
    assert metrics.distinct([""], 1) == 0


def test_an_empty_answer_is_named_and_counts_as_zero() -> None:
    whole = metrics.written(["x", "y"], GOLD[:2], GOLD[:2])
    found = metrics.written(["x", "y"], [GOLD[0], "  "], GOLD[:2])
    assert found.empty == ("y",)
    assert found.scores["empty"].value == 1
    assert found.scores["rouge_l"].value == pytest.approx(whole.scores["rouge_l"].value / 2)
    assert found.scores["rouge_l"].n == 2


def test_heads_equal_sklearn_and_the_matrix_adds_up() -> None:
    gold, read = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    keys = [str(number) for number in range(6)]
    found = metrics.head_scores(keys, keys, gold, read, ("a", "b", "c", "unused"))
    assert found is not None
    assert found.accuracy.value == pytest.approx(100 * 4 / 6)
    assert found.macro_f1.value == pytest.approx(100 * f1_score(gold, read, average="macro"))
    assert sum(map(sum, found.matrix)) == 6
    assert found.matrix[2] == (1, 0, 2, 0)
    assert metrics.head_scores([], [], [], [], ("a", "b")) is None


def test_an_interval_covers_what_it_should() -> None:
    make = torch.Generator().manual_seed(0)
    hits = 0
    for seed in range(60):
        values = torch.randn(80, generator=make).tolist()
        around = interval([str(n) for n in range(80)], [values, [1.0] * 80], lambda s: s[:, 0] / s[:, 1], 400, seed)
        assert around is not None
        hits += around.low <= 0 <= around.high
    assert 50 <= hits <= 60


def test_groups_widen_the_interval_and_one_group_gives_none() -> None:
    values = [float(number // 10) for number in range(100)]
    ratio = lambda sums: sums[:, 0] / sums[:, 1]  # noqa: E731
    single = interval([str(n) for n in range(100)], [values, [1.0] * 100], ratio)
    grouped = interval([str(n // 10) for n in range(100)], [values, [1.0] * 100], ratio)
    assert single is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 2 * (single.high - single.low)
    assert interval(["a"] * 5, [[1.0] * 5], lambda sums: sums[:, 0]) is None


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    nats = [5.0 + number % 7 * 3 for number in range(60)]
    one, other = likelihood(nats, [5] * 60), likelihood([n + 0.2 for n in nats], [5] * 60)
    found = metrics.perplexity_difference(one, other)
    assert found is not None
    assert found.interval is not None
    assert found.interval.excludes_zero
    assert found.value < 0
    same = metrics.perplexity_difference(one, one)
    assert same is not None
    assert same.value == 0
    first, second = metrics.perplexity(one), metrics.perplexity(other)
    assert first is not None
    assert second is not None
    assert first.interval is not None
    assert second.interval is not None
    assert second.interval.low < first.interval.high


def test_signatures_name_library_and_version() -> None:
    said = metrics.signatures(10)
    assert f"version:{sacrebleu.__version__}" in said["bleu"]
    assert "stemmer on" in said["rouge_l"]
