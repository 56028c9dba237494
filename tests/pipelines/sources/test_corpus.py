from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import load_source
from pipelines.sources.corpus import Band, Column, Corpus, load_corpus, sentence_case, tidied
from pipelines.sources.templates import first_of, render
from pride_mm.config import CONFIGS
from pride_mm.errors import UserError
from pride_mm.schema import load_schema


@pytest.mark.parametrize("path", sorted((CONFIGS / "corpus").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_descriptions_fit_their_schema(path: Path) -> None:
    corpus = load_corpus(path)
    schema = load_schema(corpus.schema_name)
    assert [schema.get(name).name for name in corpus.field] == list(corpus.field)
    assert callable(load_source(corpus.source))


def test_an_unknown_corpus_lists_them() -> None:
    with pytest.raises(UserError, match="one of: clips, demo, elan, empathetic_dialogues"):
        load_corpus("nothing")


def test_a_wrong_filter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('corpus = "c"\nsource = "clips"\nid = "{file|upper}"\n')
    with pytest.raises(UserError, match="no filter 'upper'"):
        load_corpus(tmp_path / "c.toml")


def test_templates() -> None:
    assert render("x_{path|stem|key}", {"path": "a/b c:d.mp4"}) == "x_b_c_d"
    assert render("{a} and {b}", {"a": "one", "b": ""}) is None
    assert first_of(("{a}", "{b}"), {"a": None, "b": 2}) == "2"
    assert render("{a}", {"a": "{a.__class__}"}) == "{a.__class__}"


@given(st.floats(-3, 3))
def test_bands_hold_every_number_of_the_scale(number: float) -> None:
    column = load_corpus("mosi").columns["sentiment"]
    assert column.mend(str(number)) == ("negative" if number < -0.5 else "positive" if number > 0.5 else "neutral")


def test_a_number_out_of_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="4 is in no band"):
        Column(bands=(Band(value="low", up_to=3.0),)).mend("4")


def test_capitals_become_a_sentence() -> None:
    assert sentence_case("AND I SAID I'M IN") == "And I said I'm in"


def test_words_where_a_number_is_needed_are_not_shown() -> None:
    with pytest.raises(ValueError, match=r"^not a number, which its bands need$"):
        Column(bands=(Band(value="low", up_to=3.0),)).mend("a secret")


def test_tokenised_text_is_written_as_people_do() -> None:
    assert tidied("I don ' t know , it ' s ( really ) bad .") == "I don't know, it's (really) bad."
    assert tidied("Nothing to mend, isn't it?") == "Nothing to mend, isn't it?"


def test_inner_columns_have_names_and_an_alias_hides_nothing() -> None:
    corpus = Corpus(corpus="c", source="clips", aliases={"deep.text": "text", "words": "text"})
    named = corpus.named({"deep": {"text": "one"}, "words": "two"})
    assert (named["text"], named["deep"]) == ("one", {"text": "one"})
