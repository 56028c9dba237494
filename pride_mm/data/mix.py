"""Several corpora as one stream: each by its weight, each exactly.

A weight is passes an epoch: with 0.5 an epoch holds half of a corpus and the next one the other half, with 2
it holds all of it twice. A corpus is walked pass after pass, whatever the epochs are, so that over time
every sample is seen as often as the weight says. Where the stream stands is an epoch and a position.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

from pride_mm.data.order import WINDOW, Places, ShardOrder, permutation
from pride_mm.errors import UserError

_BLOCK = 1024


@dataclass(frozen=True)
class Corpus:
    """What the stream has to know of a corpus: ``sha256`` stands for its shards, ``name`` is for people only."""

    name: str
    sizes: tuple[int, ...]
    weight: float = 1.0
    sha256: str = ""


class Mix:
    """One stream out of corpora.

    A place counts through the samples of all corpora, one corpus after the other.

    Args:
        corpora: at least one; weights above 0.
        seed: from 0 on.
        window: shards of a corpus whose samples are shuffled together; 0 leaves everything as it lies.

    Raises:
        UserError: a corpus without samples, or a weight that is none.
    """

    def __init__(self, corpora: Sequence[Corpus], seed: int = 0, window: int = WINDOW) -> None:
        assert corpora
        self.corpora, self.seed, self.window = tuple(corpora), seed, window
        if seed < 0:
            raise UserError(f"The seed is {seed}; it must be 0 or more.")
        for corpus in corpora:
            if sum(corpus.sizes) < 1:
                raise UserError(f"There is no sample to read in '{corpus.name}'.")
            if not 1e-6 <= corpus.weight < float("inf"):
                raise UserError(f"The weight of '{corpus.name}' is {corpus.weight}; it must be a millionth or more.")
        self._orders = [ShardOrder(c.sizes, (seed, number), window) for number, c in enumerate(corpora)]
        # what was meant: 0.1 is a tenth and 0.3333333333333333 a third
        self._weights = [Fraction(corpus.weight).limit_denominator(10**9) for corpus in corpora]
        self._begins = np.concatenate([[0], np.cumsum([order.samples for order in self._orders])])
        self._shown: tuple[tuple[int, int], Places] | None = None

    def __len__(self) -> int:
        """The samples of all corpora."""
        return int(self._begins[-1])

    def samples(self, epoch: int) -> int:
        """How many samples an epoch holds, repeats of a corpus counted."""
        return sum(self._counts(epoch))

    def places(self, epoch: int, start: int, stop: int) -> Places:
        """The places at the positions ``start`` to ``stop`` of an epoch; found without walking there."""
        if len(self.corpora) == 1:
            return self._of_corpus(0, epoch, start, stop)
        parts: list[Places] = [np.zeros(0, np.int64)]
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            begin = block * _BLOCK
            parts.append(self._block(epoch, block)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts)

    def shards(self, epoch: int, start: int, stop: int) -> list[tuple[int, int]]:
        """The shards that these positions need, as (corpus, shard)."""
        found: list[tuple[int, int]] = []
        counts = self._counts(epoch)
        if len(counts) > 1 and start < stop:  # corpora are woven block by block
            start, stop = start // _BLOCK * _BLOCK, min(-(-stop // _BLOCK) * _BLOCK, sum(counts))
        for number, (first, last) in enumerate(zip(_shares(counts, start), _shares(counts, stop), strict=True)):
            for passed, begin, end in self._passes(number, epoch, first, last):
                found += [(number, shard) for shard in self._orders[number].shards(passed, begin, end)]
        return found

    def describe(self) -> dict[str, Any]:
        """What the order depends on, as JSON."""
        return {
            "seed": self.seed,
            "window": self.window,
            "corpora": [
                {
                    "weight": str(weight),
                    "samples": order.samples,
                    "shards": _short_sha256([corpus.sha256, *corpus.sizes]),
                }
                for corpus, weight, order in zip(self.corpora, self._weights, self._orders, strict=True)
            ],
        }

    def _counts(self, epoch: int) -> list[int]:
        return [stop - start for start, stop in (self._span(number, epoch) for number in range(len(self.corpora)))]

    def _span(self, number: int, epoch: int) -> tuple[int, int]:
        """From where to where an epoch walks a corpus, counted from the very first sample."""
        whole = self._weights[number] * self._orders[number].samples
        return floor(whole * epoch), floor(whole * (epoch + 1))

    def _passes(self, number: int, epoch: int, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Positions of a corpus within an epoch, as (pass, start, stop) within passes."""
        samples, (base, _) = self._orders[number].samples, self._span(number, epoch)
        at, last, found = base + start, base + stop, []
        while at < last:
            passed, begin = divmod(at, samples)
            end = min(samples, begin + last - at)
            found.append((passed, begin, end))
            at += end - begin
        return found

    def _of_corpus(self, number: int, epoch: int, start: int, stop: int) -> Places:
        order = self._orders[number]
        parts = [order.places(*part) for part in self._passes(number, epoch, start, stop)]
        return np.concatenate([np.zeros(0, np.int64), *parts]) + self._begins[number]

    def _block(self, epoch: int, block: int) -> Places:
        """A block holds the corpora by their shares of the epoch, in an order of its own."""
        if self._shown is None or self._shown[0] != (epoch, block):
            self._shown = (epoch, block), self._woven(epoch, block)
        return self._shown[1]

    def _woven(self, epoch: int, block: int) -> Places:
        counts = self._counts(epoch)
        start, stop = block * _BLOCK, min((block + 1) * _BLOCK, sum(counts))
        firsts, lasts = _shares(counts, start), _shares(counts, stop)
        parts = [self._of_corpus(n, epoch, *span) for n, span in enumerate(zip(firsts, lasts, strict=True))]
        which = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        if self.window:
            which = which[permutation(len(which), self.seed, len(parts), epoch, block)]
        # within the block, too, every corpus keeps its own order
        shown = np.empty(len(which), np.int64)
        for number, part in enumerate(parts):
            shown[which == number] = part
        return shown


def _shares(counts: Sequence[int], first: int) -> list[int]:
    """How many of the ``first`` samples of an epoch are each corpus's.

    One corpus is parted from the rest, then the next from what is left: so no share ever falls as ``first`` grows,
    and all of them are whole at the end.
    """
    shares, total = [], sum(counts)
    for count in counts[:-1]:
        mine = (2 * first * count + total) // (2 * total) if total else 0
        shares.append(mine)
        first, total = first - mine, total - count
    return [*shares, first]


def _short_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
