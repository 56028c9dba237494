"""From items to those that are good enough: every item measured, judged, and kept or listed with the reason.

Two passes over the items: one measures and judges, the other writes what is kept. Media are decoded in processes that
may die; what was measured goes into a journal beside the kept items at once, so a stopped run goes on where it was.
What is held in memory of an item is its id and its marks, under a kilobyte.
"""

import hashlib
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from dataclasses import field as datum
from functools import partial
from pathlib import Path

from pipelines.pack.split import split_of
from pipelines.quality.copies import Copy, Marks
from pipelines.quality.findings import Finding, Findings, judged
from pipelines.quality.measure import Task, measure, task_of
from pipelines.quality.measured import JOURNAL, Journal, Measured
from pipelines.quality.rule import Action
from pipelines.quality.settings import QualitySettings
from pipelines.workers import Lost, Workers
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import whole_file
from pride_mm.progress import Progress, silent
from pride_mm.records import Item, read_items, read_notes, write_records
from pride_mm.schema import Kind, Media, Role, Schema

# Of two copies the one in the first of these is kept: what is evaluated on stays as it is.
_KEPT_FIRST = ("test", "valid", "train")


@dataclass
class Gated:
    """What came of it.

    Attributes:
        kept: how many items.
        items, dropped: how many, by corpus and split.
        findings: how many by measure and action; the first ones of each measure in ``first``.
        across: how many copies are of an item in another split, by measure.
        figures: of all items, by measure.
        listed: where all findings are.
        bad: lines that are no items.
    """

    listed: Path
    kept: int = 0
    items: Counter[tuple[str, str]] = datum(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = datum(default_factory=Counter)
    findings: Counter[tuple[str, Action]] = datum(default_factory=Counter)
    across: Counter[str] = datum(default_factory=Counter)
    figures: dict[str, "array[float]"] = datum(default_factory=dict)
    first: dict[str, list[tuple[Finding, Item]]] = datum(default_factory=dict)
    bad: tuple[SampleError, ...] = ()


def gate(
    items: Sequence[Path],
    schema: Schema,
    settings: QualitySettings,
    out: Path,
    listed: Path,
    pool: Workers,
    notes: Sequence[Path] = (),
    max_bad: int = 10,
    progress: Progress = silent,
) -> Gated:
    """Judge items.

    Args:
        items: files of items.
        schema: their fields.
        settings: the rules.
        out: where the kept items go, as items.
        listed: where the findings go, a JSON object a line.
        pool: where media are decoded.
        notes: files of notes; a response that stands in one is found.
        max_bad: how many lines may be no items.
        progress: told of every item.

    Raises:
        UserError: a file is missing, holds no item, or would be written over.
        TooManyBadSamples: too many lines are no items.
    """
    _check_paths(items, notes, out)
    bad = BadSamples(max_bad)
    texts = _texts(notes, schema, bad)
    gated = Gated(listed)
    with whole_file(listed) as file, closing(Journal(out.with_name(out.name + JOURNAL))) as journal:
        findings = Findings(file)
        judge = _Judge(schema, settings, findings, gated)
        for measured in _Measuring(judge, journal, pool, progress).run(_read(items, schema, bad), texts):
            judge.add(measured)
        if not judge.ids:
            raise UserError(f"No item in {', '.join(map(str, items))}; `pride ingest` makes them.")
        judge.find_copies()
    gated.bad, gated.findings, gated.across = tuple(bad), findings.counts, findings.across
    wanted = {finding.item for found in findings.first.values() for finding in found}
    seen: dict[str, Item] = {}
    gated.kept = write_records(out, _kept(_read(items, schema, BadSamples(max_bad)), judge, out, wanted, seen))
    gated.first = {name: [(one, seen[one.item]) for one in found] for name, found in findings.first.items()}
    return gated


def _check_paths(items: Sequence[Path], notes: Sequence[Path], out: Path) -> None:
    for path in [*items, *notes]:
        if not path.is_file():
            raise UserError(f"No file {path}. `pride ingest` makes items, `pride label agree` notes.")
        if out.exists() and out.samefile(path):
            raise UserError(f"{out} is what is read; give the kept items another name with --out.")


def _texts(notes: Sequence[Path], schema: Schema, bad: BadSamples) -> dict[str, dict[str, str]]:
    fields = [field.name for field in schema.of(Role.PRIVILEGED, Kind.TEXT)]
    return {
        note.item: {name: str(note.privileged[name]) for name in fields if name in note.privileged}
        for path in notes
        for note in read_notes(path, schema, bad)
    }


def _read(paths: Sequence[Path], schema: Schema, bad: BadSamples) -> Iterator[Item]:
    """All items; an id that an earlier file has, too, is bad."""
    seen: set[str] = set()
    for path in paths:
        for item in read_items(path, schema, bad):
            if item.id in seen:
                bad.add(SampleError(path.name, None, f"id '{item.id}' is in an earlier file, too"))
                continue
            seen.add(item.id)
            yield item


def _kept(items: Iterator[Item], judge: "_Judge", out: Path, wanted: set[str], seen: dict[str, Item]) -> Iterator[Item]:
    """The items that no rule drops, their media found from where ``out`` lies; those wanted are seen on the way."""
    for place, item in enumerate(items):
        if item.id in wanted:
            seen[item.id] = item
        if not judge.dropped[place]:
            inputs = {
                name: value.model_copy(update={"path": _from(out.parent, value.path)})
                if isinstance(value, Media)
                else value
                for name, value in item.inputs.items()
            }
            yield item.model_copy(update={"inputs": inputs})


def _from(folder: Path, path: str) -> str:
    """A path as ``folder`` sees it: what lies below it can move along, everything else is named in full."""
    full, below = os.path.abspath(path), os.path.abspath(folder)
    return os.path.relpath(full, below) if os.path.commonpath([full, below]) == below else full


class _Judge:
    """What is known of the items so far, by their places."""

    def __init__(self, schema: Schema, settings: QualitySettings, findings: Findings, gated: Gated) -> None:
        self.schema, self.settings, self.findings, self.gated = schema, settings, findings, gated
        self.rules = settings.rules()
        self.marks = Marks(schema)
        self.ids: list[str] = []
        self._corpora: list[str] = []
        self.dropped = bytearray()
        self._groups, self._splits = array("Q"), bytearray()

    def meet(self, item: Item) -> None:
        """Take in an item before it is measured."""
        self.ids.append(item.id)
        self._corpora.append(item.corpus)
        group = hashlib.sha256(f"{item.corpus}\0{item.group}".encode("utf-8", "surrogatepass")).digest()
        self._groups.append(int.from_bytes(group[:8], "big"))
        self._splits.append(_KEPT_FIRST.index(item.split or split_of(item.group)))
        self.gated.items[self._of(len(self.ids) - 1)] += 1

    def add(self, measured: Measured) -> None:
        """Judge the next item."""
        place = len(self.dropped)
        self.dropped.append(0)
        self.marks.add(measured.marks)
        for figures in measured.figures.values():
            for name, figure in figures.items():
                if self.rules[name].action != "off":
                    self.gated.figures.setdefault(name, array("f")).append(figure)
        for field, name, reason in judged(measured, self.rules):
            self._find(place, field, name, reason)

    def find_copies(self) -> None:
        """Judge who is a copy of whom, among those that are not dropped yet."""
        if not self.settings.on("copies", "shared"):
            return
        among = [place for place, dropped in enumerate(self.dropped) if not dropped]
        for copy in self.marks.copies(among, self._groups, self._splits, self.settings.copies):
            name = "shared" if copy.shared else "copies"
            if self.rules[name].action != "off":
                self._find(copy.item, None, name, self._likeness(copy), copy.kept)

    def _likeness(self, copy: Copy) -> str:
        how = "has a recording of" if copy.shared else "is the same as" if copy.exact else "is nearly the same as"
        there = self._of(copy.kept)[1]
        where = f", which is in split {there}" if there != self._of(copy.item)[1] else ""
        return f"{how} '{self.ids[copy.kept]}'{where}"

    def _of(self, place: int) -> tuple[str, str]:
        return self._corpora[place], _KEPT_FIRST[self._splits[place]]

    def _find(self, place: int, field: str | None, name: str, reason: str, like: int | None = None) -> None:
        corpus, split = self._of(place)
        rule = self.rules[name]
        other = (None, None) if like is None else (self.ids[like], self._of(like)[1])
        self.findings.add(Finding(self.ids[place], corpus, split, field, name, rule.action, reason, *other))
        if rule.action == "drop" and not self.dropped[place]:
            self.dropped[place] = 1
            self.gated.dropped[corpus, split] += 1


class _Measuring:
    """Items measured in their order, those of an earlier run read from the journal."""

    def __init__(self, judge: _Judge, journal: Journal, pool: Workers, progress: Progress) -> None:
        self.judge, self.journal, self.pool, self.progress = judge, journal, pool, progress
        # of the items that were read but not judged yet: the digest where it is known, None where it is measured now
        self._waiting: deque[str | None] = deque()
        self._done = 0

    def run(self, items: Iterator[Item], notes: dict[str, dict[str, str]]) -> Iterator[Measured]:
        """What was measured of each item."""
        function = partial(measure, self.judge.schema, self.judge.settings)
        for result in self.pool.run(function, self._tasks(items, notes)):
            yield from self._known()
            self._waiting.popleft()
            yield self._told(self._new(result))
        yield from self._known()

    def _tasks(self, items: Iterator[Item], notes: dict[str, dict[str, str]]) -> Iterator[Task]:
        for item in items:
            self.judge.meet(item)
            task = task_of(item, notes.get(item.id, {}), self.judge.settings)
            if task.digest in self.journal:
                self._waiting.append(task.digest)
            else:
                self._waiting.append(None)
                yield task

    def _known(self) -> Iterator[Measured]:
        while self._waiting and self._waiting[0] is not None:
            yield self._told(self.journal.get(self._waiting.popleft() or ""))

    def _new(self, result: Measured | Lost[Task]) -> Measured:
        if isinstance(result, Lost):  # not into the journal: on another day there may be more memory or time
            return Measured(result.task.item.id, result.task.digest, broken={"": result.reason})
        self.journal.add(result)
        return result

    def _told(self, measured: Measured) -> Measured:
        self._done += 1
        self.progress(self._done, None, measured.id)
        return measured
