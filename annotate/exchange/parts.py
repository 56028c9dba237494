"""The projects on the server behind one title."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from annotate.exchange.listing import WHOLE, Listed, listed, read_tasks
from annotate.page.label_config import MEDIA, Page, control_names, label_config
from annotate.studio import Studio
from pride_mm.errors import UserError
from pride_mm.schema import Role, Schema

_LONGEST_TITLE = 50  # the server's own limit, media included
_EXPERT = re.compile(r" \[[a-z0-9-]+\] \((?=[^()]*\)$)")
_EXPERTS_AN_ITEM = 20  # so that the stream of tasks still offers an item that a corpus has annotated


def default_title(schema: Schema) -> str:
    """The title of a schema's project."""
    return f"PRIDE {schema.name} v{schema.version}"


class Parts:
    """The projects on the server behind one title: one for each set of media that its items have.

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
        return {number: page for number, (page, _) in self._found().items()}

    @property
    def numbers(self) -> list[int]:
        """The server's numbers of the project's parts."""
        return list(self.parts())

    def born(self) -> dict[int, str]:
        """When each of the server's projects was made, by number; raises UserError where there is none."""
        parts = self._found()
        if not parts:
            raise UserError(
                f"No project '{self.title}' at {self.studio.url}; push items first, or name yours with --project."
            )
        return {number: at for number, (_, at) in parts.items()}

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
        for number, known in self.parts().items():
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
        for number, page in self.parts().items():
            for raw in read_tasks(self.studio, number, WHOLE):
                task = listed(raw, page, number)
                if task is not None:
                    yield task
