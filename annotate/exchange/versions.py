"""Annotations of an older version of a project into a newer one.

A changed schema gets a project of its own beside the old one, since Label Studio lets a used choice vanish without a
word. Results are read with the new schema: what is a value of it is carried over under the same user, with what
became of its draft; what isn't is named. Nothing is changed in the old project.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from annotate.exchange.listing import WHOLE, count_drafted, item_of, read_tasks
from annotate.exchange.loads import KEPT, Load
from annotate.exchange.project import Project, default_title
from annotate.exchange.tasks import Users
from annotate.page.label_config import FPS, MEDIA, Page
from annotate.page.provenance import drafts_of, predictions_of
from annotate.page.results import Context, from_results
from annotate.people import Person, people
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import write_jsonl
from pride_mm.records import Annotation
from pride_mm.schema import Role

_ALL = 1_000_000_000


@dataclass
class Older:
    """The annotations of an older version, on their way into ``target``.

    Args:
        target: the new version.
        version: the old one's number, or its project's title.
        key: turns the addresses of real people into pseudonyms, for naming what is left behind.

    ``left`` names what is not carried over, ``unsubmitted`` counts the tasks with drafts that stay where they are.
    """

    target: Project
    version: str
    key: bytes
    left: BadSamples = field(default_factory=lambda: BadSamples(_ALL))
    unsubmitted: int = 0

    def __post_init__(self) -> None:
        number = self.version.strip().removeprefix("v")
        schema = self.target.schema
        self.title = self.version.strip()
        if number.isdecimal():
            self.title = default_title(schema.model_copy(update={"version": int(number)}))
        if self.title == self.target.title:
            raise UserError(f"'{self.title}' is the project itself: give the schema a new version first.")
        self._parts = self._found()
        users = self.target.studio.call("listing the annotators", self.target.studio.client.users.list)
        self._emails = {user.id: str(user.email) for user in users}
        self._people = people(self.target.studio, self.key)

    @property
    def users(self) -> Users:
        """The users who annotated it: they keep their annotations."""
        return {person: (number, self._emails[number]) for number, person in self._people.items()}

    def annotations(self) -> Iterator[Load]:
        """What fits of the annotations; the rest is named in ``left`` once all have been taken."""
        for number, (page, dialogue) in self._parts.items():
            self.unsubmitted += count_drafted(self.target.studio, number)
            for raw in read_tasks(self.target.studio, number, WHOLE):
                item = item_of(raw)
                if item is not None:
                    turns = raw["data"].get(dialogue)
                    count = len(turns) if isinstance(turns, list) else 0
                    yield from self._of(item, raw, Context(page, count, float(raw["data"].get(FPS) or 0.0)))

    def _of(self, item: str, raw: dict[str, Any], context: Context) -> Iterator[Load]:
        predictions = predictions_of(raw.get("predictions") or [], context)
        seen: set[Person] = set()
        for given in sorted(raw.get("annotations") or [], key=lambda one: -int(one["id"])):
            person = self._people.get(given.get("completed_by") or -1)
            if person is None:
                self.left.add(SampleError(_place(item, "unknown"), None, "the user who made it was deleted"))
                continue
            place = _place(item, person.annotator)
            if person in seen:
                self.left.add(SampleError(place, None, "an older annotation by the same annotator"))
                continue
            seen.add(person)
            extra = {name: given[name] for name in KEPT if given.get(name) is not None}
            bare = Annotation(item=item, annotator=person.annotator, origin=person.origin, values={})
            if extra.get("was_cancelled"):
                yield Load(bare, extra)
                continue
            refused = len(self.left)
            values = from_results(given.get("result") or [], context, place, self.left)
            if values:
                drafts = drafts_of(given, values, predictions, context)
                yield Load(bare.model_copy(update={"values": values, "drafts": drafts}), extra)
            elif len(self.left) == refused:
                self.left.add(SampleError(place, None, "it says nothing"))

    def _found(self) -> dict[int, tuple[Page, str]]:
        """The old version's projects: the page that its items have now, and what held their turns."""
        studio, schema = self.target.studio, self.target.schema
        listing = studio.call("listing projects", studio.client.projects.list, page_size=100)
        projects: list[Any] = studio.call("listing projects", list, listing)
        found, titles = {}, set()
        for project in projects:
            title, _, rest = str(project.title).rpartition(" (")
            titles.add(title)
            if title != self.title:
                continue
            had = rest.removesuffix(")").split(" + ")
            media = tuple(one.name for one in schema.of(Role.INPUT, *MEDIA) if one.name in had)
            found[int(project.id)] = (Page(schema, media), _dialogue(project.label_config or ""))
        if not found:
            known = ", ".join(f"'{title}'" for title in sorted(titles - {"", self.target.title})) or "none"
            raise UserError(f"No project '{self.title}' to carry annotations over from (there are: {known}).")
        return found


def write_left(path: Path, left: Iterable[SampleError]) -> int:
    """Write what was left behind, a JSON line each: item, annotator, field and reason, no value. Returns how many."""

    def row(error: SampleError) -> dict[str, Any]:
        item, _, annotator = error.place.removeprefix("item ").partition(", annotator ")
        return {"item": item, "annotator": annotator, "field": error.field, "reason": error.reason}

    return write_jsonl(path, map(row, left))


def _place(item: str, annotator: str) -> str:
    return f"item {item}, annotator {annotator}"


def _dialogue(config: str) -> str:
    """The name under which the tasks of a page hold their turns."""
    try:
        tag = ElementTree.fromstring(config).find(".//Paragraphs")
    except ElementTree.ParseError:
        tag = None
    return "" if tag is None else tag.get("value", "").removeprefix("$")
