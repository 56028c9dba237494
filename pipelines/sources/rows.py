"""Rows of tables, each with the place a person finds it at; never more of them in memory than are looked at.

A table is a CSV or TSV, JSON lines, a JSON array, Parquet, or whatever ``datasets`` opens (see ``hub``). What cannot be
read is counted by file and line; a JSON array has no lines that mean anything, so its entries are numbered.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pipelines.sources.templates import named_split
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import Split, read_lines

TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
ARRAYS = (".json",)
PARQUET = (".parquet",)
SUFFIXES = TABLES + LINES + ARRAYS + PARQUET
_BATCH = 64  # rows of Parquet at a time: they may hold whole clips
_DEEPEST = 64  # objects and lists within each other


class Row(NamedTuple):
    """One row: ``file:line``, the line's number, and its columns."""

    place: str
    line: int
    columns: dict[str, Any]


class Part(NamedTuple):
    """A file of rows, or a split of a data set.

    ``size`` is bytes or rows, to share a limit by; ``columns`` are None where each row has its own; ``folder`` is where
    relative paths in it start.
    """

    name: str
    size: int
    columns: list[str] | None
    rows: Callable[[BadSamples], Iterator[Row]]
    folder: Path


def rank(name: str) -> int:
    """Where a table of this name stands among the splits: those that name none are last."""
    return [*get_args(Split), None].index(named_split(name))


def read_rows(path: Path, bad: BadSamples, quoted: bool = True) -> Iterator[Row]:
    """Yield the rows of a table; a row that does not fit its header is counted in ``bad``.

    Args:
        path: the file; its suffix says what it is.
        bad: where rows that cannot be read go.
        quoted: whether a CSV quotes its cells; without, a quote is a character like any other.
    """
    suffix = path.suffix.lower()
    if suffix in LINES or (suffix in ARRAYS and not _is_array(path)):
        for place, record in read_lines(path, bad):
            yield Row(place, int(place.rpartition(":")[2]), record)
    elif suffix in ARRAYS:
        yield from _read_array(path, bad)
    elif suffix in TABLES:
        yield from _read_table(path, bad, quoted)
    elif suffix in PARQUET:
        yield from _read_parquet(path, bad)
    else:
        raise UserError(f"{path} is no manifest: give a file that ends in {', '.join(SUFFIXES)}.")


def header(path: Path) -> list[str] | None:
    """The columns of a table; None for JSON, where each row has its own, and for what cannot be read."""
    if path.suffix.lower() in PARQUET:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema

        try:
            return list(read_schema(path).names)
        except (ArrowException, OSError):
            return None
    if path.suffix.lower() not in TABLES:
        return None
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=_delimiter(path)), [])
        except csv.Error as error:
            raise UserError(f"{path} is no table: its first line is not CSV ({error}).") from None
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(f"{path} has the column {', '.join(twice)} twice; rename one.")
    return names


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _read_table(path: Path, bad: BadSamples, quoted: bool) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(
            file, delimiter=_delimiter(path), quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
        )
        names = next(reader, [])
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
            if len(cells) < len(names) or any(cells[len(names) :]):
                bad.add(SampleError(place, None, f"{len(cells)} cells for {len(names)} columns"))
                continue
            yield Row(place, line, dict(zip(names, cells, strict=False)))


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _read_array(path: Path, bad: BadSamples) -> Iterator[Row]:
    """The objects in a JSON array, one after the other."""
    import ijson

    number = 0
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        entries = _entries(ijson.basic_parse(file, use_float=True))
        while True:
            number += 1
            place = f"{path.name}: entry {number}"
            try:
                record = next(entries)
            except StopIteration:
                return
            except (ijson.JSONError, ValueError):  # its message may show the text around it
                bad.add(SampleError(place, None, "not JSON, or nested too deep; nothing from here on was read"))
                return
            if isinstance(record, dict):
                yield Row(place, number, record)
            else:
                bad.add(SampleError(place, None, "not a JSON object"))


def _entries(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The entries of an array. ijson's own way to them holds the path to each, gigabytes where many brackets open."""
    from ijson.common import ObjectBuilder

    depth, builder = 0, ObjectBuilder()
    for event, value in events:
        depth -= event in ("end_map", "end_array")
        inside = depth > 0
        if inside:
            builder.event(event, value)
        depth += event in ("start_map", "start_array")
        if depth > _DEEPEST:
            raise ValueError
        if inside and depth == 1:
            yield builder.value
            builder = ObjectBuilder()


def _read_parquet(path: Path, bad: BadSamples) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(f"{path.name}:{number}", number, columns)
    except (ArrowException, OSError) as error:
        reason = f"not Parquet ({type(error).__name__}); nothing from here on was read"
        bad.add(SampleError(f"{path.name}:{number + 1}", None, reason))
