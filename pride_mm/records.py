"""Items, annotations and notes as JSON lines.

An *item* is one dialogue with its media, ending in the response to learn; it never holds a
privileged value. An *annotation* is what one annotator said of one item. *Notes* are the
consensus of the annotations of one item: its privileged values, and the targets agreed on.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import ValidationError

from pride_mm.config import mistakes
from pride_mm.errors import BadSamples, SampleError
from pride_mm.files import write_jsonl
from pride_mm.schema import Field, Frozen, Media, Schema, Value, jsonable, parse_values

KEY_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
Key = Annotated[str, Setting(pattern=KEY_PATTERN)]
Split = Literal["train", "valid", "test"]
Origin = Literal["expert", "corpus", "model"]


class Item(Frozen):
    """One dialogue with its media.

    ``group`` is what must not be torn over two splits: the speaker, or the dialogue. ``split`` is
    the corpus's own, or None. ``corpus`` says where it comes from.
    """

    id: Key
    corpus: str
    group: Annotated[str, Setting(min_length=1)]
    split: Split | None = None
    inputs: dict[str, Value]
    targets: dict[str, Value] = {}


class Draft(Frozen):
    """What became of a field that a model had drafted for the annotator.

    ``accepted``: the value is the draft, unchanged, so it is the model's word. ``edited``: the annotator changed it.
    ``written``: the annotator's own, beside other fields that were drafted, or in place of a draft thrown away.
    ``model`` is the model's version. ``change`` is the share that differs from the draft, 0 to 1 (of a text its
    characters, of a list of turns its turns, of the rest all or nothing); None where the draft is gone.
    """

    model: Annotated[str, Setting(min_length=1)]
    how: Literal["accepted", "edited", "written"]
    change: Annotated[float, Setting(ge=0, le=1)] | None = None


class Annotation(Frozen):
    """What one annotator said of one item.

    ``annotator`` is a pseudonym; ``origin`` never lies about who submitted it. ``drafts`` says what became of each
    field that a model had drafted; a field that isn't named there was written without any draft.
    """

    item: Key
    annotator: Annotated[str, Setting(min_length=1)]
    origin: Origin = "expert"
    values: dict[str, Value]
    drafts: dict[str, Draft] = {}

    def by_expert(self) -> dict[str, Value]:
        """The values that a person wrote or changed: without a model's annotations, and without accepted drafts."""
        if self.origin == "model":
            return {}
        return {name: value for name, value in self.values.items() if not self.accepted(name)}

    def accepted(self, name: str) -> bool:
        """True where the field's value is a model's draft that was left as it was."""
        return name in self.drafts and self.drafts[name].how == "accepted"


class Notes(Frozen):
    """The consensus on one item.

    ``how`` says for each field how it was reached. ``drafts`` names, for each value that is a model's draft left as it
    was, the model's version: no expert's own words made that value, and nothing may take it for an expert's.
    """

    item: Key
    privileged: dict[str, Value] = {}
    targets: dict[str, Value] = {}
    how: dict[str, str] = {}
    drafts: dict[str, str] = {}


def read_lines(path: Path, bad: BadSamples) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (``file:line``, object); a line that is not a JSON object is counted in ``bad``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path.name}:{number}"
            if (record := parse_line(line, place, bad)) is not None:
                yield place, record


