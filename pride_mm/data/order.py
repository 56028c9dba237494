"""The order in which one corpus is seen: shuffled, the same each time, and found at any position.

The order is a pure function of the seed, the number of the pass and the sizes of the shards. A pass permutes
the shards, takes them in windows, and permutes the samples within a window. A reader thus needs few shards at
a time, and where it stands is a number, not a buffer. Memory is one number a shard and one a sample of a window.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WINDOW = 8
"""Shards whose samples are shuffled together: few enough to be read ahead. ``disorder`` measures what it is worth;
packing has already dealt the samples to the shards at random."""

Places = NDArray[np.int64]


def permutation(samples: int, *seed: int) -> Places:
    """A permutation of ``range(samples)``.

    NumPy promises that the raw stream of PCG64 never changes, which it doesn't of its shuffles: a state that is
    loaded years later still means the same order.
    """
    raw = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(samples)
    return np.argsort(raw, kind="stable").astype(np.int64)


class ShardOrder:
    """The samples of one corpus, pass after pass.

    Args:
        sizes: how many samples each shard has; a sample's place counts through them in this order.
        seed: any whole numbers from 0 on; other numbers, another order.
        window: how many shards are shuffled together; 0 leaves everything as it lies.
    """

    def __init__(self, sizes: Sequence[int], seed: Sequence[int] = (0,), window: int = WINDOW) -> None:
        self.sizes = np.asarray(sizes, np.int64)
        self.seed, self.window = tuple(seed), window
        self.samples = int(self.sizes.sum())
        self._begins = np.concatenate([[0], np.cumsum(self.sizes)])
        self._pass: tuple[int, Places, Places] | None = None
        self._shown: tuple[tuple[int, int], Places] | None = None

    def places(self, number: int, start: int, stop: int) -> Places:
        """The places at the positions ``start`` to ``stop`` of pass ``number``."""
        if not self.window:
            return np.arange(start, stop, dtype=np.int64)
        parts = []
        for window, begin in self._windows(number, start, stop):
            shown = self._window(number, window)
            parts.append(shown[max(start - begin, 0) : stop - begin])
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def shards(self, number: int, start: int, stop: int) -> list[int]:
        """The shards that these positions need, window by window."""
        if start >= stop:
            return []
        if not self.window:
            first, last = np.searchsorted(self._begins, [start, stop - 1], side="right") - 1
            return list(range(int(first), int(last) + 1))
        shuffled, _ = self._shuffled(number)
        return [
            int(shard)
            for window, _ in self._windows(number, start, stop)
            for shard in shuffled[window * self.window : (window + 1) * self.window]
        ]

    def _shuffled(self, number: int) -> tuple[Places, Places]:
        """The shards of a pass in their order, and the position at which each window begins."""
        if self._pass is None or self._pass[0] != number:
            shards = permutation(len(self.sizes), *self.seed, number)
            ends = np.cumsum(self.sizes[shards])
            begins = np.concatenate([[0], ends[self.window - 1 : -1 : self.window], ends[-1:]])
            self._pass = number, shards, begins.astype(np.int64)
        return self._pass[1], self._pass[2]

    def _windows(self, number: int, start: int, stop: int) -> list[tuple[int, int]]:
        """The windows that hold these positions, each with the position at which it begins."""
        _, begins = self._shuffled(number)
        first = max(int(np.searchsorted(begins, start, side="right")) - 1, 0)
        last = int(np.searchsorted(begins, stop, side="left"))
        return [(window, int(begins[window])) for window in range(first, min(last, len(begins) - 1))]

    def _window(self, number: int, window: int) -> Places:
        if self._shown is None or self._shown[0] != (number, window):
            shards = self._shuffled(number)[0][window * self.window : (window + 1) * self.window]
            held = [np.arange(self._begins[shard], self._begins[shard + 1], dtype=np.int64) for shard in shards]
            samples = np.concatenate(held)
            self._shown = (number, window), samples[permutation(len(samples), *self.seed, number, window + 1)]
        return self._shown[1]


def disorder(order: Sequence[int] | Places, sizes: Sequence[int], batch: int = 32) -> dict[str, float]:
    """How well an order of all places is shuffled; a full shuffle of many samples gives about what is in brackets.

    Returns:
        ``displacement``: mean way from a sample's place to its position, over the number of samples (1/3).
        ``correlation``: Spearman's, between place and position (0).
        ``mixing``: entropy of the shards within a batch, over that of a batch drawn at random (1).
    """
    places = np.asarray(order, np.int64)
    positions = np.arange(len(places))
    shard = np.repeat(np.arange(len(sizes)), sizes)
    drawn = shard[permutation(len(places), 0)]
    return {
        "displacement": float(np.abs(places - positions).mean() / len(places)),
        "correlation": float(np.corrcoef(places, positions)[0, 1]),
        "mixing": _entropy(shard[places], batch) / _entropy(drawn, batch),
    }


def _entropy(labels: Places, batch: int) -> float:
    """The mean entropy of the labels within a batch."""
    found = []
    for start, stop in pairwise(range(0, len(labels) + 1, min(batch, len(labels)))):
        _, counts = np.unique(labels[start:stop], return_counts=True)
        share = counts / counts.sum()
        found.append(-(share * np.log(share)).sum())
    return float(np.mean(found))
