from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.split import SHARES, SPLITS, assign_splits, split_of
from pride_mm.errors import BadSamples
from pride_mm.records import Item, Split


def item(key: str, group: str, split: Split | None = None, corpus: str = "c") -> Item:
    return Item(id=key, corpus=corpus, group=group, split=split, inputs={})


def test_shares_are_about_as_said() -> None:
    groups = [split_of(f"speaker {number}") for number in range(5000)]
    for split, share in SHARES.items():
        assert abs(groups.count(split) / 5000 - share) < 0.02
    assert split_of("speaker 1") == "train"  # stays so, over versions and machines
    assert [split_of(f"s{number}") for number in range(6)] == [split_of(f"s{number}") for number in range(6)]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, *SPLITS])), max_size=30), st.integers(0))
def test_no_group_in_two_splits_and_stable_when_data_grow(drawn: list[tuple[str, Split | None]], cut: int) -> None:
    items = [item(f"k{number}", group, split) for number, (group, split) in enumerate(drawn)]
    bad = BadSamples(limit=1000)
    assigned = assign_splits(items, bad)
    seen: dict[str, set[str]] = {}
    for one in items:
        if one.id in assigned:
            seen.setdefault(one.group, set()).add(assigned[one.id])
            assert one.split in (None, assigned[one.id])
    assert all(len(splits) == 1 for splits in seen.values())
    assert len(bad) + len(assigned) == len(items)
    free = [one for one in items if one.split is None][: cut % 30]
    alone = assign_splits(free, BadSamples())
    grown = assign_splits([*free, item("new", "z")], BadSamples())
    assert {key: split for key, split in grown.items() if key != "new"} == alone


def test_a_torn_group_is_named() -> None:
    bad = BadSamples()
    assigned = assign_splits([item("a", "g", "train"), item("b", "g", "test"), item("c", "h", "valid")], bad)
    assert assigned == {"c": "valid"}
    assert [str(error) for error in bad] == [
        f"{key}: group 'g' is torn over train and test; give it one split" for key in "ab"
    ]


def test_the_groups_own_split_is_for_all_its_items() -> None:
    assert set(assign_splits([item("a", "g"), item("b", "g", "test")], BadSamples()).values()) == {"test"}
    # the same name in another corpus is another group
    assert assign_splits([item("a", "g", "train"), item("b", "g", "test", "d")], BadSamples()) == {
        "a": "train",
        "b": "test",
    }
