"""Label Studio's own exports, JSON and JSON_MIN, of a project that was made from the schema: items and annotations.

``pride label pull`` is the better way while the server is there: it knows who annotated. An export knows users by
number, and a task holds no group and no split. JSON_MIN moreover holds neither what was chosen for
single turns (Label Studio's converter drops it) nor models' drafts: all in it counts as its annotator's own word.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlparse

from annotate.page.label_config import FPS, Page
from annotate.page.provenance import drafts_of, predictions_of
from annotate.page.results import Context, from_results
from annotate.people import Person, address
from pipelines.sources import Request
from pipelines.sources.mapping import MEDIA, Entry, Mapper
from pipelines.sources.rows import Row, read_rows
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Origin
from pride_mm.schema import Kind, Schema

_OURS = ".pride.invalid"


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry a task with all its annotations, task after task."""
    path = Path(request.path or "")
    if request.path is None or not path.is_file():
        raise UserError(f"No export at {request.path or 'no path'}: give the .json file that Label Studio wrote.")
    mapper, people = Mapper(request, bad, path.parent), _People()
    tasks = groupby(read_rows(path, bad), key=lambda row: str(row.columns.get("id")))
    for count, (_, together) in enumerate(tasks):
        if count == request.limit:
            return
        request.progress(count + 1, request.limit)
        rows = list(together)
        entry = mapper.entry(_row(rows[0], request.schema))
        if entry is not None:
            notes = [note for row in rows for note in _annotations(row, entry.item.id, request.schema, people, bad)]
            yield entry._replace(annotations=tuple(notes))


def _data(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """A task's data; in JSON_MIN they lie beside what was said of them."""
    data = columns.get("data")
    return data if isinstance(data, dict) else columns


def _row(row: Row, schema: Schema) -> Row:
    """The task's data as columns, with paths for addresses; nothing that an annotator said is among them."""
    said = {field.name for field in schema.privileged + schema.targets}
    columns = {name: value for name, value in _data(row.columns).items() if name.partition("-")[0] not in said}
    for field in schema.of(None, *MEDIA):
        if columns.get(field.name):
            columns[field.name] = _path(str(columns[field.name]))
    return row._replace(columns={**columns, "number": row.columns.get("id")})


def _path(given: str) -> str:
    """Where a served file lies below the folder that is served."""
    inside = parse_qs(urlparse(given).query).get("d")
    return inside[0] if inside else given


def _annotations(row: Row, item: str, schema: Schema, people: "_People", bad: BadSamples) -> Iterator[Annotation]:
    columns, data = row.columns, _data(row.columns)
    turns = data.get(schema.dialogue.name)
    page = Page(schema, tuple(field.name for field in schema.of(None, *MEDIA) if data.get(field.name)))
    context = Context(page, len(turns) if isinstance(turns, list) else 0, float(data.get(FPS) or 0.0))
    whole = data is not columns
    given = columns.get("annotations") or [] if whole else [_unshortened(columns, page)]
    predictions = predictions_of(columns.get("predictions") or [], context) if whole else ()
    for annotation in given:
        if annotation.get("was_cancelled"):
            continue
        person = people.of(annotation.get("completed_by"))
        place = f"{row.place} ({item}), annotator {person.annotator}"
        values = from_results(annotation.get("result") or [], context, place, bad)
        if values:
            drafts = drafts_of(annotation, values, predictions, context)
            said = Annotation(item=item, annotator=person.annotator, origin=person.origin, values={})
            yield said.model_copy(update={"values": values, "drafts": drafts})


def _unshortened(columns: Mapping[str, Any], page: Page) -> dict[str, Any]:
    """An annotation of JSON_MIN in the form that JSON gives it."""
    result = []
    for name, value in columns.items():
        field = page.control(name.partition("-")[0])
        if field is None or value is None:
            continue
        for part in value if isinstance(value, list) else [value]:
            short = {"text": [part]} if field.kind is Kind.TEXT else {"choices": [part]}
            result.append({"from_name": name, "value": part if isinstance(part, dict) else short})
    return {"completed_by": columns.get("annotator"), "result": result}


class _People:
    """Who annotated, under names that tell nobody's address: those that we loaded bear their own again."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, given: Any) -> Person:
        """The person behind a user's number, address, or record."""
        user = given if isinstance(given, dict) else {"id": given} if isinstance(given, int) else {"email": given}
        email, name = str(user.get("email") or ""), str(user.get("first_name") or "")
        if email.endswith(_OURS):
            known = email.rpartition("@")[2].removesuffix(_OURS)
            origin: Origin = known if known in get_args(Origin) else "model"  # type: ignore[assignment]
            person = Person(name, origin)
            return person if name and address(person) == email else Person(email.partition("@")[0], origin)
        if isinstance(user.get("id"), int):
            return Person(f"user-{user['id']}", "expert")
        return Person(f"annotator-{self._numbers.setdefault(email, len(self._numbers) + 1)}", "expert")
