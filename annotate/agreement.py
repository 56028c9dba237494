"""How far annotators agree, field by field, with the statistic that fits the field's kind.

Choices and scales: Krippendorff's alpha (nominal; ordinal), which takes any number of annotators and
missing values; 1 is perfect, 0 is chance. Each turn is a unit of a ``turn_choice``; each option of a
``choices`` is a yes-or-no unit. For time segments the mean F1 of the overlap in seconds over pairs of
annotators, for texts the mean F1 of the words they share: both are similarities, not corrected for chance.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pride_mm.records import Annotation
from pride_mm.schema import Field, Kind, OptionsField, Role, Schema, Span, Value

Rating = dict[str, Value]
"""What each annotator said of one item's field."""


@dataclass(frozen=True)
class FieldAgreement:
    """Agreement on one field. ``value`` is None where it is undefined, and ``why`` says why."""

    field: Field
    measure: str
    value: float | None
    items: int
    shared: int
    annotators: int
    why: str = ""


@dataclass(frozen=True)
class Agreement:
    """Agreement on every field that somebody annotated."""

    items: int
    annotators: tuple[str, ...]
    fields: tuple[FieldAgreement, ...]


def gather(schema: Schema, annotations: Iterable[Annotation]) -> dict[str, dict[str, Rating]]:
    """The annotations as field -> item -> annotator -> value, all in a fixed order; a model's are left out."""
    table: dict[str, dict[str, Rating]] = {f.name: {} for f in schema.field if f.role is not Role.INPUT}
    for annotation in sorted(by_people(annotations), key=lambda a: (a.item, a.origin, a.annotator)):
        for name, value in annotation.values.items():
            rating = table[name].setdefault(annotation.item, {})
            taken = annotation.annotator in rating
            rating[f"{annotation.annotator} ({annotation.origin})" if taken else annotation.annotator] = value
    return table


def by_people(annotations: Iterable[Annotation]) -> list[Annotation]:
    """The annotations that no model wrote: only these make agreement and consensus."""
    return [annotation for annotation in annotations if annotation.origin != "model"]


def agreement(schema: Schema, annotations: Sequence[Annotation]) -> Agreement:
    """The agreement of the annotators on each field of the schema."""
    given = by_people(annotations)
    table = gather(schema, given)
    fields = tuple(_field_agreement(schema.by_name[name], ratings) for name, ratings in table.items() if ratings)
    return Agreement(len({a.item for a in given}), tuple(sorted({a.annotator for a in given})), fields)


def _field_agreement(field: Field, ratings: dict[str, Rating]) -> FieldAgreement:
    shared = {item: rating for item, rating in ratings.items() if len(rating) > 1}
    name, measure = MEASURES[field.kind]
    value, why = (None, "nobody else annotated the same items") if not shared else measure(field, shared)
    annotators = len({annotator for rating in ratings.values() for annotator in rating})
    return FieldAgreement(field, name, value, len(ratings), len(shared), annotators, why)


Measured = tuple[float | None, str]


def alpha(units: Sequence[dict[str, Any]], order: Sequence[Any], level: str) -> Measured:
    """Krippendorff's alpha.

    Args:
        units: for each unit, annotator -> what was said; an annotator may be missing.
        order: every value that may be said, lowest first where there is an order.
        level: ``nominal`` or ``ordinal``.

    Returns:
        alpha, or None with the reason why it is undefined.
    """
    import krippendorff
    import numpy

    annotators = sorted({annotator for unit in units for annotator in unit})
    index = {value: number for number, value in enumerate(order)}
    data = numpy.full((len(annotators), len(units)), numpy.nan)
    for column, unit in enumerate(units):
        for row, annotator in enumerate(annotators):
            if unit.get(annotator) is not None:
                data[row, column] = index[unit[annotator]]
    paired = [column for column in data.T if numpy.count_nonzero(~numpy.isnan(column)) > 1]
    if not paired:
        return None, "nobody else annotated the same items"
    said = {value for column in paired for value in column if not numpy.isnan(value)}
    if len(said) < 2:
        return None, "everybody said the same everywhere, so chance agreement is undefined"
    return float(
        krippendorff.alpha(reliability_data=data, value_domain=list(range(len(order))), level_of_measurement=level)
    ), ""


