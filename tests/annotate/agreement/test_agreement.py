"""Known numbers of the textbooks to four places, and the agreement on annotations of every kind."""

import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as some

from annotate.agreement import Agreement, FieldAgreement, agreement
from annotate.agreement.codes import ALL_THE_SAME, NOBODY_ELSE, Counted, counted
from annotate.agreement.resampling import FEW_ITEMS, measure
from annotate.agreement.similarity import span_f1, word_f1, words
from pride_mm.records import Annotation, Draft
from pride_mm.schema import Schema, Span, Value

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", table C: four observers, twelve units.
ALPHA = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
# Shrout and Fleiss (1979), table 2: six targets, four judges.
JUDGES = [(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)]
# Fleiss (1971), table 1: thirty patients, six psychiatrists, five diagnoses.
DIAGNOSES = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
# Fleiss, Levin and Paik (2003), table 18.1: diagnoses of 100 subjects by two raters.
TWO = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
# Hout, Duncan and Sobel (1987): 91 couples, answers on a scale of four.
COUPLES = [[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]]


def said(item: str, annotator: str, origin: str = "expert", **values: Value) -> Annotation:
    bare = Annotation.model_validate({"item": item, "annotator": annotator, "origin": origin, "values": {}})
    return bare.model_copy(update={"values": values})


def rows_of(measured: Agreement) -> dict[str, FieldAgreement]:
    return {row.field.name: row for row in measured.fields}


def evidence(units: Sequence[dict[str, Any]], ordinal: bool = False) -> Counted:
    annotators = tuple(sorted({name for unit in units for name in unit}))
    values = tuple(sorted({value for unit in units for value in unit.values() if value is not None}))
    return counted([{n: (v,) for n, v in unit.items()} for unit in units], annotators, values, ordinal)


def of_table(table: Sequence[Sequence[int]], ordinal: bool = False) -> Counted:
    cells = [
        (row, column) for row in range(len(table)) for column in range(len(table)) for _ in range(table[row][column])
    ]
    return evidence([{"one": row, "other": column} for row, column in cells], ordinal)


def other(found: Counted, name: str) -> float:
    (figure,) = [measure(one) for one in found.others() if one.name.startswith(name)]
    assert figure.value is not None
    return figure.value


