"""What is packed, and in which order: a database on disk, so that memory doesn't grow with the corpus.

Every item and every note is read once, checked, and remembered by where its line lies in its file. What contradicts
itself (a second item of the same id, a group torn over two splits) is left out, named and counted. The order in a
split is by a hash of seed and id, so it follows neither the corpus nor chance, and a new item moves no other.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pipelines.pack.sample import Task, without_drafts
from pipelines.pack.split import SPLITS, split_of
from pride_mm.data.members import META, REACHED, encode_value, suffixes, to_json
from pride_mm.data.tar import LONGEST_NAME
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Item, item_from_json, notes_from_json, parse_line
from pride_mm.schema import Schema

_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE bands (id INTEGER PRIMARY KEY, corpus TEXT, name TEXT, splits INTEGER, UNIQUE (corpus, name));
    CREATE TABLE items (
        id TEXT PRIMARY KEY, band INTEGER, rank BLOB, file INTEGER, start INTEGER, size INTEGER, line INTEGER
    );
    CREATE TABLE notes (item TEXT PRIMARY KEY, file INTEGER, start INTEGER, size INTEGER, line INTEGER);
    CREATE TABLE bad (place TEXT, field TEXT, reason TEXT);
    CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER);
    BEGIN;
"""
# The splits that a group's items name, as bits; a group that has more than one is torn.
_QUEUE = """
    BEGIN;
    CREATE TABLE queue (place INTEGER PRIMARY KEY, split INTEGER, id TEXT, file INTEGER, start INTEGER, size INTEGER,
        note_file INTEGER, note_start INTEGER, note_size INTEGER);
    INSERT INTO queue (split, id, file, start, size, note_file, note_start, note_size)
        SELECT split_of(bands.splits, bands.name) AS split, items.id, items.file, items.start, items.size,
            notes.file, notes.start, notes.size
        FROM items JOIN bands ON bands.id = items.band LEFT JOIN notes ON notes.item = items.id
        WHERE bands.splits & (bands.splits - 1) = 0 ORDER BY split, items.rank, items.id;
    INSERT INTO facts SELECT 'unused', count(*) FROM notes WHERE item NOT IN (SELECT id FROM items);
    DROP TABLE items;
    DROP TABLE notes;
    DROP TABLE bands;
    COMMIT;
"""


class Plan:
    """A plan that is made; read in order, from any place.

    Attributes:
        splits: how many samples each split will have, in the order of the queue.
        bad: what was left out while it was made.
        notes_unused: how many notes fit no item.
        drafts_left_out: how many values of notes were a model's drafts left as they were.
    """

    def __init__(self, path: Path, items: Sequence[Path], notes: Sequence[Path]) -> None:
        self._path, self._items, self._notes = path, items, notes
        with closing(sqlite3.connect(path)) as database:
            counted = database.execute("SELECT split, count(*) FROM queue GROUP BY split ORDER BY split")
            self.splits = {SPLITS[split]: int(count) for split, count in counted}
            self.bad = [SampleError(*row) for row in database.execute("SELECT place, field, reason FROM bad")]
            facts = dict(database.execute("SELECT name, value FROM facts"))
        self.notes_unused, self.drafts_left_out = int(facts["unused"]), int(facts["drafts"])

    def __len__(self) -> int:
        return sum(self.splits.values())

    def tasks(self, split: str, after: int = 0) -> Iterator[Task]:
        """The tasks of a split but for the first ``after``; raises UserError where a file has changed meanwhile."""
        items, notes = _Lines(self._items), _Lines(self._notes)
        with closing(sqlite3.connect(self._path)) as database, items, notes:
            rows = database.execute(
                "SELECT id, file, start, size, note_file, note_start, note_size FROM queue"
                " WHERE split = ? ORDER BY place LIMIT -1 OFFSET ?",
                (SPLITS.index(split), after),  # type: ignore[arg-type]
            )
            for key, file, start, size, note_file, note_start, note_size in rows:
                note = None if note_file is None else notes.read(note_file, note_start, note_size)
                yield Task(key, str(self._items[file].parent), items.read(file, start, size), note)


