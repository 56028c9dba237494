"""The tables at a path, or of a data set by name: which there are, how large, and what lies beside them."""

import json
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.sources.corpus import Table
from pipelines.sources.hub import dataset_parts
from pipelines.sources.rows import ARRAYS, LINES, PARQUET, SUFFIXES, TABLES, Part, Row, header, rank, read_rows
from pride_mm.errors import BadSamples, SampleError, UserError

_GIVE = f"give a file ending in {', '.join(SUFFIXES)}, or the folder that holds it"
_APART = 1000  # rows by which tables that go together may be out of step


def find_parts(given: str | None, table: Table) -> list[Part]:
    """The tables at a path, or of a data set by name; train before valid before test.

    Raises:
        UserError: there is nothing, or more than one manifest, or no table.
    """
    if given is None:
        raise UserError(f"Clips and tables need the path of their manifest: {_GIVE}.")
    path = Path(given)
    if path.is_dir():
        files = _files(path, table)
        if files:
            return [_part(file, table) for file in files]
    elif path.is_file():
        return [_part(path, table)]
    elif path.suffix.lower() in SUFFIXES or len(path.parts) > 2:
        raise UserError(f"No manifest at {path}: {_GIVE}.")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"{path} holds 0 manifests (manifest.csv, .jsonl, ...): {_GIVE}.")
    return dataset_parts(given)


def shares(parts: Sequence[Part], limit: int | None) -> list[int | None]:
    """How many rows or dialogues each part gives: by its size, and one at least where there are enough."""
    if limit is None:
        return [None] * len(parts)
    left, total, found = limit, sum(part.size for part in parts), list[int | None]()
    for number in range(len(parts), 0, -1):
        size = parts[number - 1].size
        share = left if number == 1 else round(left * size / total) if total else left // number
        share = min(left, max(share, 1 if limit >= len(parts) else 0))
        found.append(share)
        left, total = left - share, total - size
    return found[::-1]


def _files(folder: Path, table: Table) -> list[Path]:
    if table.files:
        found = {path for pattern in table.files for path in folder.glob(pattern) if path.is_file()}
        if not found:
            raise UserError(f"{folder} holds 0 manifests: no {' or '.join(table.files)} in it; give the path of one.")
        return sorted(found, key=_rank)
    manifests = sorted(p for p in folder.glob("manifest.*") if p.suffix.lower() in SUFFIXES)
    if len(manifests) > 1:
        raise UserError(f"{folder} holds {len(manifests)} manifests (manifest.csv, .jsonl, ...); give the path of one.")
    if manifests:
        return manifests
    for suffixes in (LINES, ARRAYS, TABLES, PARQUET):
        found = {p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file()}
        if found and not {p.name for p in found} <= {"dataset_info.json", "state.json", "dataset_dict.json"}:
            return sorted(found, key=_rank)
    return []


def _rank(path: Path) -> tuple[int, str]:
    return rank(path.stem), path.name


def _part(path: Path, table: Table) -> Part:
    columns = header(path)
    beside = {name: path.parent / file for name, file in table.beside.items()}
    for name, file in beside.items():
        if not file.is_file():
            raise UserError(f"No {file.name} beside {path.name}: its rows go with those of {path.name}.")
        columns = None if columns is None else columns + [f"{name}.{column}" for column in header(file) or ()]

    def rows(bad: BadSamples) -> Iterator[Row]:
        found = read_rows(path, bad, table.quoted)
        for name, file in beside.items():
            found = _joined(found, name, read_rows(file, bad, table.quoted), table.by, bad)
        return found

    return Part(path.stem, path.stat().st_size, columns, rows, path.parent)


def _joined(rows: Iterator[Row], name: str, others: Iterator[Row], by: Sequence[str], bad: BadSamples) -> Iterator[Row]:
    """Each row with the columns of the one that goes with it in another table, in about the same order there."""
    waiting: OrderedDict[str, deque[Row]] = OrderedDict()
    held = 0

    def key(row: Row) -> str:
        return json.dumps([str(row.columns.get(column)) for column in by])

    for row in rows:
        wanted = key(row)
        while wanted not in waiting and held < _APART and (other := next(others, None)) is not None:
            waiting.setdefault(key(other), deque()).append(other)
            held += 1
        found = waiting.get(wanted)
        if not found:
            bad.add(SampleError(row.place, None, f"no row of '{name}' has the same {', '.join(by)}"))
            if held >= _APART:  # the oldest was waited for long enough
                held -= len(waiting.popitem(last=False)[1])
            continue
        other = found.popleft()
        held -= 1
        if not found:
            del waiting[wanted]
        yield row._replace(columns={**row.columns, **{f"{name}.{k}": v for k, v in other.columns.items()}})
