"""What each annotator said, by field and item: what agreement and consensus are counted from.

A model's annotations are nobody's word. A model's draft that an expert left as it was is told apart:
agreement does not count it, since two experts who accept the same draft have not judged on their own.
"""

import json
from collections.abc import Collection, Iterable

from pride_mm.records import Annotation
from pride_mm.schema import Field, Kind, Role, Schema, Span, Value, jsonable

Rating = dict[str, Value]
"""What each annotator said of one item's field."""


def by_people(annotations: Iterable[Annotation]) -> list[Annotation]:
    """The annotations that no model wrote: only these make agreement and consensus."""
    return [annotation for annotation in annotations if annotation.origin != "model"]


def gather(
    schema: Schema, annotations: Iterable[Annotation], without: Collection[str] = (), accepted: bool = True
) -> dict[str, dict[str, Rating]]:
    """The annotations as field -> item -> annotator -> value, all in an order that is theirs, not the caller's.

    Args:
        schema: the fields.
        annotations: in any order; a model's are left out.
        without: annotators to leave out.
        accepted: whether drafts that were left as they were count as the annotator's word.
    """
    table: dict[str, dict[str, Rating]] = {f.name: {} for f in schema.field if f.role is not Role.INPUT}
    for annotation in sorted(by_people(annotations), key=_order):
        if annotation.annotator in without:
            continue
        for name, value in (annotation.values if accepted else annotation.by_expert()).items():
            table[name].setdefault(annotation.item, {})[annotation.annotator] = value
    return table


def _order(annotation: Annotation) -> tuple[str, str, bool, str]:
    """By item and annotator; of two by the same annotator the expert's comes last, and so counts."""
    values = json.dumps({name: jsonable(value) for name, value in annotation.values.items()}, sort_keys=True)
    return annotation.item, annotation.annotator, annotation.origin == "expert", values


def in_words(field: Field, value: Value) -> str:
    """What was said of a field as people read it: options by commas, turns by number, segments by second."""
    if not isinstance(value, tuple):
        return str(value)
    if field.kind is Kind.TURN_CHOICE:
        said = [f"{number} {one}" for number, one in enumerate(value, 1) if one is not None]
    else:
        said = [f"{one.start:.1f}-{one.end:.1f} s {one.label}" if isinstance(one, Span) else str(one) for one in value]
    return ", ".join(said) or "none"
