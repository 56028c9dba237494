"""Copies among items, found by their marks.

A copy says the same and shows the same. Items of one group are often alike without being copies (a dialogue that is
cut at each answer, a speaker who sits in the same chair), so their words have to be equal; and pictures alone, which
in such a room hardly differ, never make a copy where there is sound.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.quality.alike import (
    Copies,
    pairs,
    picture_bands,
    share_different,
    share_equal,
    sound_bands,
    text_bands,
)
from pipelines.quality.marks import PICTURE_BYTES, SOUND_BYTES, TEXT_BYTES, Mark
from pride_mm.schema import Kind, Schema, VideoField

Places = NDArray[np.int64]


class Copy(NamedTuple):
    """``item`` is like ``kept``, both places among the items: ``exact`` in all, or ``shared`` in a recording only."""

    item: int
    kept: int
    exact: bool
    shared: bool


class _Column:
    """The marks of one field over all items; zeros where an item has none."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._present, self._near, self._exact = bytearray(), bytearray(), bytearray()

    def add(self, mark: Mark | None) -> None:
        self._present.append(mark is not None)
        self._near += mark.near if mark else bytes(self.width)
        self._exact += mark.exact if mark else bytes(8)

    def arrays(self, among: Places) -> tuple[NDArray[np.bool_], NDArray[np.uint8], NDArray[np.uint64]]:
        """What is present, the near marks and the exact ones of some items."""
        present = np.frombuffer(self._present, np.bool_)[among]
        near = np.frombuffer(self._near, np.uint8).reshape(-1, self.width)[among]
        return present, near, np.frombuffer(self._exact, np.uint64)[among]


class Marks:
    """The marks of all items in columns: half a kilobyte an item with a clip and its sound.

    Args:
        schema: whose dialogue and media fields have marks.
    """

    def __init__(self, schema: Schema) -> None:
        self._dialogue = schema.dialogue.name
        self._text = _Column(TEXT_BYTES)
        media = schema.of(None, Kind.VIDEO, Kind.AUDIO)
        self._pictures = {f.name: _Column(PICTURE_BYTES) for f in media if isinstance(f, VideoField)}
        self._sounds = {f.name: _Column(SOUND_BYTES) for f in media if not isinstance(f, VideoField)}

    def add(self, marks: dict[str, Mark]) -> None:
        """Add the marks of the next item, by field."""
        for name, column in {self._dialogue: self._text, **self._pictures, **self._sounds}.items():
            column.add(marks.get(name))

    def copies(self, among: Sequence[int], groups: Sequence[int], ranks: Sequence[int], rule: Copies) -> list[Copy]:
        """The copies among some items, each named once beside one that is kept; then the shared recordings.

        Args:
            among: the places of the items that are looked at.
            groups: a number for the group of each item.
            ranks: of two copies, that with the smaller rank is kept, then the earlier one.
            rule: how near a copy is.
        """
        order = np.array(sorted(among, key=lambda place: (ranks[place], place)), np.int64)
        if len(order) < 2:
            return []
        compared = _Compared(self, order, np.array(groups, np.uint64)[order], rule)
        alike = np.concatenate([compared.alike(first, second) for first, second in compared.candidates()])
        # better ones first: whether an item is kept is known before it is asked for
        alike = alike[np.lexsort((alike[:, 1], alike[:, 0]))]
        dropped: dict[int, Copy] = {}
        shared: dict[int, Copy] = {}
        for first, second, exact, only_shared in alike.tolist():
            found = shared if only_shared else dropped
            if first not in dropped and second not in found:
                found[second] = Copy(int(order[second]), int(order[first]), bool(exact), bool(only_shared))
        return [*dropped.values(), *(copy for place, copy in shared.items() if place not in dropped)]


class _Compared:
    """Some items side by side, the better first."""

    def __init__(self, marks: Marks, order: Places, groups: NDArray[np.uint64], rule: Copies) -> None:
        self.groups, self.rule = groups, rule
        self.said, text, self.words = marks._text.arrays(order)
        self.text = text.view("<u2")
        self.pictures = [column.arrays(order) for column in marks._pictures.values()]
        self.sounds = [column.arrays(order) for column in marks._sounds.values()]

    def candidates(self) -> Iterator[tuple[Places, Places]]:
        """Pairs that may be alike: by a recording, or by their words where neither has any."""
        yield np.zeros(0, np.int64), np.zeros(0, np.int64)
        recorded = np.zeros(len(self.said), np.bool_)
        columns: list[tuple[Callable[[Any], NDArray[np.uint64]], NDArray[np.bool_], NDArray[Any]]]
        columns = [(text_bands, self.said, self.text)]
        by_media: tuple[tuple[Callable[[Any], NDArray[np.uint64]], list[Any]], ...]
        by_media = ((picture_bands, self.pictures), (sound_bands, self.sounds))
        for bands, media in by_media:
            for present, near, _ in media:
                recorded |= present
                columns.append((bands, present, near))
        columns[0] = (text_bands, self.said & ~recorded, self.text)
        for banded, present, near in columns:
            places = np.flatnonzero(present)
            for first, second in pairs(banded(near[places])) if len(places) > 1 else ():
                yield places[first], places[second]

    def alike(self, first: Places, second: Places) -> Places:
        """Of pairs (C,) those that are alike: (A, 4) of first, second, whether exact, whether only a recording is."""
        same_words = self.words[first] == self.words[second]
        near_words = share_equal(self.text, first, second) >= self.rule.text
        said = same_words | (near_words & (self.groups[first] != self.groups[second]))
        copy, exact = said, same_words
        shared = np.zeros(len(first), np.bool_)
        for media, limit in ((self.pictures, self.rule.pictures), (self.sounds, self.rule.sound)):
            for present, marks, exactly in media:
                both = present[first] & present[second]
                neither = ~(present[first] | present[second])
                same = both & (exactly[first] == exactly[second])
                near = same | (both & (share_different(marks, first, second) <= limit))
                copy = copy & (neither | near)
                exact = exact & (neither | same)
                # a room alone looks alike from one recording to the next
                shared |= near if media is self.sounds else same
        found = copy | shared
        columns = (first, second, exact & copy, ~copy)
        return np.unique(np.stack([np.asarray(column, np.int64)[found] for column in columns], axis=1), axis=0)
