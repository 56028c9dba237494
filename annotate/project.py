"""Items and annotations into Label Studio, annotations out of it.

A ``Project`` is what a person calls one: a schema and a title. On the server it is one project for
each set of media that its items have (see ``label_config``). Everything is found by the item's id,
so that pushing twice adds nothing, and a push that was cut off goes on where it was.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from pathlib import Path
from typing import Any

from annotate.label_config import MEDIA, Page, control_names, label_config
from annotate.listing import WHOLE, Listed, listed, read_tasks
from annotate.loads import Load, Loads
from annotate.people import ensure_users, people
from annotate.pulling import Key, Reader
from annotate.pushing import Push, Pushed
from annotate.studio import Studio
from annotate.tasks import Users
from pride_mm.errors import BadSamples, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Item
from pride_mm.schema import Role, Schema

__all__ = ["Listed", "Project", "Pulled", "Pushed", "default_title"]

_LONGEST_TITLE = 50  # the server's own limit, media included
_EXPERT = re.compile(r" \[[a-z0-9-]+\] \((?=[^()]*\)$)")
_EXPERTS_AN_ITEM = 20  # so that the stream of tasks still offers an item that a corpus has annotated


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
        blind: together with the projects ``TITLE [EXPERT]`` in which experts work blind; to read from, not to push to.
    """

    def __init__(self, studio: Studio, schema: Schema, title: str | None = None, blind: bool = False) -> None:
        self.studio, self.schema, self.blind = studio, schema, blind
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
        annotations: Iterable[Annotation | Load] = (),
        bad: BadSamples | None = None,
        progress: Progress = silent,
        total: int | None = None,
        users: Users | None = None,
        refused: BadSamples | None = None,
    ) -> Pushed:
        """Add the items that are not there yet, with their annotations, and update those that have changed.

        Annotations and drafts that are there are never touched. An item is updated when its inputs or a media file of
        it changed; one that has been annotated keeps its number of turns.

        Args:
            items: each becomes a task; taken one by one, so that a file of them is never held whole.
            media_root: the folder that the server serves; needed where items have media.
            annotations: loaded under their annotators, into new tasks and into those there before.
            bad: counts items without their media, and those that may not be updated.
            progress: called with the items done of ``total``.
            total: how many items there are, if that is known.
            users: the users of annotators that are there; for the others users are made.
            refused: counts annotations without a task or a control; by default ``bad`` does.

        Raises:
            UserError: the server does not answer, or its project is not one of this schema.
        """
        bad = BadSamples() if bad is None else bad
        push = self._push(annotations, media_root, bad, progress, users or {}, refused)
        push.items(items, total)
        push.rest()
        return push.done

    def push_annotations(
        self, annotations: Iterable[Annotation], bad: BadSamples | None = None, progress: Progress = silent
    ) -> Pushed:
        """Load annotations into tasks that are there; one by the same annotator stays as it is.

        Slower than giving them to ``push`` with their items, which loads them in bulk.
        """
        push = self._push(annotations, None, BadSamples() if bad is None else bad, progress, {}, None)
        push.rest()
        return push.done

    def _push(
        self, given: Iterable[Annotation | Load], root: Path | None, bad: BadSamples, progress: Progress, known: Users,
        refused: BadSamples | None,
    ) -> Push:  # fmt: skip
        refused = bad if refused is None else refused
        loads = Loads(given, self.schema, refused)
        users = {**ensure_users(self.studio, (one for one in loads.people if one not in known)), **known}
        return Push(self, root, loads, users, bad, refused, progress)

    def pull(self, key: bytes, bad: BadSamples | None = None, progress: Progress = silent) -> Pulled:
        """The annotations of all experts and of what corpora and models said, all at once; ``pull_file`` streams them.

        Args:
            key: turns the addresses of real people into pseudonyms.
            bad: counts each refused result by task, annotator and field; the annotation's rest is kept.
            progress: called with the tasks read.
        """
        self.born()
        reader = Reader(people(self.studio, key), BadSamples() if bad is None else bad)
        found: list[tuple[Key, Annotation]] = []
        for done, task in enumerate(self.tasks(), 1):
            progress(done, None, "tasks")
            found += reader.of(task)
        found.sort(key=itemgetter(0))
        return Pulled(tuple(annotation for _, annotation in found), reader.skipped, reader.empty)

    def born(self) -> dict[int, str]:
        """When each of the server's projects was made, by number; raises UserError where there is none."""
        parts = self._found()
        if not parts:
            raise UserError(
                f"No project '{self.title}' at {self.studio.url}; push items first, or name yours with --project."
            )
        return {number: at for number, (_, at) in parts.items()}

    def _parts(self) -> dict[int, Page]:
        return {number: page for number, (page, _) in self._found().items()}

    def _found(self) -> dict[int, tuple[Page, str]]:
        """The projects on the server, each with its page and birth; one that is not of this schema is refused."""
        names = [f.name for f in self.schema.of(Role.INPUT, *MEDIA)]
        pages = [Page(self.schema, media) for n in range(len(names) + 1) for media in combinations(names, n)]
        titled = {self._title(page): page for page in pages}
        found: dict[int, tuple[Page, str]] = {}
        listing = self.studio.call("listing projects", self.studio.client.projects.list, page_size=100)
        projects: list[Any] = self.studio.call("listing projects", list, listing)
        for project in projects:
            page = titled.get(_EXPERT.sub(" (", str(project.title)) if self.blind else project.title)
            if page is None:
                continue
            if control_names(project.label_config or "") != control_names(label_config(page)):
                raise UserError(
                    f"Project '{project.title}' at {self.studio.url} was made from another schema, or its page was "
                    f"edited. Give '{self.schema.name}' a new version ('push --from' carries annotations over), or "
                    "name another project with --project."
                )
            found[project.id] = (page, str(project.created_at))
        return found

    def _title(self, page: Page) -> str:
        return f"{self.title} ({page.name})"

    def ensure(self, page: Page) -> int:
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
            for raw in read_tasks(self.studio, number, WHOLE):
                task = listed(raw, page, number)
                if task is not None:
                    yield task
