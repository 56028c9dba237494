from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.page.label_config import control_names
from annotate.study.page import study_config, task_data
from annotate.study.plan import ensure_plan, make_plan, read_plan
from pride_mm.errors import UserError
from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS
from pride_mm.schema import Turn

NAMES = ("zebra", "quagga")


def pairs(count: int, alike: int = 0) -> list[Pair]:
    """Pairs of which the first contender says yes and the second no; of the last ``alike`` both say well."""
    talk = (Turn(speaker="a", text="I lost my <b>job</b>."),)
    said = [("Well.", "Well. ") if n >= count - alike else (f"Yes {n}.", f"No {n}.") for n in range(count)]
    return [Pair(f"k{n}", f"g{n // 2}", talk, answers) for n, answers in enumerate(said)]


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 40), st.integers())
@settings(max_examples=20, deadline=None)
def test_sides_are_balanced_and_drawn_by_the_seed(count: int, alike: int, samples: int, seed: int) -> None:
    given = pairs(count, min(alike, count))
    plan = make_plan(given, "Study", NAMES, samples, seed, 2)
    assert len(plan.shown) + len(plan.alike) == min(samples, count)
    sides = Counter(one.first for one in plan.shown)
    assert abs(sides["A"] - sides["B"]) <= 1
    again = make_plan(given, "Study", NAMES, samples, seed, 2)
    assert [(one.key, one.first) for one in plan.shown] == [(one.key, one.first) for one in again.shown]
    assert not {one.name for one in plan.shown} & {one.name for one in again.shown}, "names are drawn anew"
    by_key = {pair.key: pair for pair in given}
    for one in plan.shown:
        task = task_data(one, by_key[one.key])
        assert task[one.first].startswith("Yes")
        assert not any(word in str(task) for word in (*NAMES, one.key + "'", one.group + "'"))


def test_the_key_is_the_owners_alone_and_another_study_does_not_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "study.key"
    plan = ensure_plan(path, make_plan(pairs(6), "Study", NAMES, 4, 0, 2))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_plan(path) == plan
    assert ensure_plan(path, make_plan(pairs(6), "Study", NAMES, 4, 0, 2)) == plan
    with pytest.raises(UserError, match="key of another study: samples, seed differ"):
        ensure_plan(path, make_plan(pairs(6), "Study", NAMES, 5, 1, 2))
    with pytest.raises(UserError, match="contenders differ"):
        ensure_plan(path, make_plan(pairs(6), "Study", NAMES[::-1], 4, 0, 2))
    with pytest.raises(UserError, match="answers differ"):
        ensure_plan(path, make_plan(pairs(7), "Study", NAMES, 4, 0, 2))
    assert read_plan(path) == plan


def test_a_title_that_gives_a_contender_away_is_refused() -> None:
    with pytest.raises(UserError, match="names quagga, and raters read it"):
        make_plan(pairs(2), "Zoo: Quagga", NAMES, 2, 0, 2)
    assert make_plan(pairs(2), "PRIDE study", ("id", "human"), 2, 0, 2), "a part of a word is no name"


def test_the_page_asks_about_every_aspect() -> None:
    asked = {name: options for tag, name, options in control_names(study_config()) if tag == "Choices"}
    assert asked == dict.fromkeys(ASPECTS, ("A", "B", "tie"))
