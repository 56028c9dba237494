"""Which items are copies of each other: exact ones, and near ones that were cut, encoded or worded a little anew.

Marks are compared in columns, by bands: only what agrees in a part of its mark is looked at, so the work grows with the
copies and not with the square of the items. Letters: ``I`` items, ``M`` bytes of a mark, ``B`` bands, ``C`` pairs.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.marks import BANDS, PERMUTATIONS, PICTURES
from pipelines.quality.rule import Action, Rule

# In a band that very many share, each item is compared with so many others.
_NEIGHBOURS = 24
_CHUNK = 1 << 16
_TEXT_ROWS, _PICTURE_BITS = 4, 21


class Copies(Rule):
    """Items that say the same and show the same: one of them is kept, rather one of the test split than of train.

    Attributes:
        text: they share at least so much of their runs of words.
        pictures: at most so many of a picture's bits differ.
        sound: at most so much of the sounds' fingerprints differs; half of it does between sounds at random.
    """

    title: ClassVar[str] = "Copies"
    text: Annotated[float, Setting(gt=0, le=1)] = 0.85
    pictures: Annotated[float, Setting(ge=0, lt=0.5)] = 0.06
    sound: Annotated[float, Setting(ge=0, lt=0.5)] = 0.32


class Shared(Rule):
    """A recording that another item has, too, with other words to it; near and far as in ``Copies``."""

    title: ClassVar[str] = "Recordings that items share"
    action: Action = "report"


def text_bands(marks: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """The bands (I, B) of MinHashes (I, P)."""
    return _mixed(marks.reshape(len(marks), PERMUTATIONS // _TEXT_ROWS, _TEXT_ROWS))


def picture_bands(marks: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The bands (I, B) of the hashes (I, M) of pictures: thirds of each frame's."""
    bits = np.unpackbits(marks, axis=1).reshape(len(marks), PICTURES, -1)
    thirds = [bits[:, :, place : place + _PICTURE_BITS] for place in range(0, 3 * _PICTURE_BITS, _PICTURE_BITS)]
    return np.concatenate([_mixed(third) for third in thirds], axis=1)


def sound_bands(marks: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The bands (I, B) of the fingerprints (I, M) of sound: its steps."""
    return _mixed(marks.reshape(len(marks), -1, BANDS // 8))


def _mixed(parts: NDArray) -> NDArray[np.uint64]:
    """One number (I, B) for each part (I, B, R) of a mark, which knows its band's place."""
    primes = np.uint64(0x9E3779B97F4A7C15) * (2 * np.arange(1, parts.shape[2] + 1, dtype=np.uint64) + np.uint64(1))
    mixed = (parts.astype(np.uint64) + np.uint64(1)) * primes
    sums: NDArray[np.uint64] = mixed.sum(axis=2, dtype=np.uint64)
    return sums ^ (sums >> np.uint64(29))


def pairs(bands: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (C,) and (C,) of rows that agree in a band of (I, B), the smaller row first; each pair once."""
    found: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    count = len(bands)
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(ordered[step:] == ordered[:-step])
            if not len(same):
                break
            found.append(order[same] * count + order[same + step])
        if sum(map(len, found)) > 16 * _CHUNK:
            found = [np.unique(np.concatenate(found))]
    every = np.unique(np.concatenate(found))
    for place in range(0, len(every), _CHUNK):
        part = every[place : place + _CHUNK]
        yield part // count, part % count


def share_equal(marks: NDArray[np.uint16], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much the texts of pairs share, about: 0 to 1, (C,)."""
    return np.asarray((marks[first] == marks[second]).mean(axis=1))


def share_different(
    marks: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How much of the bits of pairs differs: 0 to 1, (C,)."""
    return np.asarray(np.bitwise_count(marks[first] ^ marks[second]).mean(axis=1) / 8)