def make_plan(
    path: Path,
    items: Sequence[Path],
    notes: Sequence[Path],
    schema: Schema,
    seed: int,
    drafts: bool,
    bad: BadSamples,
    progress: Progress = silent,
) -> Plan:
    """Check every item and every note, and write down what is packed when.

    Args:
        path: where the plan is made; what is there is replaced.
        items, notes: JSON lines files.
        schema: the fields.
        seed: of the order.
        drafts: whether notes that are a model's drafts are kept.
        bad: counts what is left out.
        progress: told of each item.

    Raises:
        UserError: more is bad than allowed, or nothing is left.
    """
    with _new(path) as database:
        database.create_function("split_of", 2, _split_of, deterministic=True)
        planner = _Planner(database, schema, bad, drafts)
        planner.add_items(items, seed, progress)
        planner.add_notes(notes)
        planner.name_torn()
        if database.execute("SELECT 1 FROM bands WHERE splits & (splits - 1) = 0").fetchone() is None:
            named = "".join(f"\n  {error}" for error in bad)
            raise UserError(f"Nothing to pack: no good item in {', '.join(map(str, items))}.{named}")
        rows = [(error.place, error.field, error.reason) for error in bad]
        database.executemany("INSERT INTO bad VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO facts VALUES ('drafts', ?)", (planner.drafts_left_out,))
        database.executescript(_QUEUE)
    return Plan(path, items, notes)


@contextmanager
def find_notes(
    path: Path, notes: Sequence[Path], schema: Schema, drafts: bool, bad: BadSamples
) -> Iterator["NoteBook"]:
    """Check every note, and find them by their item for as long as the block lasts; ``path`` is as for a plan."""
    with _new(path) as database, _Lines(notes) as lines:
        planner = _Planner(database, schema, bad, drafts)
        planner.add_notes(notes)
        yield NoteBook(database, lines, planner.drafts_left_out)


class NoteBook:
    """Notes by item.

    Attributes:
        drafts_left_out: how many of their values are a model's drafts left as they were.
    """

    def __init__(self, database: sqlite3.Connection, lines: "_Lines", drafts_left_out: int) -> None:
        self._database, self._lines, self.drafts_left_out = database, lines, drafts_left_out

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM notes").fetchone()[0])

    def get(self, item: str) -> bytes | None:
        """The line of the notes on an item, if there is one."""
        found = self._database.execute("SELECT file, start, size FROM notes WHERE item = ?", (item,)).fetchone()
        return None if found is None else self._lines.read(*found)


@contextmanager
def _new(path: Path) -> Iterator[sqlite3.Connection]:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        try:
            database.executescript(_TABLES)
            yield database
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
            raise


