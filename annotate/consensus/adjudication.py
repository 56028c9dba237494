"""What annotators left open goes back to Label Studio, into a project in which one more expert settles it.

Its page is the schema's with one more text to read: which fields are open, why, and what each annotator said, under
pseudonyms. No field is required there, since only the open ones are asked for. Its controls are the schema's own,
so that pulling, status and the rest work there as in any project.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotate.agreement.ratings import gather, in_words
from annotate.consensus.rules import Open
from annotate.exchange.project import Project, Pushed, default_title
from annotate.studio import Studio
from pride_mm.errors import BadSamples
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Item
from pride_mm.schema import Kind, Role, Schema, TextField

_TITLE = "Left open, and what was said"


@dataclass
class Adjudication:
    """The project of what is left open; ``missing`` are items with open fields that were not among those given."""

    project: Project
    pushed: Pushed
    missing: list[str] = field(default_factory=list)


def adjudication_title(schema: Schema, title: str | None = None) -> str:
    """The title of the project in which what was left open in the project ``title`` is settled."""
    return f"{(title or default_title(schema)).strip()} adjudication"


def adjudicate(
    studio: Studio,
    schema: Schema,
    items: Iterable[Item],
    annotations: Sequence[Annotation],
    open_: Sequence[Open],
    title: str | None = None,
    media_root: Path | None = None,
    bad: BadSamples | None = None,
    progress: Progress = silent,
) -> Adjudication:
    """Push exactly the items with open fields; those that are there already are updated where more was said.

    Args:
        studio: the server.
        schema: what the annotators noted.
        items: all items, or more; taken one by one.
        annotations: what each annotator said.
        open_: what they left open, from ``consensus.left_open``.
        title: of the project that was annotated; by default the schema's.
        media_root: the folder that the server serves.
        bad: counts items that could not be pushed.
        progress: called with the items done.
    """
    reading, shown = _with_text(schema)
    project = Project(studio, reading, adjudication_title(schema, title))
    texts = _texts(schema, annotations, open_)
    pushed: set[str] = set()

    def asked() -> Iterator[Item]:
        for item in items:
            if item.id in texts:
                pushed.add(item.id)
                yield item.model_copy(update={"inputs": {**item.inputs, shown.name: texts[item.id]}})

    done = project.push(asked(), media_root, bad=bad, progress=progress, total=len(texts))
    return Adjudication(project, done, sorted(texts.keys() - pushed))


def _with_text(schema: Schema) -> tuple[Schema, TextField]:
    """The schema with nothing required and one more input to read, whose name no field has."""
    name = "said"
    while name in schema.by_name:
        name += "_"
    shown = TextField(kind=Kind.TEXT, name=name, role=Role.INPUT, title=_TITLE)
    free = tuple(one.model_copy(update={"required": False}) for one in schema.field)
    return schema.model_copy(update={"field": (*free, shown)}), shown


def _texts(schema: Schema, annotations: Sequence[Annotation], open_: Sequence[Open]) -> dict[str, str]:
    """For each item what is open, why, and who said what of it."""
    table = gather(schema, annotations)
    blocks: dict[str, list[str]] = {}
    for one in open_:
        said = table[one.field.name][one.item]
        lines = [f"{name}: {in_words(one.field, value)}" for name, value in said.items()]
        blocks.setdefault(one.item, []).append("\n".join([f"{one.field.label} ({one.why})", *lines]))
    return {item: "\n\n".join(of) for item, of in blocks.items()}
