"""Items and annotations into Label Studio, annotations out of it.

A ``Project`` is what a person calls one: a schema and a title. On the server it is one project for
each set of media that its items have (see ``label_config``). Everything is found by the item's id,
so that pushing twice adds nothing, and a push that was cut off goes on where it was: the server
takes a bulk whole or not at all.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from annotate.label_config import FPS, ITEM, MEDIA, Page, control_names, label_config, page_of
from annotate.people import Person, ensure_users, people
from annotate.provenance import annotation_results, drafts_of, predictions_of
from annotate.results import Context, from_results
from annotate.studio import Studio
from annotate.tasks import Listed, Loads, Users, bulk_of, by_item, person_in, place_of, shared_clips
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Item
from pride_mm.schema import Role, Schema

_BULK = 200
_PAGE = 500
_LONGEST_TITLE = 50  # the server's own limit, media included
_EXPERTS_AN_ITEM = 20  # so that the stream of tasks still offers an item that a corpus has annotated
_NAMESPACE = uuid.UUID("6f2b3f7e-2a53-4b8a-9a6e-0f0c1d2e3a4b")


@dataclass(frozen=True)
class Pushed:
    """What a push added, and what was there before."""

    tasks: int = 0
    tasks_before: int = 0
    annotations: int = 0
    annotations_before: int = 0


@dataclass(frozen=True)
class Pulled:
    """The annotations of a project; ``skipped`` were left out on the page, ``empty`` say nothing."""

    annotations: tuple[Annotation, ...]
    skipped: int = 0
    empty: int = 0


def default_title(schema: Schema) -> str:
    """The title of a schema's project."""
    return f"PRIDE {schema.name} v{schema.version}"


