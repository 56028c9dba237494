"""Values as plain words: how a field is read to a language model, by kind."""

from collections.abc import Callable
from typing import Any

from pride_mm.schema import Field, Kind, ScaleField, Value


def _scale(field: Field, value: Any) -> str:
    assert isinstance(field, ScaleField)
    return f"{value} on a scale from {field.low} to {field.high}"


def _turn_choice(field: Field, value: Any) -> str:
    return ", ".join(f"turn {number}: {label}" for number, label in enumerate(value, 1) if label is not None)


def _spans(field: Field, value: Any) -> str:
    return ", ".join(f"{span.label} from {span.start:.1f} s to {span.end:.1f} s" for span in value)


def _dialogue(field: Field, value: Any) -> str:
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in value)


RENDERERS: dict[Kind, Callable[[Field, Any], str]] = {
    Kind.DIALOGUE: _dialogue,
    Kind.TEXT: lambda field, value: value.strip(),
    Kind.CHOICE: lambda field, value: value,
    Kind.CHOICES: lambda field, value: ", ".join(value),
    Kind.SCALE: _scale,
    Kind.TURN_CHOICE: _turn_choice,
    Kind.SPANS: _spans,
}
"""Every kind but video and audio, which are not words."""


def render(field: Field, value: Value) -> str:
    """The value in words; empty where it says nothing."""
    return RENDERERS[field.kind](field, value)
