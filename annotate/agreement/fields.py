"""The agreement on each field: headline and other statistics, per annotator and per emotion, and who confuses what."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from annotate.agreement.codes import Counted, counted
from annotate.agreement.pairs import Compared, compared
from annotate.agreement.ratings import Rating, by_people, gather
from annotate.agreement.resampling import Figure, measure
from annotate.agreement.similarity import span_f1, word_f1
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation
from pride_mm.schema import Field, Kind, OptionsField, Role, ScaleField, Schema

Embed = Callable[[Sequence[str]], Any]
Evidence = Counted | Compared


@dataclass(frozen=True)
class AnnotatorAgreement:
    """How one annotator stands to the others on one field.

    ``with_others`` is the share of the units where the annotator said what the others' majority (or median) says;
    for texts and segments the mean similarity with each other. ``of`` is how many units that is. ``without`` is the
    headline of the field without this annotator: higher than with, the others agree better among themselves.
    """

    annotator: str
    items: int
    with_others: float | None
    of: int
    without: float | None


@dataclass(frozen=True)
class GroupAgreement:
    """The headline on the items of one group: those whose ``field`` is ``value``."""

    field: Field
    value: str
    shared: int
    figure: Figure


@dataclass(frozen=True)
class Confusion:
    """How often one annotator said ``values[row]`` and another ``values[column]``, all pairs together."""

    values: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class FieldAgreement:
    """Agreement on one field. The headline's ``value`` is None where it is undefined, and its ``why`` says why."""

    field: Field
    headline: Figure
    others: tuple[Figure, ...]
    items: int
    shared: int
    annotators: tuple[AnnotatorAgreement, ...]
    groups: tuple[GroupAgreement, ...] = ()
    confusion: Confusion | None = None
    disagreement: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Agreement:
    """Agreement on every field that somebody annotated. ``accepted`` drafts and ``adjudicators`` are left out."""

    items: int
    annotators: tuple[str, ...]
    fields: tuple[FieldAgreement, ...]
    adjudicators: tuple[str, ...] = ()
    accepted: int = 0

    def disagreement(self) -> list[tuple[str, float, list[tuple[Field, float]]]]:
        """The items that annotators disagree on, the most disagreed first.

        Each with its mean over the counted and marked fields, 0 to 1, and those fields, the worst first. Texts are
        left out: two good ones share few words.
        """
        found: dict[str, list[tuple[Field, float]]] = {}
        for row in self.fields:
            if row.field.kind is not Kind.TEXT:
                for item, far in (row.disagreement or {}).items():
                    found.setdefault(item, []).append((row.field, far))
        ranked = [
            (item, sum(far for _, far in rows) / len(rows), sorted(rows, key=lambda row: -row[1]))
            for item, rows in found.items()
        ]
        return sorted((entry for entry in ranked if entry[1] > 0), key=lambda entry: (-entry[1], entry[0]))


def agreement(
    schema: Schema,
    annotations: Sequence[Annotation],
    adjudicators: Collection[str] = (),
    embed: Embed | None = None,
    progress: Progress = silent,
) -> Agreement:
    """The agreement of the annotators on each field of the schema.

    Args:
        schema: the fields.
        annotations: in any order; a model's are left out, and drafts that were left as they were.
        adjudicators: annotators who saw what the others said, so that they agree with them or don't for that reason.
        embed: makes a matrix of unit vectors of texts; then their mean cosine is measured too.
        progress: told after each field.
    """
    given = by_people(annotations)
    annotators = tuple(sorted({a.annotator for a in given} - set(adjudicators)))
    table = gather(schema, given, without=adjudicators, accepted=False)
    rows = [(schema.by_name[name], ratings) for name, ratings in table.items() if ratings]
    fields = []
    for number, (field, ratings) in enumerate(rows):
        groups = _groups(schema, table, field)
        fields.append(_field(field, ratings, annotators, groups, embed))
        progress(number + 1, len(rows), field.label)
    accepted = sum(a.accepted(name) for a in given for name in a.values)
    named = tuple(sorted({a.annotator for a in given} & set(adjudicators)))
    return Agreement(len({a.item for a in given}), annotators, tuple(fields), named, accepted)


def _groups(schema: Schema, table: Mapping[str, dict[str, Rating]], measured: Field) -> dict[Field, dict[str, str]]:
    """For each other choice that is a target: item -> what most annotators chose; a tie is in no group."""
    groups: dict[Field, dict[str, str]] = {}
    for field in schema.of(Role.TARGET, Kind.CHOICE):
        if field.name == measured.name:
            continue
        most: dict[str, str] = {}
        for item, rating in table[field.name].items():
            said = [str(value) for value in rating.values()]
            ranked = sorted(set(said), key=lambda value: -said.count(value))
            if len(ranked) == 1 or said.count(ranked[0]) > said.count(ranked[1]):
                most[item] = ranked[0]
        if most:
            groups[field] = most
    return groups


