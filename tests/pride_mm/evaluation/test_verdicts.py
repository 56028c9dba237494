import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS, Side
from pride_mm.evaluation.verdicts import OVERALL, Judged, Said, count, read_verdict
from pride_mm.schema import Turn

SAID = st.fixed_dictionaries({name: st.sampled_from(["A", "B", "tie"]) for name in ASPECTS})
TURNS = (Turn(speaker="a", text="Hi"),)


def pair(number: int, first: str = "I hear you.", second: str = "Go on, please.") -> Pair:
    return Pair(f"k{number}", f"g{number}", TURNS, (first, second))


def always(side: Side) -> Said:
    return dict.fromkeys(ASPECTS, side)


@given(SAID)
@settings(max_examples=10, deadline=None)
def test_whatever_the_form_the_sides_are_read(said: Said) -> None:
    assert read_verdict(json.dumps(said)) == said
    assert read_verdict(f"Sure!\n```json\n{json.dumps(said, indent=2)}\n```\nA is better since it asks.") == said
    assert read_verdict("\n".join(f"**{name.capitalize()}**: Answer {side}" for name, side in said.items())) == said
    assert read_verdict("\n".join(f"- {name} - [[{side}]] because it is kind" for name, side in said.items())) == said
    assert read_verdict(json.dumps({name: {"winner": side, "why": "a b"} for name, side in said.items()})) == said
    thought = "\n".join(f"{name}: {'B' if side == 'A' else 'A'}." for name, side in said.items())
    assert read_verdict(f"{thought}\nNo, wait.\n{json.dumps(said)}") == said, "the last word counts"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A", {OVERALL: "A"}),
        (" **Answer B.** ", {OVERALL: "B"}),
        ("Both are kind, but [[B]]", {OVERALL: "B"}),
        ("[[C]]", {OVERALL: "tie"}),
        ("Tie", {OVERALL: "tie"}),
        ("empathy: equal, overall: neither.", {"empathy": "tie", OVERALL: "tie"}),
        ('{"empathy": "B", "relev', {"empathy": "B"}),
        ("", {}),
        ("A better answer would ask how she feels.", {}),
        ("Empathy: a warm answer matters.", {}),
        ('{"overall": "A|B|tie"}', {}),
        ("Once there was a girl named B.", {}),
    ],
)
def test_a_letter_alone_is_the_overall_one_and_words_are_no_letters(text: str, said: Said) -> None:
    assert read_verdict(text) == said


@given(st.text('aAbB tie:[]{}"\n,.overall', max_size=40))
@settings(max_examples=10, deadline=None)
def test_any_text_is_read_or_left(text: str) -> None:
    assert set(read_verdict(text)) <= set(ASPECTS)


@given(st.integers(1, 30), st.sampled_from(["A", "B"]))
@settings(max_examples=10, deadline=None)
def test_a_judge_that_only_sees_the_place_flips_always_and_wins_nothing(pairs: int, side: Side) -> None:
    found = count([Judged(pair(n), (always(side), always(side))) for n in range(pairs)], "empathy")
    assert found.flip_rate == 1
    assert found.preference is not None
    assert (found.preference.win.value, found.preference.tie.value, found.preference.loss.value) == (0, 1, 0)
    assert (found.first_shown, found.of) == (2 * pairs if side == "A" else 0, 2 * pairs)


@given(st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=30))
@settings(max_examples=10, deadline=None)
def test_a_judge_that_sees_the_answers_never_flips(truth: list[int]) -> None:
    sides: dict[int, tuple[Side, Side]] = {1: ("A", "B"), 0: ("tie", "tie"), -1: ("B", "A")}
    found = count([Judged(pair(n), tuple(map(always, sides[v]))) for n, v in enumerate(truth)], OVERALL)  # type: ignore[arg-type]
    assert found.flips == 0
    assert found.preference is not None
    assert found.preference.win.value == pytest.approx(truth.count(1) / len(truth))
    assert found.preference.loss.value == pytest.approx(truth.count(-1) / len(truth))
    assert found.first_shown * 2 == found.of


def test_what_cannot_be_read_is_named_and_no_tie() -> None:
    judged = [
        Judged(pair(0), (always("A"), always("B"))),
        Judged(pair(1), (always("A"), {})),
        Judged(pair(2), ({}, {})),
    ]
    found = count(judged, OVERALL)
    assert found.unread == ("k1", "k2")
    assert found.preference is not None
    assert (found.preference.win.value, found.preference.win.n, found.asked) == (1, 1, 1)


def test_answers_alike_are_ties_that_nobody_was_asked_about() -> None:
    judged = [Judged(pair(0), (always("A"), always("B"))), Judged(pair(1, "Oh.", "Oh. "), None)]
    found = count(judged, OVERALL)
    assert found.preference is not None
    assert (found.preference.win.value, found.preference.tie.value, found.asked, found.flips) == (0.5, 0.5, 1, 0)


def test_where_length_cannot_win() -> None:
    """The first is preferred where it is long, the second where both are of one length."""
    long = [Judged(pair(n, "word " * 40, "word"), (always("A"), always("B"))) for n in range(6)]
    even = [Judged(pair(10 + n, "one two", "two one"), (always("B"), always("A"))) for n in range(3)]
    found = count([*long, *even], OVERALL)
    assert found.preference is not None
    assert found.similar is not None
    assert found.preference.win.value == pytest.approx(6 / 9)
    assert (found.similar.win.value, found.similar.loss.value, found.similar.rate.n) == (0, 1, 3)
