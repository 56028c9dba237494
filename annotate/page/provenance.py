"""Whose words a field's value is: the annotator's, or a model's draft that was left as it was.

Label Studio marks what came from a prediction (``origin`` on each result, ``parent_prediction`` on the
annotation), but keeps the mark ``prediction`` on some controls after an edit. So values are held against
the predictions themselves, and the marks only tell whether the annotator began with one. A text that is a
draft word for word is the model's even without any mark.

Annotations that we load carry their provenance in ``meta`` of each result, which the server and its page
keep, with a digest of the value: what is changed on the page later is seen.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from annotate.page.results import Context, Result, from_results, to_results
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Draft
from pride_mm.schema import Field, Kind, Value, jsonable

UNKNOWN = "unknown"
_NO_CHANCE = 20  # characters; two people may well find the same shorter words
_META, _VALUE = "draft", "value"
_ORIGINS = {"accepted": "prediction", "edited": "prediction-changed", "written": "manual"}


@dataclass(frozen=True)
class Prediction:
    """What a model drafted for a task. ``number`` is the server's."""

    number: int
    model: str
    values: dict[str, Value]


def predictions_of(given: Iterable[Any], context: Context) -> tuple[Prediction, ...]:
    """A task's predictions as the server lists them, oldest first; a field that cannot be read is left out."""
    found = []
    for one in given:
        raw = one if isinstance(one, dict) else one.dict()
        values = _read(raw.get("result") or [], context)
        found.append(Prediction(int(raw["id"]), str(raw.get("model_version") or UNKNOWN), values))
    return tuple(sorted(found, key=lambda prediction: prediction.number))


def drafts_of(
    given: Mapping[str, Any], values: Mapping[str, Value], predictions: Sequence[Prediction], context: Context
) -> dict[str, Draft]:
    """What became of each drafted field of an annotation.

    Args:
        given: the annotation as the server lists it.
        values: what was read from it.
        predictions: all that models drafted for the task.
        context: how its results are read.
    """
    parts = _parts(given.get("result") or [])
    marked = {name: draft for name in values if (draft := _recorded(parts.get(name, []), values[name]))}
    if marked:
        return marked
    parent = [p for p in predictions if p.number == given.get("parent_prediction")]
    began = bool(given.get("parent_prediction")) or any(_drafted(part) for own in parts.values() for part in own)
    found: dict[str, Draft] = {}
    for name, value in values.items():
        field = context.page.schema.by_name[name]
        if began:
            found[name] = _became(field, value, parts.get(name, []), parent or predictions)
        elif field.kind is Kind.TEXT and len(str(value).strip()) >= _NO_CHANCE:
            copied = [p.model for p in predictions if name in p.values and not change(field, value, p.values[name])]
            if copied:
                found[name] = Draft(model=copied[0], how="accepted", change=0.0)
    return found


def annotation_results(annotation: Annotation, context: Context, place: str) -> list[Result]:
    """An annotation as Label Studio's result, its provenance with it; raises SampleError."""
    results = to_results(annotation.values, context, place)
    back = _read(results, context) if annotation.drafts else {}
    for name, parts in _parts(results).items():
        draft = annotation.drafts.get(name)
        if draft is not None and name in back:
            for part in parts:
                part["origin"] = _ORIGINS[draft.how]
                part["meta"] = {_META: {**draft.model_dump(), _VALUE: _digest(back[name])}}
    return results


def change(field: Field, value: Value, draft: Value) -> float:
    """The share of a value that differs from its draft, 0 to 1.

    Of a text the edit distance over characters (Levenshtein's, by the longer one's length; white space at the ends
    and its kind don't count), of a list of turns the share of turns, of the rest all or nothing.
    """
    if field.kind is Kind.TEXT:
        from rapidfuzz.distance import Levenshtein

        return float(Levenshtein.normalized_distance(*(" ".join(str(text).split()) for text in (value, draft))))
    if field.kind is Kind.TURN_CHOICE and isinstance(value, tuple) and isinstance(draft, tuple):
        if len(value) == len(draft):
            return sum(one != other for one, other in zip(value, draft, strict=True)) / len(value)
    elif field.kind is Kind.CHOICES and isinstance(value, tuple) and isinstance(draft, tuple):
        return float(set(value) != set(draft))
    return float(value != draft)


def _became(field: Field, value: Value, parts: list[Result], sources: Sequence[Prediction]) -> Draft:
    """What became of one field of an annotation that began with a draft."""
    compared = [(change(field, value, p.values[field.name]), p.model) for p in sources if field.name in p.values]
    mine = not any(_drafted(part) for part in parts)
    if not compared:
        model = sources[-1].model if sources else UNKNOWN
        if mine:
            return Draft(model=model, how="written", change=1.0)
        # The draft is gone from the server: the page's marks are all there is, and they are believed.
        changed = any(part.get("origin") == _ORIGINS["edited"] for part in parts)
        return Draft(model=model, how="edited") if changed else Draft(model=model, how="accepted")
    share, model = min(compared, key=lambda pair: pair[0])
    if not share:
        return Draft(model=model, how="accepted", change=0.0)
    thrown_away = field.kind is Kind.TEXT and mine
    return Draft(model=model, how="written" if thrown_away else "edited", change=share)


def _recorded(parts: list[Result], value: Value) -> Draft | None:
    """The provenance that was loaded with a field's value; None where there is none."""
    for part in parts:
        meta = part.get("meta")
        kept = meta.get(_META) if isinstance(meta, dict) else None
        if not isinstance(kept, dict):
            continue
        try:
            draft = Draft.model_validate({name: entry for name, entry in kept.items() if name != _VALUE})
        except ValidationError:
            continue  # somebody else's meta
        if draft.how == "written" or kept.get(_VALUE) == _digest(value):
            return draft
        return Draft(model=draft.model, how="edited")
    return None


def _digest(value: Value) -> str:
    return hashlib.sha256(json.dumps(jsonable(value), sort_keys=True).encode()).hexdigest()


def _drafted(part: Mapping[str, Any]) -> bool:
    return str(part.get("origin", "")).startswith("prediction")


def _parts(results: Iterable[Any]) -> dict[str, list[Result]]:
    """Results by the name of their field."""
    parts: dict[str, list[Result]] = {}
    for result in _dicts(results):
        parts.setdefault(str(result.get("from_name", "")).split("-", 1)[0], []).append(result)
    return parts


def _dicts(results: Iterable[Any]) -> Iterator[Result]:
    return (result for result in results if isinstance(result, dict))


def _read(results: Sequence[Any], context: Context) -> dict[str, Value]:
    return from_results(results, context, "", BadSamples(len(results) + len(context.page.controls)))
