"""Notes that stand in what the student sees: then they are privileged no more."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.overlap import covered, words
from pride_mm.schema import Kind, Role, Schema, Turn

# A short note may be said by anyone; of a longer one so much has to stand there.
SHORTEST, SHARE = 8, 0.8


def compared(schema: Schema, inputs: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each note long enough to compare: its field's name, and whether it stands in the inputs word for word."""
    said = [text for field in schema.inputs for text in _texts(inputs.get(field.name))]
    for field in schema.of(Role.PRIVILEGED, Kind.TEXT):
        note = notes.get(field.name)
        if isinstance(note, str) and len(words(note)) >= SHORTEST:
            yield field.name, covered(note, said) >= SHARE


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [turn.text for turn in value if isinstance(turn, Turn)] if isinstance(value, tuple) else []