def plain_alpha(ordinal: bool) -> Fraction:
    """Alpha from its definition, pair by pair, in exact fractions."""
    units = [[row[n] for row in ALPHA.values() if row[n] is not None] for n in range(12)]
    units = [unit for unit in units if len(unit) > 1]
    said_ = [value for unit in units for value in unit]
    number = {value: said_.count(value) for value in set(said_)}

    def far(one: int, two: int) -> Fraction:
        low, high = sorted((one, two))
        if not ordinal:
            return Fraction(one != two)
        between = sum(number.get(value, 0) for value in range(low, high + 1))
        return (between - Fraction(number[low] + number[high], 2)) ** 2

    observed = sum(far(a, b) / Fraction(len(unit) - 1) for unit in units for a, b in permutations(unit, 2))
    expected = Fraction(sum(far(a, b) for a, b in permutations(said_, 2)), len(said_) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize(("ordinal", "published"), [(False, 0.743), (True, 0.815)])
def test_alpha_of_the_textbook_table(ordinal: bool, published: float) -> None:
    found = evidence([{name: row[unit] for name, row in ALPHA.items()} for unit in range(12)], ordinal)
    value = measure(found.headline()).value
    assert value == pytest.approx(published, abs=5e-4)
    assert value == pytest.approx(float(plain_alpha(ordinal)), abs=5e-5)


def test_cohen_of_the_textbook_tables() -> None:
    assert other(of_table([[20, 5], [10, 15]]), "Cohen") == pytest.approx(0.4, abs=5e-5)
    assert other(of_table(TWO), "Cohen") == pytest.approx(0.23 / 0.34, abs=5e-5)  # published: .68
    assert other(of_table(COUPLES), "Cohen") == pytest.approx(0.1293, abs=5e-5)
    assert other(of_table(COUPLES, ordinal=True), "Cohen's kappa, quadratic") == pytest.approx(0.3320, abs=5e-5)


def test_fleiss_of_the_textbook_table() -> None:
    units = []
    for row in DIAGNOSES.split():
        judged = [value for value, count in enumerate(row) for _ in range(int(count))]
        units.append({f"psychiatrist {n}": value for n, value in enumerate(judged)})
    found = evidence(units)
    assert numpy.round(found.said.sum(0) / 180, 3).tolist() == [0.144, 0.144, 0.167, 0.306, 0.239], "as published"
    assert other(found, "Fleiss") == pytest.approx(0.4302, abs=5e-5)  # published: .430


def test_icc_of_the_textbook_table() -> None:
    found = evidence([{f"judge {n}": value for n, value in enumerate(row)} for row in JUDGES], ordinal=True)
    assert other(found, "ICC(2,1)") == pytest.approx(0.2898, abs=5e-5)  # published: .29
    assert other(found, "ICC(2,k)") == pytest.approx(0.6201, abs=5e-5)  # published: .62


@settings(max_examples=60, deadline=None)
@given_by(
    some.lists(some.lists(some.sampled_from([None, 0, 1, 2, 3]), min_size=3, max_size=3), min_size=1, max_size=12),
    some.booleans(),
)
def test_what_is_resampled_is_what_the_libraries_compute(rows: list[list[int | None]], ordinal: bool) -> None:
    found = counted(
        [{n: (v,) for n, v in zip("abc", row, strict=True)} for row in rows], tuple("abc"), (0, 1, 2, 3), ordinal
    )
    for one in (found.headline(), *found.others()):
        if one.why:
            continue
        (value,) = one.of(numpy.asarray(one.sums.sum(0))[None])
        if one.library and numpy.isfinite(value):
            assert value == pytest.approx(one.library(), abs=1e-9), one.name
        figure = measure(one)
        assert figure.why or figure.low is not None
        assert figure.value is None or (numpy.isfinite(figure.value) and figure.value <= 1 + 1e-9)


def test_the_interval_covers_what_it_should() -> None:
    """Of 40 samples from a process with a known alpha, most intervals hold it; drawn twice they are the same."""
    random = numpy.random.default_rng(1)
    noise, held = 0.3, 0
    # two annotators who each say the truth, or with probability `noise` any of two values: alpha is (1 - noise) ** 2
    for _ in range(40):
        truth = random.integers(2, size=80)
        both = [numpy.where(random.random(80) < noise, random.integers(2, size=80), truth) for _ in range(2)]
        figure = measure(evidence([{"a": int(a), "b": int(b)} for a, b in zip(*both, strict=True)]).headline())
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= (1 - noise) ** 2 <= figure.high
    assert held >= 34


def test_each_field_has_its_statistics(every_kind: Schema) -> None:
    given = [
        said("i1", "a", mood=("up", None), needs=("rest",), warmth=1, note="tired of it", reply="rest"),
        said("i1", "b", mood=("up", "down"), needs=("rest", "ear"), warmth=2, note="tired", reply="rest"),
        said("i2", "a", mood=("down", None), needs=("ear",), warmth=-1, cause="é"),
        said("i2", "b", mood=("down", None), needs=("ear",), warmth=-1),
        said("i2", "m", "model", cause="$loss", warmth=0),
    ]
    measured = agreement(every_kind, given)
    assert measured == agreement(every_kind, given[::-1])
    assert (measured.items, measured.annotators) == (2, ("a", "b"))
    rows = rows_of(measured)
    assert rows["mood"].headline.value == 1
    assert rows["mood"].headline.name == "Krippendorff's alpha, nominal, each turn"
    assert rows["note"].headline.value == pytest.approx(0.5)
    assert rows["note"].headline.why == FEW_ITEMS
    assert (rows["cause"].items, rows["cause"].shared) == (1, 0), "a model is nobody"
    assert rows["cause"].headline.value is None
    assert rows["cause"].headline.why == NOBODY_ELSE
    assert rows["needs"].headline.name.endswith("each option")
    names = [figure.name for figure in rows["warmth"].others]
    assert names == ["Cohen's kappa, quadratic weights", "ICC(2,1), 2 annotators", "ICC(2,k), mean of 2 annotators"]
    assert [entry[0] for entry in measured.disagreement()] == ["i1"]


def test_what_cannot_be_measured_is_named(every_kind: Schema) -> None:
    alone = rows_of(agreement(every_kind, [said("i", "a", cause="é", warmth=1, note="x", moment=())]))
    assert {row.headline.why for row in alone.values()} == {NOBODY_ELSE}
    same = [said(f"i{n}", who, cause="é", warmth=1, needs=(), mood=("up",)) for n in range(9) for who in "abc"]
    for row in rows_of(agreement(every_kind, same)).values():
        assert (row.headline.value, row.headline.why) == (None, ALL_THE_SAME), row.field.name
        assert not row.others
    few = rows_of(agreement(every_kind, [*same[:6], said("i9", "a", cause="$loss"), said("i9", "b", cause="é")]))
    assert few["cause"].headline.value is not None
    assert (few["cause"].headline.low, few["cause"].headline.why) == (None, FEW_ITEMS)


def test_accepted_drafts_and_adjudicators_are_not_measured(every_kind: Schema) -> None:
    draft = Draft(model="m", how="accepted", change=0.0)
    accepted = [said("i", who, cause="é").model_copy(update={"drafts": {"cause": draft}}) for who in "ab"]
    measured = agreement(every_kind, [*accepted, said("i", "judge", cause="é", warmth=1)], adjudicators=["judge"])
    assert not measured.fields
    assert (measured.accepted, measured.adjudicators, measured.annotators) == (2, ("judge",), ("a", "b"))


def test_per_annotator_and_emotion(pride: Schema) -> None:
    given = []
    for n in range(12):
        true = ("sad", "angry")[n % 2]
        given += [said(f"i{n}", who, emotion=true, expression=n % 3) for who in ("ana", "ben")]
        given.append(said(f"i{n}", "odd", emotion=true, expression=(n + 1) % 3 if n % 2 else n % 3))
    row = rows_of(agreement(pride, given))["expression"]
    assert [(one.annotator, one.with_others) for one in row.annotators] == [("ana", 1), ("ben", 1), ("odd", 0.5)]
    assert row.headline.value is not None
    assert row.annotators[2].without == 1 > row.headline.value
    groups = {group.value: group.figure.value for group in row.groups}
    assert groups["sad"] == 1 > (groups["angry"] or 0)
    assert row.confusion is not None
    assert row.confusion.counts == tuple(zip(*row.confusion.counts, strict=True)), "of pairs in no order"
    assert sum(map(sum, row.confusion.counts)) == 12 * 6


def test_ten_thousand_items_by_two_in_seconds(pride: Schema) -> None:
    random = numpy.random.default_rng(0)
    options, emotions = ("sad", "angry", "calm"), random.integers(3, size=(10_000, 2))
    given = [
        said(f"i{n}", who, emotion=options[emotions[n, k]], turn_emotion=(options[emotions[n, k]], None, "happy"),
             expression=int(emotions[n, k]), situation=f"word {n} and {n % 7}", feelings=f"more {n % 5}",
             shift=(Span(start=0, end=1 + k, label="shift"),))
        for n in range(10_000) for k, who in enumerate(("a", "b"))
    ]  # fmt: skip
    start = time.process_time()
    measured = agreement(pride, given)
    assert time.process_time() - start < 30
    assert all(row.shared == 10_000 and row.headline.low is not None for row in measured.fields)


def test_words_and_spans() -> None:
    assert word_f1("I feel alone", "I feel alone") == 1
    assert word_f1("I feel alone", "happy days") == 0
    assert word_f1("I feel", "I feel very alone") == pytest.approx(2 * 2 / 6)
    assert words("我不 know") == ["我", "不", "know"]
    one, two = (Span(start=0, end=2, label="x"),), (Span(start=1, end=3, label="x"),)
    assert span_f1(one, two) == pytest.approx(0.5)
    assert span_f1(one, (Span(start=0, end=2, label="y"),)) == 0
    assert span_f1(one * 2, one) == 1, "what is marked twice counts once"
