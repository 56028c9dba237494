import math
from pathlib import Path

import pytest

from annotate.agreement import agreement, alpha, span_f1, word_f1, words
from annotate.consensus import consensus
from annotate.report import write_agreement
from pride_mm.records import Annotation, Notes
from pride_mm.schema import Schema, Span, Value

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", table C: four observers, twelve units.
TABLE = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


def said(item: str, annotator: str, origin: str = "expert", **values: Value) -> Annotation:
    return Annotation.model_validate({"item": item, "annotator": annotator, "origin": origin, "values": {}}).model_copy(
        update={"values": values}
    )


def notes_of(schema: Schema, *annotations: Annotation) -> Notes:
    (notes,) = consensus(schema, annotations)
    assert consensus(schema, annotations[::-1]) == [notes], "the order of the annotations does not matter"
    return notes


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_of_the_textbook_table(level: str, published: float) -> None:
    units = [{name: row[unit] for name, row in TABLE.items()} for unit in range(12)]
    value, why = alpha(units, range(1, 6), level)
    assert value == pytest.approx(published, abs=5e-4)
    assert not why


def test_alpha_that_is_undefined_says_why() -> None:
    value, why = alpha([{"a": 1, "b": 1}, {"a": 1, "b": 1}], (0, 1), "nominal")
    assert value is None
    assert "everybody said the same" in why
    assert alpha([{"a": 1}, {"b": 0}], (0, 1), "nominal")[0] is None


def test_words_and_spans() -> None:
    assert word_f1("I feel alone", "I feel alone") == 1
    assert word_f1("I feel alone", "happy days") == 0
    assert word_f1("I feel", "I feel very alone") == pytest.approx(2 * 2 / 6)
    assert words("我不 know") == ["我", "不", "know"]
    one, other = (Span(start=0, end=2, label="x"),), (Span(start=1, end=3, label="x"),)
    assert span_f1(one, other) == pytest.approx(0.5)
    assert span_f1(one, (Span(start=0, end=2, label="y"),)) == 0
    assert span_f1(one * 2, one) == 1, "what is marked twice counts once"


def test_each_field_has_its_measure(every_kind: Schema) -> None:
    given = [
        said("i1", "a", mood=("up", None), needs=("rest",), warmth=1, note="tired of it", reply="rest"),
        said("i1", "b", mood=("up", "down"), needs=("rest", "ear"), warmth=2, note="tired", reply="rest"),
        said("i2", "a", mood=("down", None), needs=("ear",), warmth=-1, cause="é"),
        said("i2", "b", mood=("down", None), needs=("ear",), warmth=-1),
        said("i2", "m", "model", cause="$loss", warmth=0),
    ]
    measured = agreement(every_kind, given)
    assert (measured.items, measured.annotators) == (2, ("a", "b"))
    rows = {row.field.name: row for row in measured.fields}
    assert rows["mood"].value == 1
    assert rows["warmth"].value is not None
    assert math.isclose(rows["note"].value or 0, 0.5)
    assert (rows["cause"].value, rows["cause"].items, rows["cause"].shared) == (None, 1, 0), "a model is nobody"
    assert "nominal" in rows["mood"].measure
    assert "ordinal" in rows["warmth"].measure


def test_consensus_says_how(every_kind: Schema) -> None:
    notes = notes_of(
        every_kind,
        said("i", "a", cause="é", warmth=0, needs=("rest", "ear"), mood=("up", "up", None), note="cold and tired",
             moment=(Span(start=0, end=2, label="shift"),)),
        said("i", "b", cause="é", warmth=2, needs=("rest",), mood=("up", "down", None), note="tired",
             moment=(Span(start=1, end=3, label="shift"),)),
        said("i", "c", cause="$loss", warmth=1, needs=("help",), mood=("up", "down", None), note="tired and cold it is",
             reply="I hear you."),
    )  # fmt: skip
    assert notes.privileged == {
        "note": "cold and tired",
        "cause": "é",
        "needs": ("rest",),
        "warmth": 1,
        "mood": ("up", "down", None),
        "moment": (Span(start=1, end=2, label="shift"),),
    }
    assert notes.targets == {"reply": "I hear you."}
    assert notes.how["cause"] == "majority 2/3"
    assert notes.how["warmth"] == "median of 3"
    assert notes.how["reply"] == "single: c"
    assert notes.how["note"] == "most central of 3: a"
    assert notes.how["moment"] == "marked by 2 of 2 or more", "who marked nothing said nothing"


def test_a_tie_is_no_consensus(every_kind: Schema) -> None:
    notes = notes_of(
        every_kind,
        said("i", "a", cause="é", mood=("up",), note="short", warmth=0),
        said("i", "b", cause="$loss", mood=("down",), note="longer words", warmth=1),
    )
    assert "cause" not in notes.privileged
    assert "mood" not in notes.privileged
    assert notes.how["cause"].startswith("tie 1/")
    assert "1 of 1 turns tied" in notes.how["mood"]
    assert notes.privileged["note"] == "longer words"
    assert notes.privileged["warmth"] == 0


def test_the_report_shows_numbers_and_no_note(every_kind: Schema, tmp_path: Path) -> None:
    given = [
        said("x1", "<script>", cause="é", note="PRIVATE", warmth=0),
        said("x1", "b", cause="$loss", note="PRIVATE too", warmth=1),
    ]
    path = tmp_path / "agreement.html"
    write_agreement(path, every_kind, agreement(every_kind, given), consensus(every_kind, given))
    page = path.read_text()
    assert "PRIVATE" not in page
    assert "<script>" not in page
    assert "<svg" in page
    assert "tie 1/2" in page
    again = tmp_path / "again.html"
    write_agreement(again, every_kind, agreement(every_kind, given[::-1]), consensus(every_kind, given[::-1]))
    assert again.read_text() == page
