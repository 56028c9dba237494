"""Processes that share one piece of work, as torchrun starts them.

They speak by gloo, in JSON: results are few and small. What is large lies in a folder that all of them see.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from pride_mm.errors import UserError
from pride_mm.processes import join_processes

Thing = TypeVar("Thing")
_PATIENCE = timedelta(days=7)  # of whoever is done, for the slowest; one that has died is known at once
_NUMBERS = ("RANK", "WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """This process among ``world`` that do the same."""

    rank: int = 0
    world: int = 1

    @property
    def device_map(self) -> str | None:
        """Where this rank's model belongs: on all GPUs where it is alone, on one where it isn't; None without any."""
        gpus = torch.cuda.device_count()
        if not gpus or self.world == 1:
            return "auto" if gpus else None
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % gpus}"

    def mine(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Every ``world``-th, beginning with the ``rank``-th."""
        return things[self.rank :: self.world]

    def gather(self, value: Any) -> list[Any]:
        """What each process gives here, by rank; each waits for all. Values are what JSON can say.

        Raises:
            UserError: another process has ended.
        """
        data = json.dumps(value)
        if self.world == 1:
            return [json.loads(data)]
        mine = torch.frombuffer(bytearray(data.encode()), dtype=torch.uint8)
        lengths = [int(length) for length in self._gather(torch.tensor([len(mine)]))]
        rows = self._gather(torch.nn.functional.pad(mine, (0, max(lengths) - len(mine))))
        return [json.loads(bytes(row[:length].tolist())) for row, length in zip(rows, lengths, strict=True)]

    def _gather(self, mine: Tensor) -> list[Tensor]:
        rows = [torch.empty_like(mine) for _ in range(self.world)]
        with _one_line():
            torch.distributed.all_gather(rows, mine)
        return rows


ALONE = Ranks()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The processes that the environment tells of; alone, where it tells of none.

    Raises:
        UserError: ``WORLD_SIZE`` is set and the rest, by which they find each other, is not.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Ranks()
        return
    wrong = [name for name in _NUMBERS if not os.environ.get(name, "").isdecimal()]
    if wrong or not os.environ.get("MASTER_ADDR"):
        raise UserError(
            f"WORLD_SIZE is set, so there are other processes, but {', '.join(wrong) or 'MASTER_ADDR'} doesn't say how "
            "to find them: start all of them with torchrun, or unset WORLD_SIZE."
        )
    with _one_line():
        join_processes("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except RuntimeError:  # gloo's, of sockets
        raise UserError(
            "Another of these processes has ended before all were done; what it says is above, or in its own log. Run "
            "the same command again: what is done stays."
        ) from None
