"""What the commands share at the terminal: one look for lines, progress and lists of bad data."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from pride_mm.errors import SampleError
from pride_mm.progress import Progress

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str = "") -> None:
    """Print one line of a result; markup is not interpreted."""
    out.print(line, markup=False)


def say_as_it_comes(pieces: Iterable[str]) -> None:
    """Print a text while it is made, word by word, broken between words where the terminal is too narrow."""
    column, word = 0, ""
    width = out.width if out.is_terminal else sys.maxsize
    for letter in chain.from_iterable(chain(pieces, "\n")):
        if not letter.isspace():
            word += letter
            continue
        if column and column + len(word) > width:
            out.print()
            column = 0
        end = "\n" if letter == "\n" else "" if column + len(word) >= width else " "
        out.print(word, end=end, markup=False)
        column, word = (0 if letter == "\n" else column + len(word) + 1), ""


def complain(line: str) -> None:
    """Print one line to standard error; markup is not interpreted."""
    err.print(line, markup=False)


def name_bad(errors: Iterable[SampleError], shown: int = 20) -> None:
    """Name the bad samples that were left out, the first ``shown`` of them."""
    named = list(errors)
    if not named:
        return
    complain(f"{len(named)} bad, left out:")
    for error in named[:shown]:
        complain(f"  {error}")
    if len(named) > shown:
        complain(f"  ... and {len(named) - shown} more")


@contextmanager
def progress(title: str, shown: bool = True) -> Iterator[Progress]:
    """A progress bar on standard error, quiet when that is no terminal, or not to be ``shown``."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bar(*columns, console=err, disable=not (shown and sys.stderr.isatty()), transient=False) as bar:
        task = bar.add_task(title, total=None, note="")

        def tick(done: int, total: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield tick
