"""How long work says how far it is; drawn by the command line only."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on: ``done`` of ``total`` (None where unknown), with a short note."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


def silent(done: int, total: int | None = None, note: str = "") -> None:
    """Progress that shows nothing."""
