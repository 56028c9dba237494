"""Metrics against reference libraries and values worked out by hand."""

import json
import math
from importlib.metadata import version
from pathlib import Path

import pytest
import sacrebleu
import torch
from nltk.corpus import wordnet
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from pride_mm.evaluation import metrics
from pride_mm.evaluation.bootstrap import interval
from pride_mm.evaluation.metrics import Likelihood
from pride_mm.evaluation.metrics.heads import calibration_error

GOLD = ["I am so happy for you!", "That must have been hard.", "What did you do then?"]
SAID = ["I am happy for you.", "That was hard.", "And what did you do then?"]

Answered = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def answered(data_dir: Path) -> Answered:
    """Forty answers of a language model to real first turns, and what people answered."""
    lines = (data_dir / "llm_empathy_ratings" / "ratings.jsonl").read_text().splitlines()[:40]
    rows = [{one["system"]: one["text"] for one in json.loads(line)["responses"]} for line in lines]
    return [row["chatgpt"] for row in rows], [row["human"] for row in rows]


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


def test_what_was_written_equals_the_reference_libraries(answered: Answered) -> None:
    said, gold = answered
    for n in (1, 2, 3, 4):
        reference = sacrebleu.corpus_bleu(said, [gold])
        theirs = sacrebleu.BLEU.compute_bleu(reference.counts[:n], reference.totals[:n], reference.sys_len,
                                             reference.ref_len, max_ngram_order=n)  # fmt: skip
        assert metrics.bleu(said, gold, n) == pytest.approx(theirs.score)
    assert metrics.bleu(said, gold) == pytest.approx(sacrebleu.corpus_bleu(said, [gold]).score)
    added = [sum(column) for column in zip(*metrics.bleu_sums(said, gold), strict=True)]
    assert metrics.bleu_of(added) == pytest.approx(sacrebleu.corpus_bleu(said, [gold]).score)
    assert metrics.chrf(said, gold) == pytest.approx(sacrebleu.corpus_chrf(said, [gold]).score)
    found = metrics.rouge(said, gold)
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        scorer = RougeScorer([theirs], use_stemmer=True)
        expected = [100 * scorer.score(g, s)[theirs].fmeasure for g, s in zip(gold, said, strict=True)]
        assert found[ours] == pytest.approx(expected)
    assert len(set(found["rouge_l"])) > 5


def test_overlap_by_hand() -> None:
    assert metrics.bleu(GOLD, GOLD) == pytest.approx(100)
    assert metrics.chrf(GOLD, GOLD) == pytest.approx(100)
    # 2 of 3 words are right, and nothing is too short
    assert metrics.bleu(["a b d"], ["a b c"], 1) == pytest.approx(100 * 2 / 3)
    assert metrics.bleu(["a b d"], ["a b c"], 2) == pytest.approx(100 * math.sqrt(2 / 3 * 1 / 2))
    # one word too few: brevity exp(1 - 3/2)
    assert metrics.bleu(["a b"], ["a b c"], 1) == pytest.approx(100 * math.exp(-0.5))
    found = metrics.rouge(["the cat sat"], ["the cat sat down"])
    assert found["rouge_1"] == pytest.approx([100 * 2 * 1 * 0.75 / 1.75])
    assert found["rouge_2"] == pytest.approx([100 * 2 * 1 * (2 / 3) / (5 / 3)])
    assert found["rouge_l"] == found["rouge_1"]


def test_meteor_by_the_formula_of_its_paper() -> None:
    # all four words match in one piece: 1 - 0.5 (1/4)^3
    assert metrics.meteor(["one two three four"], ["One two three four"]) == pytest.approx([100 * (1 - 0.5 / 64)])
    # P = 1, R = 3/4 in one piece of three
    fmean = 0.75 / (0.9 * 1 + 0.1 * 0.75)
    assert metrics.meteor(["the cat sat"], ["the cat sat down"]) == pytest.approx([100 * fmean * (1 - 0.5 / 27)])
    # by its stem
    assert metrics.meteor(["the cats sat"], ["the cat sat"]) == metrics.meteor(["the cat sat"], ["the cat sat"])
    assert metrics.meteor(["", "dog"], ["the cat sat", "cat"]) == [0.0, 0.0]


def test_meteor_equals_nltk_and_says_whether_it_knew_synonyms(answered: Answered) -> None:
    said, gold = answered
    try:
        wordnet.ensure_loaded()
    except LookupError:
        assert "exact and stem matches only" in metrics.signatures(10)["meteor"]
        with pytest.raises(LookupError):
            meteor_score([["happy"]], ["glad"])
        synonyms = type("None_", (), {"synsets": lambda _, word: []})()
    else:
        assert "WordNet matches" in metrics.signatures(10)["meteor"]
        synonyms = wordnet
    expected = [
        100 * meteor_score([wordpunct_tokenize(g)], wordpunct_tokenize(s), wordnet=synonyms)
        for g, s in zip(gold, said, strict=True)
    ]
    assert metrics.meteor(said, gold) == pytest.approx(expected)
    assert min(expected) < max(expected) < 100


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
    assert found.scores["meteor"].value == pytest.approx(whole.scores["meteor"].value / 2, rel=0.01)
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


def test_calibration_by_hand_and_by_sklearn() -> None:
    bins = metrics.calibration([0.95, 0.91, 0.55, 0.51, 1.0], [True, False, True, False, True])
    assert [(one.count, one.sure, one.right) for one in bins] == [
        (2, pytest.approx(0.53), 0.5),
        (3, pytest.approx(2.86 / 3), pytest.approx(2 / 3)),
    ]
    assert calibration_error(bins) == pytest.approx(100 * (2 * 0.03 + abs(2.86 - 2)) / 5)
    make = torch.Generator().manual_seed(1)
    sure = torch.rand(400, generator=make)
    right = torch.rand(400, generator=make) < sure**2
    true, said = calibration_curve(right.numpy(), sure.numpy(), n_bins=10)
    bins = metrics.calibration(sure.tolist(), right.tolist())
    assert [one.right for one in bins] == pytest.approx(true)
    assert [one.sure for one in bins] == pytest.approx(said)
    assert sum(one.count for one in bins) == 400
    read = metrics.head_scores(["a", "b"], ["a", "b"], [0, 1], [0, 0], ("x", "y"), [0.8, 0.6])
    assert read is not None
    assert read.calibration_error is not None
    assert read.calibration_error.value == pytest.approx(100 * (0.2 + 0.6) / 2)


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
    assert f"version:{sacrebleu.__version__}" in said["chrf"]
    assert "stemmer on" in said["rouge"]
    assert f"nltk {version('nltk')}" in said["meteor"]
