"""Items and annotations into Label Studio, annotations out of it.

A ``Project`` is what a person calls one: a schema and a title. On the server it is one project for
each set of media that its items have (see ``label_config``). Everything is found by the item's id,
so that pushing twice adds nothing, and a push that was cut off goes on where it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from annotate.exchange.listing import Listed
from annotate.exchange.loads import Load, Loads
from annotate.exchange.parts import Parts, default_title
from annotate.exchange.pulling import Key, Reader
from annotate.exchange.pushing import Push, Pushed
from annotate.exchange.tasks import Users
from annotate.people import ensure_users, people
from pride_mm.errors import BadSamples
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Item

__all__ = ["Listed", "Project", "Pulled", "Pushed", "default_title"]


@dataclass(frozen=True)
class Pulled:
    """The annotations of a project; ``skipped`` were left out on the page, ``empty`` say nothing."""

    annotations: tuple[Annotation, ...]
    skipped: int = 0
    empty: int = 0


class Project(Parts):
    """The annotation project of a schema: its parts on the server, and what goes in and comes out."""

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
