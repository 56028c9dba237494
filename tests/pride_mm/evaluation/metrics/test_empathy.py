"""A scorer learnt from real ratings: a small part of them, so that it is quick."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pipelines.cli import run
from pipelines.sources.rated import rated
from pride_mm.embedding import Embedder
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.metrics.empathy import (
    EmpathyScorer,
    Rated,
    features,
    level_scores,
    load_scorer,
    save_scorer,
    train_scorer,
)
from pride_mm.evaluation.metrics.meaning import Vectors

FILES = {
    "emotional_reaction": "emotional-reactions-reddit.csv",
    "interpretation": "interpretations-reddit.csv",
    "exploration": "explorations-reddit.csv",
}


@pytest.fixture(scope="session")
def epitome(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short answers of the real tables: every eighth that asks nothing, and all others."""
    folder = tmp_path_factory.mktemp("epitome")
    tables = {}
    for name in FILES.values():
        with (data_dir / "epitome_reddit" / name).open(newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
    short = [
        number
        for number, row in enumerate(tables[FILES["exploration"]])
        if len(row["seeker_post"]) < 120 and len(row["response_post"]) < 70 and (row["level"] != "0" or number % 8 == 0)
    ]
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[number] for number in short)
    return folder


@pytest.fixture(scope="session")
def answers(epitome: Path) -> list[Rated]:
    return list(rated("epitome", str(epitome), BadSamples(0)).answers)


@pytest.fixture(scope="session")
def scorer(answers: list[Rated], vectors: Vectors) -> EmpathyScorer:
    return train_scorer(answers, dict.fromkeys(FILES, "") | {"exploration": "Exploration"}, vectors, "epitome")


def test_the_ratings_are_those_of_the_tables(epitome: Path, answers: list[Rated]) -> None:
    for name, file in FILES.items():
        with (epitome / file).open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        assert [one.levels[name] for one in answers] == [int(row["level"]) for row in rows]
        assert [one.group for one in answers] == [row["sp_id"] for row in rows]
    assert len(answers) > 100


def test_the_rule_and_the_commonest_level_are_what_they_are_called(answers: list[Rated], scorer: EmpathyScorer) -> None:
    quality = scorer.scales["exploration"].quality
    assert sum(quality.shares) == pytest.approx(1)
    share = max(quality.shares)
    assert quality.common_f1 == pytest.approx(100 * 2 * share / (1 + share) / 3)
    gold = [one.levels["exploration"] for one in answers]
    rule = [2 if "?" in one.response else 0 for one in answers]
    assert quality.rule_f1 == pytest.approx(100 * f1_score(gold, rule, average="macro"), abs=15)
    assert quality.f1 > quality.common_f1


def test_it_reads_what_it_was_taught(scorer: EmpathyScorer, vectors: Vectors) -> None:
    posts = ["I can't sleep at night.", "I can't sleep at night.", "I can't sleep at night."]
    found = scorer(vectors, posts, ["What is it that keeps you awake at night?", "Take a bath.", "  "])
    assert (found["exploration"][0], found["exploration"][2]) == (2, 0)
    assert found["emotional_reaction"][2] == 0


def test_saved_and_loaded_it_reads_the_same(
    answers: list[Rated], scorer: EmpathyScorer, vectors: Vectors, tmp_path: Path
) -> None:
    save_scorer(tmp_path, scorer)
    again = load_scorer(tmp_path, vectors.embedder)
    posts, texts = [one.post for one in answers], [one.response for one in answers]
    assert again(vectors, posts, texts) == scorer(vectors, posts, texts)
    assert again.signature == scorer.signature
    assert f"Exploration: {scorer.scales['exploration'].quality.f1:.1f}" in again.signature
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer.json", "scorer.safetensors"]


def test_two_levels_are_learnt_as_well(answers: list[Rated], vectors: Vectors) -> None:
    halved = [replace(one, levels={"asks": int(one.levels["exploration"] > 0)}) for one in answers]
    found = train_scorer(halved, {"asks": "Asks"}, vectors, "halved")
    posts, texts = [one.post for one in halved], [one.response for one in halved]
    read = found(vectors, posts, texts)["asks"]
    assert set(read) == {0, 1}
    assert np.mean([a == one.levels["asks"] for a, one in zip(read, halved, strict=True)]) > 0.85
    assert features(vectors, posts, texts).shape == (len(posts), found.scales["asks"].weights.shape[1])


def test_levels_become_a_mean_and_shares(scorer: EmpathyScorer) -> None:
    one = replace(scorer, scales={"exploration": scorer.scales["exploration"]})
    found = level_scores(one, {"exploration": [0, 2, 2, 1]}, ["a", "b", "c", "d"])
    assert {name: score.value for name, score in found.items()} == {
        "empathy.exploration": 1.25, "empathy.exploration.1": 25, "empathy.exploration.2": 50
    }  # fmt: skip
    assert found["empathy.exploration"].interval is not None


def test_mistakes_are_named(scorer: EmpathyScorer, vectors: Vectors, answers: list[Rated], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No empathy scorer in .*: it has no scorer\.json\. 'pride eval scorer' makes"):
        load_scorer(tmp_path, vectors.embedder)
    save_scorer(tmp_path, replace(scorer, encoder="another", encoder_sha256="0"))
    with pytest.raises(UserError, match="reads embeddings of another, not those of all-MiniLM-L6-v2: give --encoder"):
        load_scorer(tmp_path, vectors.embedder)
    (tmp_path / "scorer.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"is damaged .*make it again"):
        load_scorer(tmp_path, vectors.embedder)
    with pytest.raises(UserError, match=r"'Exploration' has 5 rated answers .* at least 20 answers"):
        train_scorer(answers[:5], {"exploration": "Exploration"}, vectors, "epitome")


def test_the_command_prints_how_good_it_is(
    epitome: Path, tmp_path: Path, vectors: Vectors, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "scorer", str(epitome), "--out", str(tmp_path / "empathy")]) == 0
    shown = capsys.readouterr().out
    assert "macro-F1 on held-out posts" in shown
    assert "Exploration: " in shown
    assert load_scorer(tmp_path / "empathy", Embedder(vectors.embedder.source)).corpus == "epitome"
    assert run(["eval", "scorer", str(epitome / "nope")]) == 2
    assert run(["eval", "scorer", str(epitome), "--corpus", "empathetic_dialogues"]) == 2