class _Planner:
    """Fills the tables, a line at a time."""

    def __init__(self, database: sqlite3.Connection, schema: Schema, bad: BadSamples, drafts: bool) -> None:
        self.database, self.schema, self.bad, self.drafts = database, schema, bad, drafts
        self.room = LONGEST_NAME - 1 - max(len(name) for name in (META, REACHED, *suffixes(schema.field)))
        self.drafts_left_out = 0

    def add_items(self, files: Sequence[Path], seed: int, progress: Progress) -> None:
        count = 0
        for number, path in enumerate(files):
            for place, line, where in _lines(path):
                self._item(line, place, (number, *where), files, seed)
                count += 1
                progress(count, None, "reading items")

    def add_notes(self, files: Sequence[Path]) -> None:
        for number, path in enumerate(files):
            for place, line, where in _lines(path):
                self._note(line, place, (number, *where), files)

    def _item(self, line: bytes, place: str, where: tuple[int, ...], files: Sequence[Path], seed: int) -> None:
        raw = parse_line(line, place, self.bad)
        _check_kind(raw, "items", files[where[0]])
        item = None if raw is None else item_from_json(raw, self.schema, place, self.bad)
        if item is None:
            return
        with self.bad.counting():
            self._check_fits(item)
            rank = hashlib.sha256(f"{seed}:{item.id}".encode()).digest()[:16]
            self._insert("items", item.id, (item.id, None, rank, *where), place, files)
            bits = 0 if item.split is None else 1 << SPLITS.index(item.split)
            (band,) = self.database.execute(
                "INSERT INTO bands (corpus, name, splits) VALUES (?, ?, ?)"
                " ON CONFLICT (corpus, name) DO UPDATE SET splits = splits | excluded.splits RETURNING id",
                (item.corpus, item.group, bits),
            ).fetchone()
            self.database.execute("UPDATE items SET band = ? WHERE id = ?", (band, item.id))

    def _check_fits(self, item: Item) -> None:
        """See that the id fits into a tar beside the longest name of a field, and that the turns can be written."""
        if len(item.id) > self.room:
            reason = f"this id is longer than the {self.room} characters that a tar has for it"
            raise SampleError(item.id, None, reason)
        try:
            encode_value(self.schema.dialogue, item.inputs[self.schema.dialogue.name])
            to_json([item.corpus, item.group])
        except ValueError as error:
            reason = "text that is not Unicode" if isinstance(error, UnicodeEncodeError) else str(error)
            raise SampleError(item.id, self.schema.dialogue.name, reason) from None

    def _note(self, line: bytes, place: str, where: tuple[int, ...], files: Sequence[Path]) -> None:
        raw = parse_line(line, place, self.bad)
        _check_kind(raw, "notes", files[where[0]])
        record = None if raw is None else notes_from_json(raw, self.schema, place, self.bad)
        if record is not None:
            with self.bad.counting():
                self._insert("notes", record.item, (record.item, *where), place, files)
                self.drafts_left_out += len(record.drafts) - len(without_drafts(record, self.drafts).drafts)

    def _insert(self, table: str, key: str, row: tuple[Any, ...], place: str, files: Sequence[Path]) -> None:
        """Remember a line by its item; raises SampleError where there is one already."""
        marks = ", ".join("?" * len(row))
        if self.database.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row).rowcount:
            return
        own = "id" if table == "items" else "item"
        file, line = self.database.execute(f"SELECT file, line FROM {table} WHERE {own} = ?", (key,)).fetchone()
        what = f"id '{key}' was" if table == "items" else f"notes on '{key}' were"
        raise SampleError(place, None, f"{what} already given at {files[file].name}:{line}")

    def name_torn(self) -> None:
        """Leave out the items of groups that are given more than one split."""
        torn = self.database.execute(
            "SELECT items.id, bands.name, bands.splits FROM items JOIN bands ON bands.id = items.band"
            " WHERE bands.splits & (bands.splits - 1) != 0 ORDER BY items.file, items.start"
        )
        for key, group, bits in torn:
            named = " and ".join(split for place, split in enumerate(SPLITS) if bits >> place & 1)
            self.bad.add(SampleError(key, None, f"group '{group}' is torn over {named}; give it one split"))


def _check_kind(raw: dict[str, Any] | None, wanted: str, path: Path) -> None:
    """Say it once where a whole file is of another kind, and not of each line what it lacks."""
    kinds = {"inputs": "items", "annotator": "annotations", "privileged": "notes"}
    found = next((kind for name, kind in kinds.items() if raw and name in raw), wanted)
    if found == wanted:
        return
    ways = {
        "items": "give it as an argument, not by --notes",
        "annotations": f"`pride label agree {path} --out notes.jsonl` makes notes of it",
        "notes": "give it by --notes",
    }
    raise UserError(f"{path} is a file of {found}, where one of {wanted} belongs: {ways[found]}.")


def _split_of(bits: int, group: str) -> int:
    return bits.bit_length() - 1 if bits else SPLITS.index(split_of(group))


def _lines(path: Path) -> Iterator[tuple[str, bytes, tuple[int, int, int]]]:
    """Each line of a file: what people call its place, its bytes, and (start, size, number)."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield f"{path.name}:{number}", line, (start, len(line), number)
            start += len(line)


class _Lines:
    """Files whose lines are read by where they lie."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in paths]

    def read(self, file: int, start: int, size: int) -> bytes:
        self._files[file].seek(start)
        return self._files[file].read(size)

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