def _nominal(field: Field, ratings: dict[str, Rating]) -> Measured:
    assert isinstance(field, OptionsField)
    return alpha(list(ratings.values()), field.options, "nominal")


def _ordinal(field: Field, ratings: dict[str, Rating]) -> Measured:
    low, high = getattr(field, "low", 0), getattr(field, "high", 0)
    return alpha(list(ratings.values()), range(low, high + 1), "ordinal")


def _each_option(field: Field, ratings: dict[str, Rating]) -> Measured:
    assert isinstance(field, OptionsField)
    units = [
        {annotator: option in chosen for annotator, chosen in rating.items()}  # type: ignore[operator]
        for rating in ratings.values()
        for option in field.options
    ]
    return alpha(units, (False, True), "nominal")


def _each_turn(field: Field, ratings: dict[str, Rating]) -> Measured:
    assert isinstance(field, OptionsField)
    units: list[dict[str, Any]] = []
    for rating in ratings.values():
        turns: dict[int, dict[str, Any]] = defaultdict(dict)
        for annotator, options in rating.items():
            for turn, option in enumerate(options):  # type: ignore[arg-type]
                turns[turn][annotator] = option
        units += turns.values()
    return alpha(units, field.options, "nominal")


def _pairs(ratings: dict[str, Rating], similarity: Callable[[Any, Any], float]) -> Measured:
    values = [
        similarity(one, other)
        for rating in ratings.values()
        for one, other in itertools.combinations(rating.values(), 2)
    ]
    return math.fsum(values) / len(values), ""


def _overlap(field: Field, ratings: dict[str, Rating]) -> Measured:
    return _pairs(ratings, span_f1)


def _words(field: Field, ratings: dict[str, Rating]) -> Measured:
    return _pairs(ratings, word_f1)


def span_f1(one: Sequence[Span], other: Sequence[Span]) -> float:
    """F1 of the seconds that both marked alike; 1 where neither marked any."""
    labels = {span.label for span in (*one, *other)}
    merged = [(_merge(one, label), _merge(other, label)) for label in sorted(labels)]
    common = math.fsum(
        max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for left, right in merged for a in left for b in right
    )
    marked = math.fsum(end - start for sides in merged for side in sides for start, end in side)
    return 2 * common / marked if marked else float(sorted(map(str, one)) == sorted(map(str, other)))


def _merge(spans: Iterable[Span], label: str) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted((span.start, span.end) for span in spans if span.label == label):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def words(text: str) -> list[str]:
    """The words of a text in lower case; a script without spaces counts by character."""
    return re.findall(
        r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+", text.lower()
    )


def word_f1(one: str, other: str) -> float:
    """F1 of the words that two texts share, as multisets."""
    left, right = Counter(words(one)), Counter(words(other))
    total = sum(left.values()) + sum(right.values())
    return 2 * sum((left & right).values()) / total if total else float(one.strip() == other.strip())


MEASURES: dict[Kind, tuple[str, Callable[[Field, dict[str, Rating]], Measured]]] = {
    Kind.TEXT: ("shared words, F1", _words),
    Kind.CHOICE: ("Krippendorff's alpha, nominal", _nominal),
    Kind.CHOICES: ("Krippendorff's alpha, nominal, each option", _each_option),
    Kind.SCALE: ("Krippendorff's alpha, ordinal", _ordinal),
    Kind.TURN_CHOICE: ("Krippendorff's alpha, nominal, each turn", _each_turn),
    Kind.SPANS: ("overlap in time, F1", _overlap),
}
