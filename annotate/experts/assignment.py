"""Who annotates what: by list or by overlap, in one project that all see, or blind in a project each.

In the shared project the experts of an item stand in a column of its task, and each expert has a tab that
shows what is theirs; a link to it labels them one by one. In the community edition nobody is kept from the
other tabs, nor from other projects: ``blind`` spares an expert the sight of the others' work on the same
page, and keeps the server's own stream of tasks apart; it is no lock.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.exchange.listing import item_of, read_tasks
from annotate.exchange.project import Project, default_title
from annotate.experts.accounts import Expert
from annotate.studio import Studio
from pride_mm.errors import BadSamples, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Item
from pride_mm.schema import Schema

EXPERTS = "Experts"  # the column; begins with a capital, which no field's name does
Assignment = Mapping[str, tuple[str, ...]]
"""The names of the experts of each item."""


def assign(
    items: Iterable[str], experts: Sequence[str], overlap: int, seed: int = 0, before: Assignment | None = None
) -> dict[str, tuple[str, ...]]:
    """Give each item to ``overlap`` experts, evenly; what was assigned before stays.

    Args:
        items: ids; the same ids in the same order, with the same seed, give the same assignment.
        experts: names; those with the least to do come first, a draw by ``seed`` decides between equals.
        overlap: experts an item; one that has as many or more keeps them.
        seed: another one gives another draw.
        before: what is assigned already, of these and of other items.

    Raises:
        UserError: more experts an item than there are.
    """
    if not 1 <= overlap <= len(experts):
        raise UserError(f"--overlap {overlap}: there are {len(experts)} experts, so 1 to {len(experts)} are possible.")
    before = before or {}
    load = Counter(dict.fromkeys(experts, 0))
    load.update(name for names in before.values() for name in names)
    made: dict[str, tuple[str, ...]] = {}
    for item in items:
        had = before.get(item, ())
        rest = sorted(set(experts) - set(had), key=lambda expert: (load[expert], _draw(seed, item, expert)))
        more = rest[: max(0, overlap - len(had))]
        load.update(more)
        made[item] = tuple(sorted((*had, *more)))
    return made


def _draw(seed: int, item: str, expert: str) -> bytes:
    return hashlib.sha256(f"{seed}/{item}/{expert}".encode()).digest()


def read_assignment(path: Path, items: Iterable[str], experts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The assignment of a table with the columns ``item`` and ``expert``, a row a pair.

    Raises:
        UserError: another table, or rows whose item or expert isn't known; named by line.
    """
    known, wrong = set(items), []
    made: dict[str, set[str]] = {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        if not {"item", "expert"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} has no columns 'item' and 'expert' in its first line.")
        for row in rows:
            item, expert = (row["item"] or "").strip(), (row["expert"] or "").strip()
            if item not in known:
                wrong.append(f"  line {rows.line_num}: no item '{item}'")
            elif expert not in experts:
                wrong.append(f"  line {rows.line_num}: no expert '{expert}'")
            else:
                made.setdefault(item, set()).add(expert)
    if wrong:
        more = [f"  ... and {len(wrong) - 10} more"] if len(wrong) > 10 else []
        raise UserError("\n".join([f"{path} names what is not there:", *wrong[:10], *more]))
    return {item: tuple(sorted(names)) for item, names in made.items()}


@dataclass(frozen=True)
class Assigned:
    """What an assignment changed: pairs of item and expert, those before, and items without a task.

    ``links`` are the addresses at which each expert is offered their tasks, one after the other.
    """

    added: int
    before: int
    links: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()


def assigned(project: Project) -> dict[str, tuple[str, ...]]:
    """Who has what in the shared project."""
    return {item: experts_of(task["data"]) for _, item, task in _columns(project)}


def share(project: Project, wanted: Assignment, experts: Sequence[Expert], progress: Progress = silent) -> Assigned:
    """Write an assignment into the shared project: a column of each task, and a tab for each expert.

    An item keeps the experts that it had. The number of annotations after which the server closes a task is set to
    what is needed, annotations that were loaded from records included.
    """
    added = before = 0
    found: set[str] = set()
    links: dict[str, tuple[str, ...]] = {expert.name: () for expert in experts}
    needed: dict[int, int] = dict.fromkeys(project.numbers, 1)
    people = {expert.number for expert in experts}
    studio = project.studio
    for done, (part, item, task) in enumerate(_columns(project, "annotations", "completed_by"), 1):
        progress(done, None, "tasks")
        had = experts_of(task["data"])
        names = tuple(sorted({*had, *wanted.get(item, ())}))
        found.add(item)
        if names != had:
            column = " ".join(f"[{name}]" for name in names)
            data = {**task["data"], EXPERTS: column}
            studio.call("assigning", studio.client.tasks.update, id=str(task["id"]), data=data)
        if item in wanted:
            added, before = added + len(set(names) - set(had)), before + len(set(wanted[item]) & set(had))
        loaded = sum(given.get("completed_by") not in people for given in task.get("annotations") or [])
        needed[part] = max(needed[part], len(names) + loaded)
    for part, most in needed.items():
        studio.call("assigning", studio.client.projects.update, id=part, maximum_annotations=most)
        for name, tab in _tabs(studio, part, [expert.name for expert in experts]).items():
            links[name] = (*links[name], f"{studio.url}/projects/{part}/data?tab={tab}&labeling=1")
    return Assigned(added, before, links, tuple(sorted(set(wanted) - found)))


def share_blind(
    studio: Studio,
    schema: Schema,
    title: str | None,
    wanted: Assignment,
    items: Sequence[Item],
    media_root: Path | None = None,
    bad: BadSamples | None = None,
    progress: Progress = silent,
) -> Assigned:
    """Push each expert's items into a project of their own; what is there already stays as it is."""
    added = before = 0
    links: dict[str, tuple[str, ...]] = {}
    names = sorted({name for given in wanted.values() for name in given})
    for done, name in enumerate(names, 1):
        own = [item for item in items if name in wanted.get(item.id, ())]
        project = Project(studio, schema, blind_title(schema, title, name))
        pushed = project.push(own, media_root, (), bad)
        for part in project.numbers:
            studio.call("assigning", studio.client.projects.update, id=part, maximum_annotations=1)
        links[name] = tuple(f"{address}?labeling=1" for address in project.addresses)
        added, before = added + pushed.tasks, before + pushed.tasks_before
        progress(done, len(names), "experts")
    return Assigned(added, before, links, tuple(sorted(set(wanted) - {item.id for item in items})))


def blind_title(schema: Schema, title: str | None, name: str) -> str:
    """The title of an expert's own project."""
    return f"{title or default_title(schema)} [{name}]"


def blind_projects(studio: Studio, schema: Schema, title: str | None = None) -> dict[str, Project]:
    """The projects in which experts work blind, by the expert's name; none where all share one."""
    pattern = re.compile(re.escape((title or default_title(schema)).strip()) + r" \[([a-z0-9-]+)\] \([^()]*\)")
    listing = studio.call("listing projects", studio.client.projects.list, page_size=100)
    projects: list[Any] = studio.call("listing projects", list, listing)
    titles = [str(project.title) for project in projects]
    names = sorted({match[1] for match in map(pattern.fullmatch, titles) if match})
    return {name: Project(studio, schema, blind_title(schema, title, name)) for name in names}


def _columns(project: Project, *entries: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(part, item, task) of all tasks."""
    for part in project.numbers:
        for task in read_tasks(project.studio, part, ("id", "data", *entries)):
            item = item_of(task)
            if item is not None:
                yield part, item, task


def experts_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the column of a task's data."""
    return tuple(sorted(re.findall(r"\[([a-z0-9-]+)\]", str(data.get(EXPERTS) or ""))))


def _tabs(studio: Studio, part: int, names: Sequence[str]) -> dict[str, int]:
    """The number of each name's tab in the Data Manager; one that is there stays as people arranged it."""
    views: list[Any] = studio.call("listing tabs", studio.client.views.list, project=part)
    data = [(view.id, view.data if isinstance(view.data, dict) else view.data.dict()) for view in views if view.data]
    tabs = {str(given.get("title")): int(number) for number, given in data}
    for name in names:
        if name not in tabs:
            mine = {"filter": f"filter:tasks:data.{EXPERTS}", "operator": "contains", "type": "String"}
            filters = {"conjunction": "and", "items": [{**mine, "value": f"[{name}]"}]}
            made = studio.call(
                "adding a tab", studio.client.views.create, project=part,
                data={"title": name, "type": "list", "filters": filters},
            )  # fmt: skip
            tabs[name] = int(made.id)
    return {name: tabs[name] for name in names}