def _field(
    field: Field,
    ratings: dict[str, Rating],
    annotators: tuple[str, ...],
    groups: dict[Field, dict[str, str]],
    embed: Embed | None,
) -> FieldAgreement:
    items = [item for item, rating in ratings.items() if len(rating) > 1]
    shared = [ratings[item] for item in items]
    here = tuple(name for name in annotators if any(name in rating for rating in ratings.values()))
    evidence = MEASURES[field.kind](field, shared, here)
    statistic = evidence.headline()
    chance = evidence.chance if isinstance(evidence, Compared) else None
    others = [measure(one) for one in evidence.others()] if isinstance(evidence, Counted) else []
    if embed and field.kind is Kind.TEXT and shared:
        others.append(_cosine(shared, here, embed))
    return FieldAgreement(
        field=field,
        headline=measure(statistic, chance=chance),
        others=tuple(one for one in others if one.value is not None),
        items=len(ratings),
        shared=len(items),
        annotators=tuple(_annotator(number, name, ratings, evidence) for number, name in enumerate(here)),
        groups=tuple(_group(by, value, items, of, evidence) for by, of in groups.items() for value in _values(by, of)),
        confusion=_confusion(field, evidence),
        disagreement={items[number]: far for number, far in evidence.disagreement().items()},
    )


def _values(field: Field, chosen: Mapping[str, str]) -> list[str]:
    assert isinstance(field, OptionsField)
    return [option for option in field.options if option in set(chosen.values())]


def _annotator(number: int, name: str, ratings: dict[str, Rating], evidence: Evidence) -> AnnotatorAgreement:
    alike, units = evidence.with_others(number)
    left = measure(evidence.without(number).headline(), interval=False)
    return AnnotatorAgreement(name, sum(name in rating for rating in ratings.values()), alike, units, left.value)


def _group(
    by: Field, value: str, items: Sequence[str], chosen: Mapping[str, str], evidence: Evidence
) -> GroupAgreement:
    mask = numpy.array([chosen.get(item) == value for item in items], dtype=bool)
    return GroupAgreement(by, value, int(mask.sum()), measure(evidence.only(mask).headline()))


def _confusion(field: Field, evidence: Evidence) -> Confusion | None:
    if field.kind not in (Kind.CHOICE, Kind.SCALE, Kind.TURN_CHOICE) or not isinstance(evidence, Counted):
        return None
    counts = evidence.confusion().astype(int)
    return Confusion(tuple(map(str, evidence.values)), tuple(map(tuple, counts.tolist()))) if counts.any() else None


def _cosine(ratings: Sequence[Rating], annotators: tuple[str, ...], embed: Embed) -> Figure:
    texts = sorted({str(text) for rating in ratings for text in rating.values()})
    vectors = dict(zip(texts, embed(texts), strict=True))
    name = f"cosine of sentence embeddings ({getattr(embed, 'name', 'given')})"
    evidence = compared(ratings, annotators, lambda one, other: float(vectors[one] @ vectors[other]), name)
    return measure(evidence.headline(), chance=evidence.chance)


def _choice(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Counted:
    assert isinstance(field, OptionsField)
    return counted([{name: (value,) for name, value in r.items()} for r in ratings], annotators, field.options)  # type: ignore[misc]


def _scale(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Counted:
    assert isinstance(field, ScaleField)
    levels = tuple(range(field.low, field.high + 1))
    return counted([{name: (value,) for name, value in r.items()} for r in ratings], annotators, levels, ordinal=True)  # type: ignore[misc]


def _each_option(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Counted:
    assert isinstance(field, OptionsField)
    options = field.options
    units: list[Any] = [{n: tuple(o in chosen for o in options) for n, chosen in r.items()} for r in ratings]  # type: ignore[operator]
    return counted(units, annotators, (False, True), each="option")


def _each_turn(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Counted:
    assert isinstance(field, OptionsField)
    return counted(ratings, annotators, field.options, each="turn")


def _words(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Compared:
    return compared(ratings, annotators, word_f1, "shared words, F1")


def _seconds(field: Field, ratings: Sequence[Rating], annotators: tuple[str, ...]) -> Compared:
    return compared(ratings, annotators, span_f1, "overlap in time, F1")


MEASURES: dict[Kind, Callable[[Field, Sequence[Rating], tuple[str, ...]], Evidence]] = {
    Kind.TEXT: _words,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _each_option,
    Kind.SCALE: _scale,
    Kind.TURN_CHOICE: _each_turn,
    Kind.SPANS: _seconds,
}