def parse_line(line: bytes, place: str, bad: BadSamples) -> dict[str, Any] | None:
    """The object of one line; None where it is empty, or is none, which is counted in ``bad``."""
    if not line.strip():
        return None
    try:
        record = json.loads(line.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        bad.add(SampleError(place, None, f"not JSON ({error.msg} at column {error.colno})"))
        return None
    except (ValueError, RecursionError):
        bad.add(SampleError(place, None, "not JSON that can be read (nested too deep, or a number too long)"))
        return None
    if not isinstance(record, dict):
        bad.add(SampleError(place, None, "not a JSON object"))
        return None
    return record


def _parse(
    fields: Iterable[Field], raw: Any, turns: int | None, place: str, bad: BadSamples
) -> dict[str, Value] | None:
    if not isinstance(raw, dict):
        bad.add(SampleError(place, None, "values are not a JSON object"))
        return None
    values, refused = parse_values(fields, raw, turns)
    for name, reason in refused:
        bad.add(SampleError(place, name, reason))
    return None if refused else values


def _drafts(raw: Any, values: dict[str, Value], place: str, bad: BadSamples) -> dict[str, Any] | None:
    """The entries that are there (a table of records writes null for the others), each of a field with a value."""
    drafts = {name: draft for name, draft in raw.items() if draft is not None} if isinstance(raw, dict) else raw or {}
    if isinstance(drafts, dict) and drafts.keys() <= values.keys():
        return drafts
    # not named: a key that was given may be anything at all, even a note's text
    bad.add(SampleError(place, None, "'drafts' is not an object whose keys are fields with a value"))
    return None


def _turns(schema: Schema, inputs: dict[str, Any]) -> int | None:
    dialogue = inputs.get(schema.dialogue.name)
    return len(dialogue) if isinstance(dialogue, list | tuple) else None


def item_from_json(raw: dict[str, Any], schema: Schema, place: str, bad: BadSamples) -> Item | None:
    """Check one item; None (and counted in ``bad``) where it is refused."""
    rest = dict(raw)
    given_inputs, given_targets = rest.pop("inputs", {}), rest.pop("targets", {})
    turns = _turns(schema, given_inputs) if isinstance(given_inputs, dict) else None
    inputs = _parse(schema.inputs, given_inputs, turns, place, bad)
    targets = _parse(schema.targets, given_targets, turns, place, bad)
    if inputs is None or targets is None:
        return None
    if schema.dialogue.name not in inputs:
        bad.add(SampleError(place, schema.dialogue.name, "missing; every item needs its turns"))
        return None
    try:
        return Item.model_validate({**rest, "inputs": {}, "targets": {}}).model_copy(
            update={"inputs": inputs, "targets": targets}
        )
    except ValidationError as error:
        bad.add(SampleError(place, None, "; ".join(mistakes(error))))
        return None


def read_items(path: Path, schema: Schema, bad: BadSamples) -> Iterator[Item]:
    """Yield the items of a JSON lines file; relative media paths are resolved beside it. Repeated ids are bad."""
    seen: dict[str, str] = {}
    for place, raw in read_lines(path, bad):
        item = item_from_json(raw, schema, place, bad)
        if item is None:
            continue
        if item.id in seen:
            bad.add(SampleError(place, None, f"id '{item.id}' was already given at {seen[item.id]}"))
            continue
        seen[item.id] = place
        yield resolve_media(item, path.parent)


def resolve_media(item: Item, folder: Path) -> Item:
    """The item with the paths of its media, which are relative to ``folder``, made whole."""
    resolved = {
        name: value.model_copy(update={"path": str(folder / value.path)}) if isinstance(value, Media) else value
        for name, value in item.inputs.items()
    }
    return item.model_copy(update={"inputs": resolved})


def read_annotations(path: Path, schema: Schema, bad: BadSamples) -> Iterator[Annotation]:
    """Yield the annotations of a JSON lines file: values of privileged and target fields."""
    fields = schema.privileged + schema.targets
    for place, raw in read_lines(path, bad):
        values = _parse(fields, raw.get("values", {}), None, place, bad)
        if values is None:
            continue
        drafts = _drafts(raw.get("drafts"), values, place, bad)
        if drafts is None:
            continue
        try:
            record = Annotation.model_validate({**raw, "values": {}, "drafts": drafts})
        except ValidationError as error:
            bad.add(SampleError(place, None, "; ".join(mistakes(error))))
            continue
        yield record.model_copy(update={"values": values})


def read_notes(path: Path, schema: Schema, bad: BadSamples) -> Iterator[Notes]:
    """Yield the notes of a JSON lines file; a second line for the same item is bad."""
    seen: set[str] = set()
    for place, raw in read_lines(path, bad):
        record = notes_from_json(raw, schema, place, bad)
        if record is None:
            continue
        if record.item in seen:
            bad.add(SampleError(place, None, f"item '{record.item}' was already given"))
            continue
        seen.add(record.item)
        yield record


def notes_from_json(raw: dict[str, Any], schema: Schema, place: str, bad: BadSamples) -> Notes | None:
    """Check the notes on one item; None (and counted in ``bad``) where they are refused."""
    privileged = _parse(schema.privileged, raw.get("privileged", {}), None, place, bad)
    targets = _parse(schema.targets, raw.get("targets", {}), None, place, bad)
    if privileged is None or targets is None:
        return None
    drafts = _drafts(raw.get("drafts"), {**privileged, **targets}, place, bad)
    if drafts is None:
        return None
    try:
        record = Notes.model_validate({**raw, "privileged": {}, "targets": {}, "drafts": drafts})
    except ValidationError as error:
        bad.add(SampleError(place, None, "; ".join(mistakes(error))))
        return None
    return record.model_copy(update={"privileged": privileged, "targets": targets})


def to_json(record: Item | Annotation | Notes) -> dict[str, Any]:
    """The JSON form of a record; the readers above read it back."""
    given = {name: getattr(record, name) for name in type(record).model_fields}
    return {
        name: {field: _jsonable(v) for field, v in value.items()} if isinstance(value, dict) else value
        for name, value in given.items()
    }


def _jsonable(value: Value | Draft) -> Any:
    return value.model_dump() if isinstance(value, Draft) else jsonable(value)


def write_records(path: Path, records: Iterable[Item | Annotation | Notes]) -> int:
    """Write records as JSON lines, whole or not at all; returns how many."""
    return write_jsonl(path, (to_json(record) for record in records))
