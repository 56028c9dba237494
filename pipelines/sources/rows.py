"""Rows of a CSV or JSON lines file, each with the place a person finds it at."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import read_lines

TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")


class Row(NamedTuple):
    """One row: ``file:line``, the line's number, and its columns."""

    place: str
    line: int
    columns: dict[str, Any]


def read_rows(path: Path, bad: BadSamples, quoted: bool = True) -> Iterator[Row]:
    """Yield the rows of a CSV, TSV or JSON lines file; a row that does not fit its header is counted in ``bad``.

    Args:
        path: the file; its suffix says what it is.
        bad: where rows that cannot be read go.
        quoted: whether a CSV quotes its cells; without, a quote is a character like any other.
    """
    if path.suffix.lower() in LINES:
        for place, record in read_lines(path, bad):
            yield Row(place, int(place.rpartition(":")[2]), record)
    elif path.suffix.lower() in TABLES:
        yield from _read_table(path, bad, quoted)
    else:
        raise UserError(f"{path} is no manifest: give a file that ends in {', '.join(TABLES + LINES)}.")


def header(path: Path) -> list[str] | None:
    """The columns of a table; None for JSON lines, where each line has its own."""
    if path.suffix.lower() not in TABLES:
        return None
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file, delimiter=_delimiter(path)), [])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _read_table(path: Path, bad: BadSamples, quoted: bool) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(
            file, delimiter=_delimiter(path), quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
        )
        names = next(reader, [])
        line = reader.line_num
        while True:
            line, place = reader.line_num + 1, f"{path.name}:{reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                bad.add(SampleError(place, None, f"not CSV ({error})"))
                continue
            if not any(cells):
                continue
            if len(cells) < len(names):
                bad.add(SampleError(place, None, f"{len(cells)} cells for {len(names)} columns"))
                continue
            if any(cells[len(names) :]):
                bad.add(SampleError(place, None, f"{len(cells)} cells for {len(names)} columns"))
                continue
            yield Row(place, line, dict(zip(names, cells, strict=False)))
