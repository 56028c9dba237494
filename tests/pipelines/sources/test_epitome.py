import shutil
from collections import Counter

import pytest

from pride_mm.errors import UserError


def test_three_tables_make_one_item_a_pair(take_in, data_dir) -> None:
    items, annotations, bad = take_in("epitome", data_dir / "epitome_reddit")
    assert not len(bad)
    assert len(items) == len(annotations) == 3084
    assert len({item.group for item in items}) == 2979
    levels = {
        name: Counter(note.values[name] for note in annotations)
        for name in ("emotional_reaction", "interpretation", "exploration")
    }
    assert levels == {
        "emotional_reaction": {0: 2037, 1: 895, 2: 152},
        "interpretation": {0: 1626, 1: 114, 2: 1344},
        "exploration": {0: 2604, 1: 104, 2: 376},
    }
    words = {name: sum(name in note.values for note in annotations) for name in ("reaction_words", "exploration_words")}
    assert words == {"reaction_words": 1045, "exploration_words": 479}
    assert not any("|" in str(note.values.get("exploration_words")) for note in annotations)


def test_tables_out_of_step_are_put_together_and_what_is_missing_is_named(take_in, data_dir, tmp_path) -> None:
    for path in (data_dir / "epitome_reddit").glob("*.csv"):
        head, *rows = path.read_text().splitlines(keepends=True)
        # the first records have no line feed in them
        (tmp_path / path.name).write_text("".join([head, *rows[:3]]))
    other = tmp_path / "explorations-reddit.csv"
    head, one, _, three = other.read_text().splitlines(keepends=True)
    other.write_text(head + three + one)
    items, annotations, bad = take_in("epitome", tmp_path, max_bad=1)
    assert [item.id for item in items] == ["epitome_2", "epitome_4"]
    assert [note.values["exploration"] for note in annotations] == [2, 0]
    assert [str(error) for error in bad] == [
        "emotional-reactions-reddit.csv:3: no row of 'explorations' has the same sp_id, rp_id"
    ]


def test_a_table_that_is_not_there_is_named(take_in, data_dir, tmp_path) -> None:
    shutil.copy(data_dir / "epitome_reddit" / "emotional-reactions-reddit.csv", tmp_path)
    with pytest.raises(UserError, match=r"No interpretations-reddit.csv beside emotional-reactions-reddit.csv"):
        take_in("epitome", tmp_path)
