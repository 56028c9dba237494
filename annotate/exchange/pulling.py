"""Annotations out of Label Studio into a file: all of them, or those of the tasks that have changed.

The server answers page by page, and what it answers is sorted on disk, so that memory does not grow with the number
of tasks. Beside the file lies its cursor: which tasks were read in which state. A pull of what has changed asks
for the state of all tasks, which costs little, reads those whose state is another, and takes the others from
the file: it becomes what a full pull would have written, byte for byte.
"""

import hashlib
import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from annotate.exchange.listing import STATE, WHOLE, Listed, count_drafted, listed, read_tasks, state_of
from annotate.exchange.parts import Parts
from annotate.exchange.table import Row, read_rows, row_of, write_rows
from annotate.page.provenance import drafts_of, predictions_of
from annotate.page.results import from_results
from annotate.people import Person, people
from pride_mm.errors import BadSamples, UserError
from pride_mm.files import write_text
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation

_RUN = 4 << 20  # bytes of rows that are sorted in memory at once
_UNKNOWN = Person("unknown", "expert")
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class PulledFile:
    """What a pull wrote. ``read`` of ``tasks`` were read anew; ``skipped`` and ``empty`` annotations are left out.

    ``unsubmitted`` tasks hold a draft that its expert hasn't submitted; ``deleted`` tasks are gone since the last pull.
    """

    annotations: int
    tasks: int
    read: int
    skipped: int = 0
    empty: int = 0
    unsubmitted: int = 0
    deleted: int = 0


@dataclass
class Reader:
    """Reads annotations; counts those left out on the page and those that say nothing."""

    known: Mapping[int, Person]
    bad: BadSamples
    skipped: int = 0
    empty: int = 0

    def of(self, task: Listed) -> Iterator[tuple[Key, Annotation]]:
        """The annotations of a task, each with what they are sorted by."""
        predictions = predictions_of(task.predictions, task.context)
        for given in task.annotations:
            if given.get("was_cancelled"):
                self.skipped += 1
                continue
            person = self.known.get(given.get("completed_by") or -1, _UNKNOWN)
            place = f"task {task.number} ({task.item}), annotator {person.annotator}"
            refused = len(self.bad)
            values = from_results(given.get("result") or [], task.context, place, self.bad)
            if values:
                drafts = drafts_of(given, values, predictions, task.context)
                bare = Annotation(item=task.item, annotator=person.annotator, origin=person.origin, values={})
                key = (task.item, person.origin, person.annotator, int(given["id"]))
                yield key, bare.model_copy(update={"values": values, "drafts": drafts})
            elif len(self.bad) == refused:
                self.empty += 1


@dataclass
class Cursor:
    """What a file of annotations was pulled from: the projects by number, and each task's item and state.

    ``people`` are the annotators' pseudonyms by their number: another key, or another name, concerns every line.
    """

    projects: dict[str, str]
    schema: str
    people: dict[str, str]
    sha256: str = ""
    tasks: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def note(self, task: Listed) -> None:
        self.tasks.setdefault(str(task.project), {})[str(task.number)] = [task.item, task.state]


def cursor_path(out: Path) -> Path:
    """Where the cursor of a file lies."""
    return out.with_name(f"{out.name}.cursor")


def tasks_of(out: Path) -> Iterator[tuple[str, int, int]]:
    """The tasks a file was pulled from: item, number of the project, of the task. None where its cursor isn't there."""
    try:
        tasks = json.loads(cursor_path(out).read_text())["tasks"]
        found = [(str(item), int(p), int(task)) for p, of in tasks.items() for task, (item, _) in of.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    yield from found


def pull_file(
    project: Parts, key: bytes, out: Path, changed: bool = False, bad: BadSamples | None = None,
    progress: Progress = silent,
) -> PulledFile:  # fmt: skip
    """Write the annotations of a project to a file: Parquet where its name ends so, else JSON lines.

    Args:
        project: where they are.
        key: turns the addresses of real people into pseudonyms.
        out: replaced whole, or left as it is.
        changed: read only the tasks that have changed since ``out`` was pulled; the first time all of them.
        bad: counts each refused result by task, annotator and field; the annotation's rest is kept.
        progress: called with the tasks read.

    Raises:
        UserError: no such project, no answer, or with ``changed`` a file that was pulled from elsewhere or edited.
    """
    born = project.born()
    known = people(project.studio, key)
    names = {str(number): f"{person.origin}/{person.annotator}" for number, person in known.items()}
    cursor = Cursor({str(number): at for number, at in born.items()}, project.schema.sha256, names)
    reader = Reader(known, BadSamples() if bad is None else bad)
    before = _before(out, cursor) if changed else None
    count = _Count()
    if before is None:
        tasks, kept, gone = _all(project, progress), _nothing(), 0
    else:
        items: set[str] = set()
        wanted, gone = _wanted(project, before, cursor, items)
        tasks, kept = _changed(project, wanted, cursor, items, progress), _kept(out, items)
    rows = ((key, row_of(one, project.schema)) for task in count.through(tasks, cursor) for key, one in reader.of(task))
    with _Sorted(rows, out.absolute().parent) as new:
        merged = heapq.merge(kept, new, key=itemgetter(0))
        written = write_rows(out, (row for _, row in merged), project.schema)
    cursor.sha256 = _digest(out)
    write_text(cursor_path(out), json.dumps(vars(cursor)) + "\n")
    total = sum(len(of) for of in cursor.tasks.values())
    unsubmitted = sum(count_drafted(project.studio, number) for number in born)
    return PulledFile(written, total, count.tasks, reader.skipped, reader.empty, unsubmitted, gone)


@dataclass
class _Count:
    tasks: int = 0

    def through(self, tasks: Iterable[Listed], cursor: Cursor) -> Iterator[Listed]:
        for task in tasks:
            self.tasks += 1
            cursor.note(task)
            yield task


def _all(project: Parts, progress: Progress) -> Iterator[Listed]:
    for done, task in enumerate(project.tasks(), 1):
        progress(done, None, "tasks")
        yield task


def _before(out: Path, now: Cursor) -> Cursor | None:
    """The cursor of the last pull, None where all must be read; raises UserError where it is of something else."""
    path = cursor_path(out)
    if not path.exists() or not out.exists():
        return None
    again = f"Pull without --changed, or into another file than {out}."
    try:
        before = Cursor(**json.loads(path.read_text()))
        strange = any(now.projects.get(number) != at for number, at in before.projects.items())
        other = before.schema != now.schema
        renamed = any(now.people.get(number) != name for number, name in before.people.items())
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path} is not what 'pride label pull' wrote. {again}") from None
    if strange:
        raise UserError(f"{out} was pulled from another project or server. {again}")
    if other:
        raise UserError(f"{out} was pulled with another schema. {again}")
    if before.sha256 != _digest(out):
        raise UserError(f"{out} was changed since it was pulled. {again}")
    return None if renamed else before


