"""Items into Label Studio: each exactly once, however often and wherever a push was cut off.

The server knows no key of ours, so the tasks that are there are listed first. A bulk is taken whole or not at all; but
what got no answer may have arrived, and what a killed push had sent may arrive while the next one lists. So
an answer that stays out is looked for among the tasks before anything is said, and in the end the tasks
are counted: of an item that is there twice then, the later task goes if this push has just made it.
"""

import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from annotate.exchange.listing import context_of, count_drafted, count_tasks, item_of, read_tasks
from annotate.exchange.loads import Load, Loads
from annotate.exchange.parts import Parts
from annotate.exchange.tasks import MARK, Users, bulk_of, fingerprint, results_of, shared_clips, task_of
from annotate.page.clips import Clips
from annotate.page.label_config import FPS, ITEM, Page, page_of
from annotate.studio import Unanswered
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress
from pride_mm.records import Item

_BULK = 500
_PATIENCE = (0.0, 2.0, 5.0, 10.0, 20.0)  # seconds between the looks for a bulk that got no answer
_NAMESPACE = uuid.UUID("6f2b3f7e-2a53-4b8a-9a6e-0f0c1d2e3a4b")
_KEYS = ("id", "data", "meta")


@dataclass(frozen=True)
class Pushed:
    """What a push added and updated, what it left as it was, and what it refused to change (named in ``bad``)."""

    tasks: int = 0
    updated: int = 0
    tasks_before: int = 0
    refused: int = 0
    annotations: int = 0
    annotations_before: int = 0


class _There(NamedTuple):
    number: int
    part: int
    mark: str


class _Sent(NamedTuple):
    """A bulk on its way."""

    number: int
    bulk: list[dict[str, Any]]
    answer: "Future[Any]"


