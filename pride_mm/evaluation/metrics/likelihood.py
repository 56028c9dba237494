"""How likely the gold responses are to a model, in deploy mode: no notes.

Perplexity is weighted by tokens over the whole set, ends included. Bits per byte is the same likelihood without a
tokenizer in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pride_mm.evaluation.bootstrap import Array, interval
from pride_mm.evaluation.metrics.score import Score


@dataclass(frozen=True)
class Likelihood:
    """What a model gave the gold responses, one entry a sample.

    Attributes:
        keys, groups: of the samples, in order.
        nats: negative log-likelihood of the response and its end, summed over its tokens.
        tokens: how many tokens that were.
        bytes: UTF-8 bytes of the response's text.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]

    def on(self, keys: Sequence[str]) -> "Likelihood":
        """The same for some of the samples, in the order of ``keys``."""
        where = {key: number for number, key in enumerate(self.keys)}
        rows = [where[key] for key in keys]
        return Likelihood(
            tuple(keys),
            tuple(self.groups[row] for row in rows),
            tuple(self.nats[row] for row in rows),
            tuple(self.tokens[row] for row in rows),
            tuple(self.bytes[row] for row in rows),
        )


def perplexity(given: Likelihood) -> Score | None:
    """exp(nats / tokens) over the whole set; None where there is no token."""
    if not sum(given.tokens):
        return None
    value = math.exp(math.fsum(given.nats) / sum(given.tokens))
    around = interval(given.groups, [given.nats, given.tokens], lambda sums: np.exp(sums[:, 0] / sums[:, 1]))
    return Score(value, sum(given.tokens), "tokens", around)


def bits_per_byte(given: Likelihood) -> Score | None:
    """Bits for one byte of the responses' text; the end counts as nats but not as a byte."""
    if not sum(given.bytes):
        return None
    value = math.fsum(given.nats) / math.log(2) / sum(given.bytes)
    around = interval(given.groups, [given.nats, given.bytes], lambda sums: sums[:, 0] / sums[:, 1] / math.log(2))
    return Score(value, sum(given.bytes), "bytes", around)


def perplexity_difference(one: Likelihood, other: Likelihood) -> Score | None:
    """Perplexity of ``one`` minus that of ``other`` on the samples both scored, resampled in pairs."""
    both = [key for key in one.keys if key in set(other.keys)]
    first, second = one.on(both), other.on(both)
    if not sum(first.tokens) or not sum(second.tokens):
        return None

    def statistic(sums: Array) -> Array:
        return np.asarray(np.exp(sums[:, 0] / sums[:, 1]) - np.exp(sums[:, 2] / sums[:, 3]))

    columns = [first.nats, first.tokens, second.nats, second.tokens]
    value = float(statistic(np.array([[math.fsum(column) for column in columns]]))[0])
    return Score(value, len(both), "responses", interval(first.groups, columns, statistic))