def _wanted(project: Parts, before: Cursor, now: Cursor, items: set[str]) -> tuple[dict[int, list[int]], int]:
    """The tasks of each project that are new or have changed, and how many are gone.

    Unchanged tasks are noted in ``now``; the items of the others, as far as they are known yet, are added to ``items``.
    """
    wanted: dict[int, list[int]] = {}
    gone = 0
    for number in project.numbers:
        old = before.tasks.get(str(number), {})
        there: set[str] = set()
        for raw in read_tasks(project.studio, number, STATE):
            task = str(raw["id"])
            there.add(task)
            item, state = old.get(task, ["", ""])
            if state == state_of(raw):
                now.tasks.setdefault(str(number), {})[task] = [item, state]
            else:
                wanted.setdefault(number, []).append(int(task))
                items.add(item)
        lost = old.keys() - there
        items |= {old[task][0] for task in lost}
        gone += len(lost)
    return wanted, gone


def _changed(
    project: Parts, wanted: Mapping[int, list[int]], now: Cursor, items: set[str], progress: Progress
) -> Iterator[Listed]:
    """The tasks to be read anew; whatever item they turn out to be of is added to ``items``."""
    parts = project.parts()
    total, done = sum(map(len, wanted.values())), 0
    unchanged = {number: dict(of) for number, of in now.tasks.items()}
    for number, chosen in wanted.items():
        for raw in read_tasks(project.studio, number, WHOLE, chosen=chosen):
            done += 1
            progress(done, total, "changed tasks")
            task = listed(raw, parts[number], number)
            if task is not None:
                items.add(task.item)
                yield task
    for number in parts:  # an item that is there twice is read whole
        again = [int(task) for task, (item, _) in unchanged.get(str(number), {}).items() if item in items]
        for raw in read_tasks(project.studio, number, WHOLE, chosen=again):
            task = listed(raw, parts[number], number)
            if task is not None:
                yield task


def _nothing() -> Iterator[tuple[Key, Row]]:
    return iter(())


def _kept(out: Path, items: set[str]) -> Iterator[tuple[Key, Row]]:
    """The rows of a file whose items are not read anew, which is known when the first row is asked for."""
    for place, row in enumerate(read_rows(out)):
        if row["item"] not in items:
            yield (row["item"], row["origin"], row["annotator"], place), row


class _Sorted:
    """Rows in order, as a context manager: sorted run by run, each run in a nameless file."""

    def __init__(self, rows: Iterable[tuple[Key, Row]], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._runs = folder, []  # type: ignore[var-annotated]
        run: list[tuple[Key, bytes]] = []
        size = 0
        for key, row in rows:
            line = json.dumps(row).encode()
            run.append((key, line))
            size += len(line)
            if size > _RUN:
                self._spill(run)
                run, size = [], 0
        self._last = sorted(run, key=itemgetter(0))

    def __enter__(self) -> Iterator[tuple[Key, Row]]:
        merged = heapq.merge(*map(self._read, self._runs), self._last, key=itemgetter(0))
        return ((key, json.loads(line)) for key, line in merged)

    def __exit__(self, *_: object) -> None:
        for file in self._runs:
            file.close()

    def _spill(self, run: list[tuple[Key, bytes]]) -> None:
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._runs.append(file)
        for key, line in sorted(run, key=itemgetter(0)):
            file.write(json.dumps(key).encode() + b"\n" + line + b"\n")

    @staticmethod
    def _read(file: Any) -> Iterator[tuple[Key, bytes]]:
        file.seek(0)
        for key in file:
            item, origin, annotator, number = json.loads(key)
            yield (item, origin, annotator, number), file.readline()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
