"""Marks and copies: what agrees is found, without comparing all with all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality.alike import Copies, pairs
from pipelines.quality.copies import Marks
from pipelines.quality.marks import PICTURE_BYTES, SOUND_BYTES, Mark, sound_mark, text_mark
from pride_mm.schema import load_schema

SCHEMA = load_schema("pride")
RATE = 16000
LONG = "When I came home from work on Monday my neighbour stood before the door and told me that my dog had run away."


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=15))
def test_pairs_are_those_that_agree_in_a_band(rows: list[list[int]]) -> None:
    found = {pair for first, second in pairs(np.array(rows, np.uint64)) for pair in zip(first, second, strict=True)}
    alike = {
        (i, j) for j in range(len(rows)) for i in range(j) if any(a == b for a, b in zip(rows[i], rows[j], strict=True))
    }
    assert found == alike


def text_items(*texts: str) -> Marks:
    marks = Marks(SCHEMA)
    for text in texts:
        marks.add({SCHEMA.dialogue.name: text_mark((text,))})
    return marks


def copies(marks: Marks, groups: list[int], ranks: list[int] | None = None) -> list[tuple[int, int, bool, bool]]:
    found = marks.copies(range(len(groups)), groups, ranks or [0] * len(groups), Copies())
    return sorted(tuple(copy) for copy in found)


def test_the_same_words_are_a_copy_whatever_their_case() -> None:
    marks = text_items(LONG, "Something else was said in this one here.", LONG.upper())
    assert copies(marks, [1, 2, 3]) == [(2, 0, True, False)]


def test_nearly_the_same_words_are_a_copy_in_another_group_only() -> None:
    more = " ".join(f"On day {day} of that long week something else went wrong in room {day}." for day in range(9))
    marks = text_items(f"{LONG} {more} First.", f"{LONG} {more} Then.")
    assert copies(marks, [1, 2]) == [(1, 0, False, False)]
    assert copies(marks, [1, 1]) == []  # a dialogue that goes on says again what it said


def test_of_copies_the_one_with_the_smaller_rank_is_kept_and_each_is_named_once() -> None:
    marks = text_items(LONG, LONG, LONG, LONG)
    assert copies(marks, [1, 2, 3, 4], [2, 2, 0, 2]) == [(0, 2, True, False), (1, 2, True, False), (3, 2, True, False)]


def recorded(*given: tuple[str, bytes, bytes]) -> Marks:
    marks = Marks(SCHEMA)
    video, audio = (field.name for field in SCHEMA.inputs[:2])
    for text, pictures, sound in given:
        both = {video: Mark(pictures[:8], pictures), audio: Mark(sound[:8], sound)}
        marks.add({SCHEMA.dialogue.name: text_mark((text,)), **both})
    return marks


def test_the_same_words_over_another_recording_are_no_copy_and_the_other_way_round_is_shared() -> None:
    draw = np.random.default_rng(0).bytes
    room, voice, other = draw(PICTURE_BYTES), draw(SOUND_BYTES), draw(SOUND_BYTES)
    marks = recorded(("Kids are talking by the door.", room, voice), ("Kids are talking by the door.", room, other))
    assert copies(marks, [1, 1]) == [(1, 0, False, True)]  # the very same pictures, but another sound
    marks = recorded(("Kids are talking by the door.", room, voice), (LONG, draw(PICTURE_BYTES), voice))
    assert copies(marks, [1, 2]) == [(1, 0, False, True)]
    marks = recorded(("Kids are talking by the door.", room, voice), ("Kids are talking by the door.", room, voice))
    assert copies(marks, [1, 1]) == [(1, 0, True, False)]


def test_a_sound_is_known_again_when_it_is_softer_and_a_little_later() -> None:
    generator = np.random.default_rng(0)
    steps = [np.convolve(generator.normal(size=4000), generator.normal(size=40), "same") for _ in range(12)]
    sound = np.concatenate(steps).astype(np.float32)
    sound /= np.abs(sound).max()
    mark = np.frombuffer(sound_mark(sound, RATE).near, np.uint8)
    later = np.concatenate([np.zeros(300, np.float32), 0.3 * sound])
    changed = np.frombuffer(sound_mark(later, RATE).near, np.uint8)
    other = np.frombuffer(sound_mark(sound[::-1].copy(), RATE).near, np.uint8)
    assert np.bitwise_count(mark ^ changed).mean() / 8 < 0.2
    assert np.bitwise_count(mark ^ other).mean() / 8 > 0.4


def test_many_that_share_a_band_are_not_compared_all_with_all() -> None:
    bands = np.zeros((3000, 4), np.uint64)
    count = sum(len(first) for first, _ in pairs(bands))
    assert 2999 <= count <= 3000 * 30
