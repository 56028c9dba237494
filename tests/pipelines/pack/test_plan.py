import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.pack.plan import Plan, make_plan
from pipelines.pack.split import SHARES, SPLITS, split_of
from pride_mm.errors import BadSamples, TooManyBadSamples, UserError
from pride_mm.records import Split
from pride_mm.schema import load_schema

SCHEMA = load_schema("pride")


def item(key: str, group: str, split: Split | None = None, corpus: str = "c") -> dict[str, Any]:
    inputs = {"dialogue": [{"speaker": "a", "text": "Hi"}]}
    return {"id": key, "corpus": corpus, "group": group, "split": split, "inputs": inputs, "targets": {}}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def planned(
    folder: Path, items: list[Any], notes: list[Any] | None = None, bad: BadSamples | None = None, seed: int = 0
) -> tuple[Plan, dict[str, str]]:
    """The plan, and the split of each id in the plan's order."""
    files = [write(folder / "items.jsonl", items)]
    noted = [] if notes is None else [write(folder / "notes.jsonl", notes)]
    plan = make_plan(
        folder / "plan.sqlite", files, noted, SCHEMA, seed, False, BadSamples(1000) if bad is None else bad
    )
    return plan, {task.key: split for split in plan.splits for task in plan.tasks(split)}


def test_shares_are_kept_about_and_the_split_is_the_groups_alone() -> None:
    groups = [split_of(f"speaker {number}") for number in range(5000)]
    for split, share in SHARES.items():
        assert abs(groups.count(split) / 5000 - share) < 0.02
    assert split_of("speaker 1") == "train"  # stays so, over versions and machines


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, *SPLITS])), min_size=1, max_size=30))
def test_no_group_in_two_splits_and_nothing_moves_when_data_grow(drawn: list[tuple[str, Split | None]]) -> None:
    items = [item(f"k{number}", group, split) for number, (group, split) in enumerate(drawn)] + [item("new", "z")]
    with tempfile.TemporaryDirectory() as folder:
        plan, assigned = planned(Path(folder), items)
        seen: dict[str, set[str]] = {}
        for one in items:
            if one["id"] in assigned:
                seen.setdefault(one["group"], set()).add(assigned[one["id"]])
                assert one["split"] in (None, assigned[one["id"]])
        assert all(len(splits) == 1 for splits in seen.values())
        assert len(plan.bad) + len(assigned) == len(items) == len(plan) + len(plan.bad)
        free = [one for one in items if one["split"] is None]
        alone = planned(Path(folder), free[::-1])[1]
        grown = planned(Path(folder), [item("more", "y"), *free])[1]
        assert [pair for pair in grown.items() if pair[0] != "more"] == list(alone.items()), "same split, same order"


def test_the_order_is_of_the_seed_not_of_the_corpus(tmp_path: Path) -> None:
    items = [item(f"k{number:03d}", "g", "train") for number in range(200)]
    first, again = (list(planned(tmp_path, items)[1]) for _ in range(2))
    other = list(planned(tmp_path, items, seed=1)[1])
    assert first == again
    assert sorted(first) == sorted(other) == [one["id"] for one in items]
    assert len({tuple(order) for order in (first, other, sorted(first))}) == 3


def test_any_part_of_a_split_can_be_read_with_its_notes(tmp_path: Path) -> None:
    items = [item(f"k{number}", "g", "train") for number in range(20)]
    notes = [{"item": f"k{number}", "privileged": {"situation": f"Note {number}."}} for number in range(0, 25, 3)]
    plan, _ = planned(tmp_path, items, notes)
    tasks = list(plan.tasks("train"))
    assert [task.key for task in plan.tasks("train", 7)] == [task.key for task in tasks[7:]]
    for task in tasks:
        number = int(task.key[1:])
        assert json.loads(task.line) == items[number]
        assert task.folder == str(tmp_path)
        assert (task.notes is not None and json.loads(task.notes)) == (number % 3 == 0 and notes[number // 3])
    assert plan.notes_unused == 2


def test_a_torn_group_is_named(tmp_path: Path) -> None:
    bad = BadSamples()
    items = [item("a", "g", "train"), item("b", "g", "test"), item("c", "h", "valid")]
    plan, assigned = planned(tmp_path, items, bad=bad)
    assert assigned == {"c": "valid"}
    expected = [f"{key}: group 'g' is torn over train and test; give it one split" for key in "ab"]
    assert [str(error) for error in bad] == [str(error) for error in plan.bad] == expected


def test_the_groups_own_split_is_for_all_its_items(tmp_path: Path) -> None:
    assert set(planned(tmp_path, [item("a", "g"), item("b", "g", "test")])[1].values()) == {"test"}
    # the same name in another corpus is another group
    both = planned(tmp_path, [item("a", "g", "train"), item("b", "g", "test", "d")])[1]
    assert both == {"a": "train", "b": "test"}


def test_what_is_given_twice_is_named_with_both_places(tmp_path: Path) -> None:
    notes = [{"item": "a", "privileged": {}}, {"item": "a", "privileged": {"situation": "Secret."}}]
    plan, assigned = planned(tmp_path, [item("a", "g"), item("b", "g"), item("a", "h")], notes)
    assert sorted(assigned) == ["a", "b"]
    assert [str(error) for error in plan.bad] == [
        "items.jsonl:3: id 'a' was already given at items.jsonl:1",
        "notes.jsonl:2: notes on 'a' were already given at notes.jsonl:1",
    ]


def test_too_much_is_bad_or_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamples, match="2 bad samples, 1 are allowed"):
        planned(tmp_path, [item("a", "g"), 3, 4], bad=BadSamples(1))
    with pytest.raises(UserError, match=r"Nothing to pack: no good item in .*\n  items.jsonl:1: not a JSON object"):
        planned(tmp_path, [3])