@dataclass
class Push:
    """One push; ``items`` and then ``rest`` do it. ``loads`` are taken as their items come by.

    ``bad`` counts items, ``refused`` annotations that could not be loaded.
    """

    project: Parts
    media_root: Path | None
    loads: Loads
    users: Users
    bad: BadSamples
    refused: BadSamples
    progress: Progress
    done: Pushed = field(default_factory=Pushed)
    _parts: dict[int, Page] = field(default_factory=dict)
    _there: dict[str, _There] = field(default_factory=dict)
    _waiting: dict[Page, list[Item]] = field(default_factory=dict)
    _clips: dict[int, Clips | None] = field(default_factory=dict)
    _made: dict[int, set[int]] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    _sent: "_Sent | None" = None

    def items(self, items: Iterable[Item], total: int | None = None) -> None:
        """Add the items that are not there, and update those that have changed."""
        self._list()
        seen = -1
        with ThreadPoolExecutor(1) as line:  # what is on its way when this is stopped arrives whole
            for seen, item in enumerate(items):
                self.progress(seen, total, "items")
                self._take(item, line)
            for page in list(self._waiting):
                self._send(page, line)
            self._arrive()
        self._settle()
        self.progress(seen + 1, total, "items")

    def rest(self) -> None:
        """Add the annotations of items whose tasks were there before, one by one: the server takes no more at once."""
        waiting = set(self.loads.items())
        total, done = len(waiting), 0
        for number, page in self.project.parts().items() if waiting else ():
            for raw in read_tasks(self.project.studio, number, (*_KEYS[:2], "annotations", "completed_by")):
                item = item_of(raw)
                if item not in waiting:
                    continue
                waiting.remove(item)
                there = {given.get("completed_by") for given in raw.get("annotations") or []}
                for load in self.loads.take(item):
                    with self.refused.counting():
                        self._add(load, raw, page, there)
                done += 1
                self.progress(done, total, "annotated items")
        for item in sorted(waiting):
            for load in self.loads.take(item):
                self.refused.add(SampleError(load.place, None, f"no task for it in project '{self.project.title}'"))

    def _count(self, **more: int) -> None:
        self.done = replace(self.done, **{name: getattr(self.done, name) + n for name, n in more.items()})

    def _list(self) -> None:
        for number, page in self.project.parts().items():
            self._parts[number] = page
            self._counts[number] = self._last[number] = 0
            for raw in read_tasks(self.project.studio, number, _KEYS):
                self._counts[number] += 1
                self._last[number] = int(raw["id"])
                item = item_of(raw)
                if item is None:
                    continue
                other = self._there.setdefault(item, _There(int(raw["id"]), number, _mark(raw)))
                if other.number != raw["id"]:
                    twice = f"is there twice, as tasks {other.number} and {raw['id']}; delete one in Label Studio"
                    self.bad.add(SampleError(item, None, twice))

    def _take(self, item: Item, line: ThreadPoolExecutor) -> None:
        page, there = page_of(self.project.schema, item.inputs), self._there.get(item.id)
        if there is None:
            waiting = self._waiting.setdefault(page, [])
            waiting.append(item)
            if len(waiting) >= _BULK:
                self._send(page, line)
        elif self._parts[there.part] != page:
            name = self._parts[there.part].name
            self._count(refused=1)
            self.bad.add(SampleError(item.id, None, f"is there already, with other media: {name}"))
        elif there.mark == fingerprint(item):
            self._count(tasks_before=1)
        else:
            with self.bad.counting():
                self._update(item, page, there)

    def _number(self, page: Page) -> int:
        """The server's project for a page, with its media folder; made where there is none."""
        number = next((number for number, known in self._parts.items() if known == page), None)
        if number is None:
            number = self.project.ensure(page)
            self._parts[number] = page
            self._counts[number] = self._last[number] = 0
        if number not in self._clips:
            self._clips[number] = shared_clips(page, self.media_root, number, self.project.studio)
        return number

    def _send(self, page: Page, line: ThreadPoolExecutor) -> None:
        """Make a bulk while the server takes the one before, and have it sent."""
        items = self._waiting.pop(page)
        number = self._number(page)
        bulk = bulk_of(items, page, self._clips[number], self.loads, self.users, self.bad, self.refused)
        self._arrive()
        if bulk:
            studio, path = self.project.studio, f"api/projects/{number}/import"
            answer = line.submit(studio.send, "adding tasks", path, bulk, return_task_ids="true")
            self._sent = _Sent(number, bulk, answer)

    def _arrive(self) -> None:
        """Wait for the bulk that was sent last."""
        sent, self._sent = self._sent, None
        if sent is None:
            return
        number, bulk = sent.number, sent.bulk
        annotations = sum(len(task["annotations"]) for task in bulk)
        try:
            answer = sent.answer.result()
        except Unanswered as unanswered:
            made = self._arrived(number, bulk, unanswered)
        else:
            made = [int(task) for task in answer.get("task_ids") or []]
            if (len(made), answer.get("annotation_count") or 0) != (len(bulk), annotations):
                raise UserError(
                    f"Label Studio took {len(made)} of {len(bulk)} tasks and {answer.get('annotation_count')} of "
                    f"{annotations} annotations; run the same command again."
                )
        self._made.setdefault(number, set()).update(made)
        for task, made_number in zip(bulk, made, strict=True):
            self._there[task["data"][ITEM]] = _There(made_number, number, task["meta"][MARK])
        self._count(tasks=len(bulk), annotations=annotations)

    def _arrived(self, number: int, bulk: list[dict[str, Any]], unanswered: Unanswered) -> list[int]:
        """The numbers of the tasks of a bulk that got no answer, in its order; raises where it has not arrived."""
        after = max(self._last[number], max(self._made.get(number, ()), default=0))
        for pause in _PATIENCE:
            time.sleep(pause)
            found: dict[str, int] = {}
            for raw in read_tasks(self.project.studio, number, _KEYS[:2], after=after):
                found.setdefault(item_of(raw) or "", int(raw["id"]))
            if all(task["data"][ITEM] in found for task in bulk):
                return [found[task["data"][ITEM]] for task in bulk]
        raise unanswered

    def _settle(self) -> None:
        """Undo what arrived twice: a killed push may have sent what this one didn't find."""
        for number, made in self._made.items():
            if count_tasks(self.project.studio, number) == self._counts[number] + len(made):
                continue
            first: dict[str, int] = {}
            again: dict[int, str] = {}
            for raw in read_tasks(self.project.studio, number, _KEYS[:2], after=self._last[number]):
                item, task = item_of(raw), int(raw["id"])
                if item is not None and first.setdefault(item, task) != task:
                    again[task] = item
            undone = self._undo(number, sorted(made & again.keys()))
            for task in undone:
                self.loads.put_back(again[task])  # for the task that stays, where they may be missing
            for task in sorted(again.keys() - undone):
                twice = f"is there twice, as tasks {first[again[task]]} and {task}; delete one in Label Studio"
                self.bad.add(SampleError(again[task], None, twice))

    def _undo(self, number: int, tasks: list[int]) -> set[int]:
        """Delete tasks that this push has just made, but for those on which somebody has begun to work."""
        studio, ours = self.project.studio, {user for user, _ in self.users.values()}
        undone: list[int] = []
        loaded = 0
        for start in range(0, len(tasks), _BULK):
            chosen = tasks[start : start + _BULK]
            drafts = count_drafted(studio, number, chosen)
            for raw in read_tasks(studio, number, ("id", "annotations", "completed_by"), chosen=chosen):
                users = {given.get("completed_by") for given in raw.get("annotations") or []}
                if users <= ours and not (drafts and self._drafts(raw["id"])):
                    undone.append(int(raw["id"]))
                    loaded += len(users)
        if undone:
            selected = {"all": False, "included": undone}
            studio.send("undoing", "api/dm/actions", {"selectedItems": selected}, id="delete_tasks", project=number)
            self._count(tasks=-len(undone), tasks_before=len(undone))
            self._count(annotations=-loaded)
        return set(undone)

    def _update(self, item: Item, page: Page, there: _There) -> None:
        """Change a task's data; annotations, drafts and other columns of the task stay."""
        studio = self.project.studio
        entries = (*_KEYS, "total_annotations", "cancelled_annotations")
        raw = next(read_tasks(studio, there.part, entries, chosen=[there.number]), None)
        if raw is None:
            raise SampleError(item.id, None, "its task was deleted meanwhile; run the same command again")
        task = task_of(item, page, self._clips[self._number(page)])
        turns = [context_of(one, page).turns for one in (raw, task)]
        if turns[0] != turns[1] and self._worked_on(raw):
            self._count(refused=1)
            raise SampleError(
                item.id, None, f"is annotated with {turns[0]} turns and now has {turns[1]}: give it a new id"
            )
        ours = {FPS, ITEM, *(one.name for one in self.project.schema.field)}
        data = {**{name: value for name, value in raw["data"].items() if name not in ours}, **task["data"]}
        meta = {**(raw.get("meta") or {}), **task["meta"]}
        studio.call("updating a task", studio.client.tasks.update, id=str(there.number), data=data, meta=meta)
        self._there[item.id] = there._replace(mark=task["meta"][MARK])
        self._count(updated=1)

    def _worked_on(self, raw: dict[str, Any]) -> bool:
        """True where a task has annotations, skipped ones too, or somebody's draft."""
        if raw.get("total_annotations") or raw.get("cancelled_annotations"):
            return True
        return self._drafts(raw["id"])

    def _drafts(self, task: int) -> bool:
        return bool(self.project.studio.read("looking for drafts", f"api/tasks/{task}/drafts"))

    def _add(self, load: Load, raw: dict[str, Any], page: Page, there: set[int | None]) -> None:
        """Add one annotation, unless its annotator has one there."""
        from label_studio_sdk.core.api_error import ApiError

        user, email = self.users[load.person]
        if user in there:
            self._count(annotations_before=1)
            return
        result = results_of(load, context_of(raw, page))
        unique = str(uuid.uuid5(_NAMESPACE, f"{raw['id']}/{email}"))
        client = self.project.studio.client

        def create() -> bool:
            try:
                client.annotations.create(
                    id=int(raw["id"]), result=result, completed_by=user, unique_id=unique, **load.extra
                )
            except ApiError as error:
                if error.status_code != 409:  # 409: it came through on a run that was cut off
                    raise
                return False
            return True

        made = self.project.studio.call("adding annotations", create)
        self._count(**{"annotations" if made else "annotations_before": 1})


def _mark(raw: dict[str, Any]) -> str:
    meta = raw.get("meta")
    return str(meta.get(MARK, "")) if isinstance(meta, dict) else ""
