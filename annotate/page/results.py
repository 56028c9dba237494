"""An annotation's values as Label Studio's result, and the same walk backwards.

Sound is marked in seconds, which come back exactly; video without sound is marked in frames, and
times come back rounded to a frame. What says nothing (an empty list, a list of nothing but nulls) has no
form on the page and is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.page.label_config import MANY_LEVELS, Page, turn_name
from pride_mm.errors import BadSamples, SampleError
from pride_mm.schema import Field, Kind, ScaleField, Span, Value, parse_value

Result = dict[str, Any]


class Refused(ValueError):
    """A result that cannot be read; says why without a word of it."""


@dataclass(frozen=True)
class Context:
    """What a result needs to know of its task: the page, the number of turns, the video's frames a second."""

    page: Page
    turns: int
    fps: float


def says_something(value: Value) -> bool:
    """False for a value that means nothing was said."""
    if isinstance(value, tuple):
        return any(part is not None for part in value)
    return not isinstance(value, str) or bool(value.strip())


def to_results(values: Mapping[str, Value], context: Context, place: str) -> list[Result]:
    """The values as Label Studio's result; raises SampleError where the page has no place for one."""
    results: list[Result] = []
    for name, value in values.items():
        field = context.page.control(name)
        if field is None:
            raise SampleError(place, name, f"the page of items with {context.page.name} has no control for it")
        if not says_something(value):
            continue
        if isinstance(value, str) and not is_unicode(value):
            raise SampleError(place, name, "not Unicode text (half of a surrogate pair)")
        try:
            results += [
                {"id": f"{name}-{number}", "origin": "manual", "from_name": name, **part}
                for number, part in enumerate(WRITERS[field.kind](field, value, context))
            ]
        except Refused as error:
            raise SampleError(place, name, str(error)) from None
    return results


def from_results(results: Sequence[Any], context: Context, place: str, bad: BadSamples) -> dict[str, Value]:
    """The values in a result; each refused field is counted in ``bad`` by place and name, and left out."""
    parts: dict[str, list[Result]] = {}
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            bad.add(SampleError(place, None, "a result without a value"))
            continue
        control = str(result.get("from_name", ""))
        name = control.split("-", 1)[0]
        if context.page.control(name) is None:
            # Relations and the like have no control; a control that is unknown was made by another page.
            bad.add(SampleError(place, control[:32] or None, "not a control of this page; was the page edited?"))
            continue
        parts.setdefault(name, []).append(result)
    values: dict[str, Value] = {}
    for field in context.page.controls:
        if field.name not in parts:
            continue
        try:
            raw = READERS[field.kind](field, parts[field.name], context)
        except Refused as refusal:
            bad.add(SampleError(place, field.name, str(refusal)))
            continue
        except (ValueError, TypeError, KeyError, IndexError):  # their messages may hold a note's text
            bad.add(SampleError(place, field.name, "not in the form of its control"))
            continue
        try:
            if raw is not None:
                values[field.name] = parse_value(field, raw, context.turns)
        except ValueError as error:
            bad.add(SampleError(place, field.name, str(error)))
    return values


