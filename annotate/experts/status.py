"""How far the annotation is: coverage, speed, open work, and what became of the drafts. Holds no note's text.

Only what experts said counts as work; what was loaded from corpora or written by models is told apart.
Times are the server's: how long a page was open from the first sight to Submit, which a forgotten page
makes long; hence the median, and the number an hour is that of the pages that weren't forgotten.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from annotate.exchange.listing import WHOLE, Listed, listed, read_tasks
from annotate.exchange.project import Project
from annotate.experts.accounts import Expert, experts
from annotate.experts.assignment import blind_projects, experts_of
from annotate.page.provenance import drafts_of, predictions_of
from annotate.page.results import from_results
from annotate.people import Person, people
from pride_mm.errors import BadSamples, UserError
from pride_mm.progress import Progress, silent
from pride_mm.schema import Field

HOW = ("accepted", "edited", "written")
_UNKNOWN = Person("unknown", "expert")


@dataclass
class FieldStatus:
    """A field's coverage: of ``items`` whose page asks for it, by how many experts; and what became of its drafts."""

    control: Field
    items: int = 0
    by_count: Counter[int] = field(default_factory=Counter)
    drafts: Counter[str] = field(default_factory=Counter)

    @property
    def one(self) -> int:
        return sum(items for count, items in self.by_count.items() if count >= 1)

    @property
    def two(self) -> int:
        return sum(items for count, items in self.by_count.items() if count >= 2)


@dataclass
class ExpertStatus:
    """An expert's work. ``assigned`` items are None where nothing was assigned to anybody; leads are seconds."""

    annotator: str
    name: str | None = None
    assigned: set[str] | None = None
    done: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    leads: list[float] = field(default_factory=list)
    days: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> int | None:
        """Assigned items that are neither annotated nor skipped."""
        return None if self.assigned is None else len(self.assigned - self.done - self.skipped)

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """Lower quartile, median and upper quartile of the seconds an annotation took."""
        if not self.leads:
            return None
        low, middle, high = np.quantile(self.leads, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)

    @property
    def an_hour(self) -> float | None:
        """Annotations an hour on the page; pages left open (by Tukey's far fence) don't count."""
        if self.quartiles is None:
            return None
        low, _, high = self.quartiles
        worked = [lead for lead in self.leads if lead <= high + 3 * (high - low)]
        return 3600 * len(worked) / sum(worked)


@dataclass
class Status:
    """How far a project is. ``by_count`` counts items by how many experts annotated them; ``loaded`` are not theirs."""

    title: str
    items: int
    by_count: Counter[int]
    fields: list[FieldStatus]
    experts: list[ExpertStatus]
    loaded: Counter[str]

    @property
    def assigned(self) -> bool:
        return any(expert.assigned is not None for expert in self.experts)

    @property
    def drafted(self) -> bool:
        return any(row.drafts for row in self.fields)


def status(project: Project, key: bytes, progress: Progress = silent) -> Status:
    """The status of a project, those in which experts work blind included.

    Args:
        project: the shared one; an item that several projects have counts once.
        key: turns the addresses of real people into pseudonyms.
        progress: called with the tasks read.

    Raises:
        UserError: there is no such project, or no answer.
    """
    known = people(project.studio, key)
    count = _Counting({f.name: FieldStatus(f) for f in (*project.schema.privileged, *project.schema.targets)}, known)
    for expert in _accounts(project):
        count.expert(known[expert.number].annotator).name = expert.name
    parts = 0
    blind = blind_projects(project.studio, project.schema, project.title)
    for name, part in (("", project), *blind.items()):
        for number, page in part.parts().items():
            parts += 1
            for raw in read_tasks(project.studio, number, WHOLE):
                task = listed(raw, page, number)
                if task is not None:
                    count.add(task, (name,) if name else experts_of(raw["data"]))
                    progress(count.tasks, None, "tasks")
    if not parts:
        raise UserError(
            f"No project '{project.title}' at {project.studio.url}; push items first, or name yours with --project."
        )
    return count.status(project.title)


def _accounts(project: Project) -> Sequence[Expert]:
    try:
        return experts(project.studio)
    except UserError:  # two of one name, which matters where they are assigned by name
        return ()


class _Counting:
    """Counts task by task; keeps ids and numbers only."""

    def __init__(self, fields: dict[str, FieldStatus], known: Mapping[int, Person]) -> None:
        self._fields, self._known = fields, known
        self._experts: dict[str, ExpertStatus] = {}
        self._asked: dict[str, set[str]] = {name: set() for name in fields}
        self._given: dict[str, dict[str, set[str]]] = {name: {} for name in fields}
        self._by: dict[str, set[str]] = {}
        self._assigned: dict[str, set[str]] = {}
        self._loaded: Counter[str] = Counter()
        self.tasks = 0

    def expert(self, annotator: str) -> ExpertStatus:
        return self._experts.setdefault(annotator, ExpertStatus(annotator))

    def add(self, task: Listed, assigned: Sequence[str]) -> None:
        self.tasks += 1
        self._by.setdefault(task.item, set())
        for name in assigned:
            self._assigned.setdefault(name, set()).add(task.item)
        for control in task.context.page.controls:
            self._asked[control.name].add(task.item)
        predictions = predictions_of(task.predictions, task.context)
        for given in task.annotations:
            person = self._known.get(given.get("completed_by") or -1, _UNKNOWN)
            if person.origin != "expert":
                self._loaded[person.origin] += 1
                continue
            expert = self.expert(person.annotator)
            if given.get("was_cancelled"):
                expert.skipped.add(task.item)
                continue
            results = given.get("result") or []
            values = from_results(results, task.context, "", BadSamples(len(results) + len(self._fields)))
            if not values:
                continue
            self._by[task.item].add(person.annotator)
            expert.done.add(task.item)
            expert.leads += _lead(given)
            expert.days.update(_day(given))
            for name in values:
                self._given[name].setdefault(task.item, set()).add(person.annotator)
            for name, draft in drafts_of(given, values, predictions, task.context).items():
                self._fields[name].drafts[draft.how] += 1

    def status(self, title: str) -> Status:
        for name, row in self._fields.items():
            row.items = len(self._asked[name])
            row.by_count = Counter(len(by) for by in self._given[name].values())
        named = {expert.name: expert for expert in self._experts.values() if expert.name}
        if self._assigned:
            for name, items in self._assigned.items():
                # no such account, so no pseudonym: somebody else's list, or one who has left
                expert = named.get(name) or self._experts.setdefault(f"({name})", ExpertStatus("no account", name))
                expert.assigned = items
        work = [e for e in self._experts.values() if e.done or e.skipped or e.assigned]
        work.sort(key=lambda e: (e.name or "~", e.annotator))
        counts = Counter(len(by) for by in self._by.values())
        return Status(title, len(self._by), counts, list(self._fields.values()), work, self._loaded)


def _lead(given: Mapping[str, Any]) -> Iterator[float]:
    lead = given.get("lead_time")
    if isinstance(lead, int | float) and lead > 0:
        yield float(lead)


def _day(given: Mapping[str, Any]) -> Iterator[str]:
    """The day of an annotation, as the server's clock had it."""
    try:
        yield datetime.fromisoformat(str(given.get("created_at"))).date().isoformat()
    except ValueError:
        return
