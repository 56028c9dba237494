"""Batches of a stream: exact, the same number of steps on every rank, and resumable by two numbers.

Every sample is in exactly one batch of an epoch over all ranks; what doesn't fill the last step is shared out, and
where there are fewer samples than ranks some ranks repeat one (``pad``), or it is left out (``drop``): ``remainder``
names either. The state is an epoch and how many samples of it are behind all ranks together, so another
number of ranks, of workers, or another batch size goes on where this one was.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pride_mm.data.mix import Mix
from pride_mm.data.order import Places, permutation
from pride_mm.errors import UserError

_POOL = 1024
"""Samples that are sorted by length together: enough to fill batches evenly, few enough to stay shuffled."""


@dataclass(frozen=True)
class Budget:
    """Batches of about equal cost: at most ``tokens`` a batch, padding counted.

    ``lengths`` holds each sample's length by its place, in tokens.
    """

    tokens: int
    lengths: NDArray[np.int32]


class Batches:
    """Batches of places, for ``DataLoader(corpora, batch_sampler=batches)`` and for ``Loader``.

    Iterating gives the rest of the epoch, then the next epoch. A loader reads ahead, so with a plain DataLoader it
    isn't iterating that moves the state on but ``consumed()``, called for each batch that is done with; ``Loader``
    and torchdata's StatefulDataLoader keep count by themselves.

    Args:
        mix: the order of the samples.
        batch_size: samples a batch; with a budget, at most.
        rank, world: which of how many processes this is.
        remainder: what becomes of a last step that is not full.
        budget: makes batches of about equal tokens out of samples of about equal length.

    Raises:
        UserError: a sample that no batch can hold, or a step that is never full.
    """

    def __init__(
        self,
        mix: Mix,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        remainder: Literal["pad", "drop"] = "pad",
        budget: Budget | None = None,
    ) -> None:
        assert batch_size >= 1
        assert 0 <= rank < world
        # Accelerate asks for these two
        self.batch_size, self.drop_last = batch_size if budget is None else None, remainder == "drop"
        self.mix, self.largest, self.rank, self.world, self.budget = mix, batch_size, rank, world, budget
        self.epoch, self.position = 0, 0
        self._walked: tuple[int, int] | None = None
        self._steps: dict[int, int] = {}
        self._shown: tuple[tuple[int, int], list[Places]] | None = None
        if budget is not None:
            _check_budget(budget, len(mix))
        if not self.steps(0):
            raise UserError(
                f"An epoch has {mix.samples(0)} samples, which fills no step of {world} ranks with batches of "
                f"{batch_size}: take smaller batches, larger weights, or pad instead of drop."
            )

    def __len__(self) -> int:
        """Steps of the current epoch, the same on every rank."""
        return self.steps(self.epoch)

    def steps(self, epoch: int) -> int:
        """Steps of a whole epoch, the same on every rank."""
        if epoch not in self._steps:
            self._steps[epoch] = self._count(epoch)
        return self._steps[epoch]

    def __iter__(self) -> "Walk":
        if self._walked == (self.epoch, self.position):  # walked to the end, and nobody said consumed()
            self.epoch, self.position, self._walked = self.epoch + 1, 0, None
        return Walk(self, self.epoch, self.position)

    def consumed(self) -> None:
        """Say that one step is done with, on every rank; after the last one the next epoch begins."""
        walk = Walk(self, self.epoch, self.position)
        next(walk, None)
        self.go(walk.epoch, walk.position)

    def go(self, epoch: int, position: int) -> None:
        """Stand behind ``position`` samples of an epoch; behind its last step begins the next one."""
        self._walked = None
        self.epoch, self.position = (epoch + 1, 0) if self._ended(epoch, position) else (epoch, position)

    def remainder(self) -> tuple[int, ...]:
        """The places that this rank repeats in the epoch's last step, or that all ranks leave out of it."""
        return self._last(self.epoch, self.position)

    def state_dict(self) -> dict[str, Any]:
        """Where the batches stand, as JSON; the same on every rank."""
        return self.state(self.epoch, self.position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises UserError where it belongs to another stream."""
        self.go(*self.check(state))

    def state(self, epoch: int, position: int) -> dict[str, Any]:
        """A state by its two numbers."""
        return {"epoch": epoch, "position": position, "order": self.mix.describe(), "lengths": self._cut}

    def check(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """The epoch and the position of a state; raises UserError where it belongs to another stream."""
        try:
            epoch, position = int(state["epoch"]), int(state["position"])
            found = [*self._differences(state["order"])]
            if position:  # within an epoch the batches are cut already
                found += _changed(state, {"lengths": self._cut})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError("This is no state of a stream of samples; give one that state_dict() made.") from None
        if found:
            raise UserError(
                f"The state was saved with other {', '.join(found)}: samples would be repeated and missed. "
                f"Set it back, or start anew."
            )
        if epoch < 0 or not 0 <= position <= self.mix.samples(epoch):
            raise UserError(f"The state stands at sample {position} of epoch {epoch}, which has no such sample.")
        return epoch, position

    def _differences(self, order: Mapping[str, Any]) -> Iterator[str]:
        mine = self.mix.describe()
        yield from _changed({**order, "corpora": len(order["corpora"])}, {**mine, "corpora": len(mine["corpora"])})
        for corpus, theirs, ours in zip(self.mix.corpora, order["corpora"], mine["corpora"], strict=False):
            yield from _changed(theirs, ours, f"corpus '{corpus.name}': ")

    def _ended(self, epoch: int, position: int) -> bool:
        """Whether no step is left of an epoch."""
        left = self.mix.samples(epoch) - position
        if left <= 0 or not self.drop_last:
            return left <= 0
        if self.budget is None:
            return left < self.largest * self.world
        return not self._whole(next(self._global(epoch, position)))

    @cached_property
    def _cut(self) -> str | None:
        """What the batches of a budget depend on beside the order."""
        if self.budget is None:
            return None
        digest = hashlib.sha256(np.ascontiguousarray(self.budget.lengths, np.int32).tobytes())
        return f"{self.budget.tokens} tokens, at most {self.largest}, of {digest.hexdigest()[:16]}"

    def _count(self, epoch: int) -> int:
        if self.budget is None:
            batches, each = self.mix.samples(epoch), self.largest * self.world
        else:
            pools = range(-(-self.mix.samples(epoch) // _POOL))
            batches, each = sum(len(self._pool(epoch, pool)) for pool in pools), self.world
        return batches // each if self.drop_last else -(-batches // each)

    def _global(self, epoch: int, position: int) -> Iterator[list[Places]]:
        """The steps from a position on, each as the batches of the ranks; the last one may have too few."""
        if self.budget is None:
            samples, each = self.mix.samples(epoch), self.largest * self.world
            for start in range(position, samples, each):
                places = self.mix.places(epoch, start, min(start + each, samples))
                # strided, so that a short step is shared out evenly
                ranks = [places[rank :: self.world] for rank in range(self.world)]
                yield [part for part in ranks if len(part)]
            return
        step: list[Places] = []
        for batch in self._bucketed(epoch, position):
            step.append(batch)
            if len(step) == self.world:
                yield step
                step = []
        if step:
            yield step if self.drop_last else _split(step, self.world)

    def _whole(self, step: list[Places]) -> bool:
        if self.budget is not None:
            return len(step) == self.world
        return sum(map(len, step)) == self.largest * self.world

    def _bucketed(self, epoch: int, position: int) -> Iterator[Places]:
        """The batches of a budget from a position on; they don't depend on the number of ranks."""
        for pool in range(position // _POOL, -(-self.mix.samples(epoch) // _POOL)):
            at = pool * _POOL
            for batch in self._pool(epoch, pool):
                if at >= position:
                    yield batch
                at += len(batch)

    def _pool(self, epoch: int, pool: int) -> list[Places]:
        """A stretch of the stream in batches of like lengths, in an order of their own."""
        if self._shown is None or self._shown[0] != (epoch, pool):
            self._shown = (epoch, pool), self._sorted(epoch, pool)
        return self._shown[1]

    def _sorted(self, epoch: int, pool: int) -> list[Places]:
        assert self.budget is not None
        start = pool * _POOL
        places = self.mix.places(epoch, start, min(start + _POOL, self.mix.samples(epoch)))
        lengths = self.budget.lengths[places]
        longest_first = np.argsort(-lengths, kind="stable")
        cuts = _cuts(lengths[longest_first], self.budget.tokens, self.largest)
        batches = np.split(places[longest_first], cuts)
        if not self.mix.window:
            return batches
        return [batches[place] for place in permutation(len(batches), self.mix.seed, epoch, pool, 1)]

    def _last(self, epoch: int, position: int) -> tuple[int, ...]:
        if self.budget is None:  # no need to walk there
            each = self.largest * self.world
            position += (self.mix.samples(epoch) - position - 1) // each * each
        *_, last = self._global(epoch, position)
        if self.drop_last:
            return () if self._whole(last) else tuple(int(place) for batch in last for place in batch)
        return () if self.rank < len(last) else tuple(last[self.rank % len(last)].tolist())


class Walk:
    """The batches of one rank through the rest of an epoch; ``position`` counts the samples of all ranks behind it."""

    def __init__(self, batches: Batches, epoch: int, position: int) -> None:
        self.batches = batches
        self._go(epoch, position)

    def _go(self, epoch: int, position: int) -> None:
        self.epoch, self.position, self._start = epoch, position, (epoch, position)
        self._steps = self.batches._global(epoch, position)

    def __iter__(self) -> "Walk":
        return self

    def __next__(self) -> list[int]:
        step = next(self._steps, None)
        if step is None or (self.batches.drop_last and not self.batches._whole(step)):
            self._steps = iter(())
            self.batches._walked = self._start
            raise StopIteration
        self.position += sum(map(len, step))
        mine: list[int] = step[self.batches.rank % len(step)].tolist()
        return mine

    def state_dict(self) -> dict[str, Any]:
        """The state behind the batches given so far, as torchdata's StatefulDataLoader asks for it."""
        return self.batches.state(self.epoch, self.position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises UserError where it belongs to another stream."""
        self._go(*self.batches.check(state))
        self.batches.epoch, self.batches.position = self._start


def _cuts(lengths: NDArray[np.int32], tokens: int, largest: int) -> list[int]:
    """Where to cut samples, longest first, into as few batches as the budget allows, all about equally full."""
    few, low, high = _greedy(lengths, tokens, largest), int(lengths[0]), tokens
    while low < high:  # the smallest budget that makes no more batches
        middle = (low + high) // 2
        if len(_greedy(lengths, middle, largest)) > len(few):
            low = middle + 1
        else:
            high = middle
    return _greedy(lengths, high, largest)


def _greedy(lengths: NDArray[np.int32], tokens: int, largest: int) -> list[int]:
    cuts: list[int] = []
    at, total = 0, len(lengths)
    while True:
        at += min(largest, tokens // max(int(lengths[at]), 1))
        if at >= total:
            return cuts
        cuts.append(at)


def _split(step: list[Places], ranks: int) -> list[Places]:
    """Share too few batches out to more ranks, by halving the largest."""
    parts = list(step)
    while len(parts) < ranks:
        place = max(range(len(parts)), key=lambda part: len(parts[part]))
        if len(parts[place]) < 2:
            break
        half = len(parts[place]) // 2
        parts[place : place + 1] = [parts[place][:half], parts[place][half:]]
    return parts


def _changed(theirs: Mapping[str, Any], mine: Mapping[str, Any], of: str = "") -> list[str]:
    """What differs, by name, with both values."""
    return [f"{of}{name} ({theirs[name]}, now {value})" for name, value in mine.items() if theirs[name] != value]


def _check_budget(budget: Budget, samples: int) -> None:
    assert len(budget.lengths) == samples
    longest = int(budget.lengths.max())
    if longest > budget.tokens:
        over = int((budget.lengths > budget.tokens).sum())
        raise UserError(
            f"{over} of {samples} samples are longer than a batch of {budget.tokens} tokens; the longest has "
            f"{longest}: allow more tokens a batch, or shorten the samples (data.max_context, data.max_response)."
        )