def is_unicode(text: str) -> bool:
    """False for text with half of a surrogate pair, which no server takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _on_dialogue(context: Context, type_: str, value: Result) -> Result:
    return {"to_name": context.page.schema.dialogue.name, "type": type_, "value": value}


def _only(parts: list[Result]) -> Result:
    if len(parts) != 1:
        raise Refused(f"given {len(parts)} times")
    value: Result = parts[0]["value"]
    return value


def _write_choice(field: Field, value: Any, context: Context) -> list[Result]:
    chosen = list(value) if isinstance(value, tuple) else [str(value)]
    return [_on_dialogue(context, "choices", {"choices": chosen})]


def _read_choice(field: Field, parts: list[Result], context: Context) -> Any:
    chosen = _only(parts)["choices"]
    if len(chosen) > 1:
        raise Refused(f"{len(chosen)} options where one is allowed")
    return chosen[0] if chosen else None


def _read_choices(field: Field, parts: list[Result], context: Context) -> Any:
    return list(_only(parts)["choices"]) or None


def _write_scale(field: Field, value: Any, context: Context) -> list[Result]:
    assert isinstance(field, ScaleField)
    if field.high - field.low < MANY_LEVELS:
        return _write_choice(field, value, context)
    return [_on_dialogue(context, "number", {"number": value})]


def _read_scale(field: Field, parts: list[Result], context: Context) -> Any:
    value = _only(parts)
    given = value["number"] if "number" in value else _read_choice(field, parts, context)
    if given is None:
        return None
    if not float(given).is_integer():
        raise Refused(f"not {field.allowed}")
    return int(float(given))


def _write_text(field: Field, value: Any, context: Context) -> list[Result]:
    return [_on_dialogue(context, "textarea", {"text": [value]})]


def _read_text(field: Field, parts: list[Result], context: Context) -> Any:
    text = _only(parts)["text"]
    joined = text if isinstance(text, str) else "\n".join(text)
    return joined if joined.strip() else None


def _write_turns(field: Field, value: Any, context: Context) -> list[Result]:
    if len(value) != context.turns:
        raise Refused(f"{len(value)} entries for {context.turns} turns")
    dialogue = context.page.schema.dialogue.name
    return [
        {
            "from_name": turn_name(field, turn),
            "to_name": f"{dialogue}-{turn_name(field, turn)}",
            "type": "choices",
            "value": {"choices": [option]},
        }
        for turn, option in enumerate(value)
        if option is not None
    ]


def _read_turns(field: Field, parts: list[Result], context: Context) -> Any:
    options: list[Any] = [None] * context.turns
    for part in parts:
        turn = int(part["from_name"].split("-", 1)[1])
        if not 0 <= turn < context.turns:
            raise Refused(f"turn {turn} of {context.turns}")
        if options[turn] is not None:
            raise Refused(f"turn {turn} is given twice")
        options[turn] = _read_choice(field, [part], context)
    return options if any(option is not None for option in options) else None


def _write_spans(field: Field, value: Any, context: Context) -> list[Result]:
    marked = context.page.marked
    assert marked is not None
    spans: tuple[Span, ...] = value
    if marked.kind is Kind.AUDIO:
        return [
            {
                "to_name": marked.name,
                "type": "labels",
                "value": {"start": span.start, "end": span.end, "channel": 0, "labels": [span.label]},
            }
            for span in spans
        ]
    return [
        {
            "to_name": marked.name,
            "type": "timelinelabels",
            "value": {"ranges": [_frames(span, context.fps)], "timelinelabels": [span.label]},
        }
        for span in spans
    ]


def _frames(span: Span, fps: float) -> dict[str, int]:
    # Label Studio counts frames from 1: frame n is shown from (n - 1) / fps to n / fps.
    start = round(span.start * fps) + 1
    return {"start": start, "end": max(start, round(span.end * fps))}


def _read_spans(field: Field, parts: list[Result], context: Context) -> Any:
    spans = []
    for part in parts:
        value = part["value"]
        if "ranges" in value:
            times = [((r["start"] - 1) / context.fps, r["end"] / context.fps) for r in value["ranges"]]
            labels = value["timelinelabels"]
        else:
            times, labels = [(value["start"], value["end"])], value["labels"]
        spans += [{"start": start, "end": end, "label": label} for start, end in times for label in labels]
    return spans


WRITERS: dict[Kind, Callable[[Field, Any, Context], list[Result]]] = {
    Kind.TEXT: _write_text,
    Kind.CHOICE: _write_choice,
    Kind.CHOICES: _write_choice,
    Kind.SCALE: _write_scale,
    Kind.TURN_CHOICE: _write_turns,
    Kind.SPANS: _write_spans,
}
READERS: dict[Kind, Callable[[Field, list[Result], Context], Any]] = {
    Kind.TEXT: _read_text,
    Kind.CHOICE: _read_choice,
    Kind.CHOICES: _read_choices,
    Kind.SCALE: _read_scale,
    Kind.TURN_CHOICE: _read_turns,
    Kind.SPANS: _read_spans,
}