class Project:
    """The annotation project of a schema.

    Args:
        studio: the server.
        schema: what its pages are made from.
        title: what people call it; by default ``PRIDE <schema> v<version>``.
    """

    def __init__(self, studio: Studio, schema: Schema, title: str | None = None) -> None:
        self.studio, self.schema = studio, schema
        self.title = (title or default_title(schema)).strip()
        if len(self.title) < 3:
            raise UserError(f"'{self.title}' is too short for a project's title; 3 characters are needed.")

    @property
    def addresses(self) -> list[str]:
        """Where a person opens the project's parts."""
        return [f"{self.studio.url}/projects/{number}/data" for number in self.numbers]

    def parts(self) -> dict[int, Page]:
        """The projects on the server by number, each with its page; raises UserError for one of another schema."""
        return self._parts()

    @property
    def numbers(self) -> list[int]:
        """The server's numbers of the project's parts."""
        return list(self._parts())

    def push(
        self,
        items: Iterable[Item],
        media_root: Path | None = None,
        annotations: Iterable[Annotation] = (),
        bad: BadSamples | None = None,
        progress: Progress = silent,
    ) -> Pushed:
        """Add the items that are not there yet, with their annotations; what is there stays as it is.

        Args:
            items: each becomes a task.
            media_root: the folder that the server serves; needed where items have media.
            annotations: loaded under their annotators, into new tasks and into those there before.
            bad: counts items without their media, and annotations without a task or a control.
            progress: called with the tasks done of all.

        Raises:
            UserError: the server does not answer, or its project is not one of this schema.
        """
        bad = BadSamples() if bad is None else bad
        loads = by_item(annotations, bad)
        there = {task.item: task for task in self.tasks()}
        users = ensure_users(self.studio, (person_in(a) for given in loads.values() for a in given))
        new: dict[Page, list[Item]] = {}
        before = 0
        for item in items:
            page, task = page_of(self.schema, item.inputs), there.get(item.id)
            if task is None:
                new.setdefault(page, []).append(item)
            elif task.context.page != page:
                bad.add(SampleError(item.id, None, f"is there already, with other media: {task.context.page.name}"))
            else:
                before += 1
        tasks = loaded = done = 0
        total = sum(len(wanted) for wanted in new.values())
        for page, wanted in sorted(new.items(), key=lambda pair: pair[0].media):
            number = self._ensure(page)
            for start in range(0, len(wanted), _BULK):
                bulk = wanted[start : start + _BULK]
                made = bulk_of(bulk, page, shared_clips(page, media_root, number, self.studio), loads, users, bad)
                self._import(number, made)
                tasks, loaded = tasks + len(made), loaded + sum(len(task["annotations"]) for task in made)
                done += len(bulk)
                progress(done, total, "tasks")
        late = {item: given for item, given in loads.items() if item not in {i.id for w in new.values() for i in w}}
        added, annotations_before = self._load(there, late, users, bad, silent)
        return Pushed(tasks, before, loaded + added, annotations_before)

    def push_annotations(
        self, annotations: Iterable[Annotation], bad: BadSamples | None = None, progress: Progress = silent
    ) -> Pushed:
        """Load annotations into tasks that are there; one by the same annotator stays as it is.

        Slower than giving them to ``push`` with their items, which loads them in bulk.
        """
        bad = BadSamples() if bad is None else bad
        loads = by_item(annotations, bad)
        users = ensure_users(self.studio, (person_in(a) for given in loads.values() for a in given))
        added, before = self._load({task.item: task for task in self.tasks()}, loads, users, bad, progress)
        return Pushed(annotations=added, annotations_before=before)

    def pull(self, key: bytes, bad: BadSamples | None = None, progress: Progress = silent) -> Pulled:
        """The annotations of all experts, of what corpora said and of what models wrote.

        Args:
            key: turns the addresses of real people into pseudonyms.
            bad: counts each refused result by task, annotator and field; the annotation's rest is kept.
            progress: called with the tasks read.
        """
        bad = BadSamples() if bad is None else bad
        if not self._parts():
            raise UserError(
                f"No project '{self.title}' at {self.studio.url}; push items first, or name yours with --project."
            )
        known = people(self.studio, key)
        annotations: list[Annotation] = []
        skipped = empty = 0
        for done, task in enumerate(self.tasks(), 1):
            progress(done, None, "tasks")
            predictions = predictions_of(task.predictions, task.context)
            for given in task.annotations:
                if given.get("was_cancelled"):
                    skipped += 1
                    continue
                person = known.get(given.get("completed_by") or -1, Person("unknown", "expert"))
                place = f"task {task.number} ({task.item}), annotator {person.annotator}"
                refused = len(bad)
                values = from_results(given.get("result") or [], task.context, place, bad)
                if values:
                    annotations.append(
                        Annotation(
                            item=task.item, annotator=person.annotator, origin=person.origin, values={}
                        ).model_copy(
                            update={"values": values, "drafts": drafts_of(given, values, predictions, task.context)}
                        )
                    )
                elif len(bad) == refused:
                    empty += 1
        annotations.sort(key=lambda a: (a.item, a.origin, a.annotator))
        return Pulled(tuple(annotations), skipped, empty)

    def _parts(self) -> dict[int, Page]:
        """The projects on the server, each with its page; one that is not of this schema is refused."""
        names = [f.name for f in self.schema.of(Role.INPUT, *MEDIA)]
        pages = [Page(self.schema, media) for n in range(len(names) + 1) for media in combinations(names, n)]
        titled = {self._title(page): page for page in pages}
        found: dict[int, Page] = {}
        listing = self.studio.call("listing projects", self.studio.client.projects.list, page_size=100)
        projects: list[Any] = self.studio.call("listing projects", list, listing)
        for project in projects:
            page = titled.get(project.title)
            if page is None:
                continue
            if control_names(project.label_config or "") != control_names(label_config(page)):
                raise UserError(
                    f"Project '{project.title}' at {self.studio.url} was made from another schema, or its page was "
                    f"edited: give '{self.schema.name}' a new version, or another title with --project."
                )
            found[project.id] = page
        return found

    def _title(self, page: Page) -> str:
        return f"{self.title} ({page.name})"

    def _ensure(self, page: Page) -> int:
        """The number of the project for ``page``; made where there is none."""
        for number, known in self._parts().items():
            if known == page:
                return number
        title = self._title(page)
        if len(title) > _LONGEST_TITLE:
            raise UserError(f"'{title}' is too long for a project's title ({_LONGEST_TITLE}); shorten it by --project.")
        made = self.studio.call(
            "making the project", self.studio.client.projects.create,
            title=title, label_config=label_config(page), maximum_annotations=_EXPERTS_AN_ITEM,
            description=f"Made by PRIDE-MM from schema {self.schema.name} v{self.schema.version}. "
            "Do not edit the labelling setup: a changed schema gets a version and a project of its own.",
        )  # fmt: skip
        return int(made.id)

    def tasks(self) -> Iterator[Listed]:
        """The tasks of all parts with their annotations and predictions, page by page."""
        for number, page in self._parts().items():
            tasks = self.studio.call(
                "listing tasks", self.studio.client.tasks.list, project=number, fields="all", page_size=_PAGE
            )
            iterator = iter(tasks)
            while (task := self.studio.call("listing tasks", next, iterator, None)) is not None:
                item = task.data.get(ITEM)
                if not isinstance(item, str):
                    continue  # a person added it by hand; it is no item of ours
                turns = task.data.get(self.schema.dialogue.name)
                context = Context(page, len(turns) if isinstance(turns, list) else 0, float(task.data.get(FPS) or 0.0))
                given, drafted = (
                    [one if isinstance(one, dict) else one.dict() for one in found or []]
                    for found in (task.annotations, task.predictions)
                )
                yield Listed(item, task.id, number, context, given, drafted)

    def _import(self, number: int, tasks: list[dict[str, Any]]) -> None:
        if not tasks:
            return
        answer = self.studio.call("adding tasks", self.studio.client.projects.import_tasks, id=number, request=tasks)
        wanted = sum(len(task["annotations"]) for task in tasks)
        if (answer.task_count, answer.annotation_count or 0) != (len(tasks), wanted):
            raise UserError(
                f"Label Studio took {answer.task_count} of {len(tasks)} tasks and {answer.annotation_count} of "
                f"{wanted} annotations; run the same command again."
            )

    def _load(
        self, there: Mapping[str, Listed], loads: Loads, users: Users, bad: BadSamples, progress: Progress
    ) -> tuple[int, int]:
        """Add annotations one by one; returns how many were added and how many were there."""
        from label_studio_sdk.core.api_error import ApiError

        added = before = 0
        total = sum(len(given) for given in loads.values())
        for annotation in (a for given in loads.values() for a in given):
            progress(added + before, total, "annotations")
            task = there.get(annotation.item)
            if task is None:
                bad.add(SampleError(place_of(annotation), None, f"no task for it in project '{self.title}'"))
                continue
            user, email = users[person_in(annotation)]
            if user in task.users:
                before += 1
                continue
            with bad.counting():
                result = annotation_results(annotation, task.context, place_of(annotation))
                unique = str(uuid.uuid5(_NAMESPACE, f"{task.number}/{email}"))

                def create(task: Listed = task, unique: str = unique, user: int = user, result: Any = result) -> bool:
                    try:
                        self.studio.client.annotations.create(
                            id=task.number, result=result, completed_by=user, unique_id=unique
                        )
                    except ApiError as error:
                        if error.status_code != 409:  # 409: it came through on a run that was cut off
                            raise
                        return False
                    return True

                if self.studio.call("adding annotations", create):
                    added += 1
                else:
                    before += 1
        return added, before
