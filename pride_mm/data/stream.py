"""The order in which samples are seen: exact, the same each time, and resumable.

Every sample is seen exactly once an epoch over all ranks. Every rank takes the same number of steps;
where the last step has fewer samples than there are ranks, the ranks left without one repeat a sample
of that step, and ``padding`` names it. The state is two numbers, saved as JSON: it can be read before
anything is trusted.
"""

from collections.abc import Iterator

import numpy as np

from pride_mm.errors import UserError


def epoch_order(samples: int, seed: int, epoch: int) -> list[int]:
    """A permutation of ``range(samples)``: the same for the same seed and epoch, another for another."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return [int(place) for place in generator.permutation(samples)]


class Order:
    """Batches of places in a reader, for ``DataLoader(reader, batch_sampler=order)``.

    Iterating gives the rest of the current epoch. A loader reads ahead, so it isn't iterating that
    moves the order on but ``consumed()``, called once for each batch that was trained on. At the end
    of an epoch, iterate again.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1, shuffle: bool = True
    ) -> None:
        if samples < 1:
            raise UserError("There is no sample to read.")
        assert batch_size >= 1
        assert 0 <= rank < world
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.world, self.shuffle = rank, world, shuffle
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        """Batches in a whole epoch, the same on every rank."""
        return -(-self.samples // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for step in range(self.position, len(self)):
            yield self._mine(self._step(order, step))

    def padding(self) -> tuple[int, ...]:
        """The places that this rank repeats in the last batch of the current epoch; empty on one rank."""
        last = self._step(self._order(), len(self) - 1)
        return () if last[self.rank :: self.world] else tuple(self._mine(last))

    def consumed(self) -> None:
        """Say that one batch is done with; after the last one the next epoch begins."""
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the order stands, as JSON; the same on every rank."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "samples": self.samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world": self.world,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state; raises UserError where it belongs to another order."""
        for name in ("samples", "batch_size", "seed", "world"):
            if state[name] != getattr(self, name):
                raise UserError(
                    f"The state was saved with {name}={state[name]}, this run has {name}={getattr(self, name)}: "
                    f"samples would be repeated and missed. Set it back, or start a new run."
                )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _order(self) -> list[int]:
        return epoch_order(self.samples, self.seed, self.epoch) if self.shuffle else list(range(self.samples))

    def _step(self, order: list[int], step: int) -> list[int]:
        size = self.batch_size * self.world
        return order[step * size : (step + 1) * size]

    def _mine(self, step: list[int]) -> list[int]:
        # strided, so that a short last step is shared out evenly
        return step[self.rank :: self.world] or [step[self.rank % len(step)]]
