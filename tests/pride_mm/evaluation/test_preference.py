import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.evaluation.preference import HEAD, Opinion, opinion, preference, row

VERDICTS = st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=4)


def opinions(raters: list[list[int]], dialogues: int = 1000) -> list[Opinion]:
    return [opinion(f"k{n}", f"g{n % dialogues}", verdicts) for n, verdicts in enumerate(raters)]


@given(st.lists(VERDICTS, min_size=1, max_size=30), st.integers(1, 30))
@settings(max_examples=8, deadline=None)
def test_swapping_the_contenders_turns_the_result_round(raters: list[list[int]], dialogues: int) -> None:
    here = preference(opinions(raters, dialogues))
    there = preference(opinions([[-verdict for verdict in each] for each in raters], dialogues))
    assert here is not None
    assert there is not None
    assert here.win.value + here.tie.value + here.loss.value == pytest.approx(1)
    assert (here.win.value, here.better, here.p) == (
        pytest.approx(there.loss.value),
        there.worse,
        pytest.approx(there.p),
    )
    assert here.rate.value == pytest.approx(1 - there.rate.value)
    if here.rate.interval:
        assert here.rate.interval.low - 1e-9 <= here.rate.value <= here.rate.interval.high + 1e-9
    assert len(row("relevance", here)) <= len(HEAD) <= 73


def test_the_sign_test_counts_dialogues_and_not_turns() -> None:
    turns = preference(opinions([[1]] * 8))
    assert turns is not None
    assert (turns.better, turns.worse, turns.p) == (8, 0, pytest.approx(2 * 0.5**8))
    two = preference(opinions([[1]] * 8, dialogues=2))
    assert two is not None
    assert (two.better, two.p) == (2, pytest.approx(0.5))
    assert preference(opinions([[0]] * 8)).p == 1.0  # type: ignore[union-attr]


def test_raters_of_one_pair_count_as_one_pair() -> None:
    found = preference(opinions([[1, 1, 1, -1], [-1]]))
    assert found is not None
    assert (found.win.value, found.loss.value, found.win.n) == (0.375, 0.625, 2)


def test_too_little_gives_no_interval() -> None:
    assert preference([]) is None
    assert "nothing was said" in row("empathy", None)
    one = preference(opinions([[1], [-1]], dialogues=1))
    assert one is not None
    assert one.rate.interval is None
    assert "(too few)" in row("empathy", one)
