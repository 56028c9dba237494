"""Samples to batches, in worker processes: in an exact order, resumable, and never waiting for ever.

A sample that cannot be read or decoded is left out of its batch, named, counted and bounded; it still counts as
seen, so nothing else moves. A batch of which nothing is left takes the next readable sample of the shards in its
place, so that its rank still has a step. Whatever else goes wrong in a worker stops everything.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader, get_worker_info

from pride_mm.data.batches import Batches, Walk
from pride_mm.data.corpora import Corpora
from pride_mm.data.shards import Sample
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.memory import give_back_freed_memory

logger = logging.getLogger(__name__)
T = TypeVar("T")
Made = TypeVar("Made", covariant=True)
_AHEAD = 2
"""Batches that each worker makes in advance: with its current one all that is ever held of them."""
_HORIZON = 4096
"""Samples ahead of the current one whose shards are fetched, where they lie elsewhere."""
_STANDING_IN = 64
"""Samples that are tried in place of a batch that is broken from end to end."""

_TIDY = 256
"""Samples after which a process that decodes gives back what it has freed."""
_LOOK = 5.0
"""Seconds between two looks at whether the workers live: the signal of a death can be lost in a destructor."""
_LATE = "timed out"
"""How PyTorch says that no batch came in that time."""


class Collate(Protocol[Made]):
    """Samples to a batch, sample by sample, so that one that is broken harms no other."""

    def prepare(self, sample: Sample) -> Any:
        """Read and decode one sample; raises SampleError."""

    def join(self, prepared: Sequence[Any]) -> Made:
        """Put prepared samples side by side."""


class Plain:
    """Samples as they are, in a list."""

    def prepare(self, sample: Sample) -> Sample:
        return sample

    def join(self, prepared: Sequence[Sample]) -> list[Sample]:
        return list(prepared)


@dataclass
class _Made(Generic[T]):
    """What a worker gives back: a batch, what was bad in it, and a mistake that is the user's."""

    batch: T | None
    bad: tuple[tuple[int, SampleError], ...] = ()
    repeated: str | None = None
    refused: str | None = None

    def pin_memory(self) -> "_Made[T]":
        """Called by torch's pinning thread."""
        pin = getattr(self.batch, "pin_memory", None)
        if pin is not None:
            self.batch = pin()
        return self


class _Workshop(Generic[T]):
    """What a worker does; ``at`` says which place each worker is busy with."""

    def __init__(self, corpora: Corpora, collate: Collate[T], at: Tensor) -> None:
        self.corpora, self.collate, self.at = corpora, collate, at
        self._made = 0

    def __getitems__(self, places: Sequence[int]) -> _Made[T]:
        before, self._made = self._made, self._made + len(places)
        # also at the beginning: an epoch of little data may never come further
        if self._made // _TIDY > before // _TIDY or before == 0:
            give_back_freed_memory()
        bad: list[tuple[int, SampleError]] = []
        repeated = None
        try:
            prepared = self._prepare(places, bad)
            if not prepared:
                repeated, prepared = self._stand_in(places[-1])
            return _Made(self.collate.join(prepared), tuple(bad), repeated)
        except UserError as error:  # as a value: torch would hang a traceback on its message
            return _Made(None, tuple(bad), refused=str(error))

    def _prepare(self, places: Sequence[int], bad: list[tuple[int, SampleError]]) -> list[Any]:
        worker = get_worker_info()
        prepared = []
        for place in places:
            self.at[worker.id if worker else 0] = place
            try:
                sample = self.corpora[place]
            except SampleError as error:
                bad.append((place, error))
                continue
            try:
                prepared.append(self.collate.prepare(sample))
            except SampleError as error:
                bad.append((place, SampleError(self.corpora.where(place), error.field, error.reason)))
        return prepared

    def _stand_in(self, last: int) -> tuple[str, list[Any]]:
        for place in range(last + 1, last + 1 + _STANDING_IN):
            prepared = self._prepare([place % len(self.corpora)], [])
            if prepared:
                return self.corpora.where(place % len(self.corpora)), prepared
        raise UserError(
            f"{self.corpora.where(last)} and the {_STANDING_IN} samples after it cannot be read: "
            f"`pride check` names what is wrong with the shards."
        )


class Loader(Generic[T]):
    """The batches of one rank, ready made.

    Iterating gives the rest of the current epoch, then the next one. The state moves on with each batch that is
    handed out: between two batches it says exactly what is left.

    Args:
        corpora: what to read.
        collate: makes a batch of samples, in the workers.
        batches: which samples make a batch.
        workers: processes that read and decode; 0 does it here.
        timeout: seconds after which a batch that doesn't come is an error; only where there are workers.
        max_bad: bad samples allowed on this rank; each counts once, however often it is met.

    Attributes:
        bad: the bad samples met so far.
        repeated: what stood in for batches that were broken from end to end, by tar and key.
    """

    def __init__(
        self,
        corpora: Corpora,
        collate: Collate[T],
        batches: Batches,
        workers: int = 0,
        timeout: float = 300.0,
        max_bad: int = 0,
    ) -> None:
        assert len(batches.mix) == len(corpora)
        self.corpora, self.collate, self.batches = corpora, collate, batches
        self.workers, self.timeout = workers, timeout
        self.bad, self.repeated = BadSamples(max_bad), list[str]()
        self._known: set[int] = set()

    def __len__(self) -> int:
        """Steps of the current epoch, the same on every rank."""
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON; the same on every rank."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises UserError where it belongs to another stream."""
        self.batches.load_state_dict(state)

    def remainder(self) -> tuple[str, ...]:
        """What this rank repeats, or all leave out, in the last step of the epoch, by tar and key."""
        return tuple(self.corpora.where(place) for place in self.batches.remainder())

    def __iter__(self) -> Iterator[T]:
        epoch = self.batches.epoch
        due = _Due(Walk(self.batches, epoch, self.batches.position), self.corpora)
        at = torch.full((max(1, self.workers),), -1, dtype=torch.long).share_memory_()
        made = iter(
            DataLoader(
                _Workshop(self.corpora, self.collate, at),  # type: ignore[arg-type]
                batch_sampler=due,
                collate_fn=_as_it_is,
                num_workers=self.workers,
                prefetch_factor=_AHEAD if self.workers else None,
                pin_memory=torch.cuda.is_available(),
                timeout=min(_LOOK, self.timeout) if self.workers else 0,
            )
        )
        while (one := self._next(made, at)) is not None:
            batch = self._received(one)
            self.batches.go(epoch, due.positions.popleft())
            yield batch
        if self.batches.epoch == epoch:  # nothing was left of it
            self.batches.go(epoch + 1, 0)

    @record_function("pride.wait")
    def _next(self, made: Iterator[_Made[T]], at: Tensor) -> _Made[T] | None:
        since = time.monotonic()
        while True:
            try:
                return next(made, None)
            except RuntimeError as error:
                if _LATE in str(error) and time.monotonic() - since < self.timeout:
                    continue
                raise self._stopped(error, made, at) or error from None

    def _received(self, made: _Made[T]) -> T:
        for place, error in made.bad:
            if place not in self._known:
                self._known.add(place)
                logger.warning("Left out: %s", error)
                self.bad.add(error)
        if made.repeated:
            logger.warning("Taken in place of a batch that is broken from end to end: %s", made.repeated)
            self.repeated.append(made.repeated)
        if made.refused is not None:
            raise UserError(made.refused)
        assert made.batch is not None
        return made.batch

    def _stopped(self, error: RuntimeError, made: Any, at: Tensor) -> UserError | None:
        """What to say where a worker has died or doesn't answer; None where it is something else."""
        said = str(error)
        processes = getattr(made, "_workers", ())
        busy = {number: self.corpora.where(place) for number, place in enumerate(at.tolist()) if place >= 0}
        dead = [number for number, process in enumerate(processes) if not process.is_alive()]
        if "exited unexpectedly" in said or "is killed by signal" in said:
            where = ", ".join(busy[number] for number in dead if number in busy) or "its first sample"
            return UserError(
                f"A worker has died at {where}: killed, out of memory, or brought down by its decoder. "
                f"Look at that sample with `pride show`, or take fewer workers or smaller batches."
            )
        if _LATE in said:
            where = "; ".join(busy.values()) or "their first samples"
            return UserError(
                f"No batch came within {self.timeout:g} seconds; the workers are at {where}. The storage doesn't "
                f"answer, or a sample hangs its decoder: look at it with `pride show`."
            )
        return None


class _Due:
    """Batches as a loader takes them in advance, and how far each of them is into the epoch."""

    def __init__(self, walk: Walk, corpora: Corpora) -> None:
        self.walk, self.corpora, self.positions = walk, corpora, deque[int]()

    def __iter__(self) -> Iterator[list[int]]:
        asked = self._fetch([], self.walk.position)
        for places in self.walk:
            self.positions.append(self.walk.position)
            yield places
            asked = self._fetch(asked, self.walk.position)

    def _fetch(self, asked: list[tuple[int, int]], position: int) -> list[tuple[int, int]]:
        """Have the shards of what comes next brought here, in their order, where they have changed."""
        mix, epoch = self.walk.batches.mix, self.walk.epoch
        needed = mix.shards(epoch, position, min(position + _HORIZON, mix.samples(epoch)))
        if needed != asked:
            for number, reader in enumerate(self.corpora.readers):
                reader.prefetch(shard for corpus, shard in needed if corpus == number)
        return needed


def _as_it_is(made: T) -> T:
    return made
