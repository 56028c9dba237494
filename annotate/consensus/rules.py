"""One set of notes an item, out of what several annotators said; each value says how it was reached.

Choices by majority (a tie is left open), or weighted by how reliable each annotator is; scales by the median (of two
middle ones the lower, where they are neighbours); time segments by what a majority marked, or what the only annotator
did, texts by the one that shares most words with the others, an expert's own before a model's draft that was left as
it was. An adjudicator's word wins. The result depends on the set of annotations only, never on their order.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from annotate.agreement.ratings import Rating, gather
from annotate.agreement.similarity import word_f1
from annotate.consensus.reliability import RELIABLE, Weighed, weigh
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Notes
from pride_mm.schema import Field, Kind, OptionsField, Role, ScaleField, Schema, Span, Value

Reached = tuple[Value | None, str]
By = Literal["majority", "reliability"]
LEFT_OPEN = "left open"
ACCEPTED = "a model's draft as it was"


@dataclass(frozen=True)
class Open:
    """A field of an item that the annotators did not settle, or not wholly."""

    item: str
    field: Field
    why: str


def consensus(
    schema: Schema,
    annotations: Iterable[Annotation],
    by: By = "majority",
    adjudicators: Sequence[str] = (),
    least: float = 0.5,
) -> list[Notes]:
    """The notes of each annotated item, in the order of their ids.

    Args:
        schema: the fields.
        annotations: in any order; a model's are left out.
        by: ``majority``, or ``reliability``: choices by the model of Dawid and Skene, which learns from all items how
            often each annotator takes which option for which (three annotators or more; fewer are counted).
        adjudicators: annotators whose word wins, the first named before the others.
        least: a value that a smaller share of the annotators (or a smaller probability) speaks for is left open.

    Raises:
        UserError: an adjudicator who annotated nothing, or a share that is none.
    """
    given = list(annotations)
    _check(given, by, adjudicators, least)
    accepted = {(n, a.item, a.annotator): a.drafts[n].model for a in given for n in a.values if a.accepted(n)}
    notes: dict[str, dict[str, dict[str, Any]]] = {}
    for name, ratings in gather(schema, given).items():
        field = schema.by_name[name]
        weighed = weigh(field, ratings, adjudicators) if by == "reliability" and field.kind in RELIABLE else {}
        for item, rating in ratings.items():
            drafts = {annotator for annotator in rating if (name, item, annotator) in accepted}
            value, how = _settle(field, rating, adjudicators, least, drafts, weighed.get(item))
            record = notes.setdefault(item, {"privileged": {}, "targets": {}, "how": {}, "drafts": {}})
            record["how"][name] = how
            if value is not None:
                record["privileged" if field.role is Role.PRIVILEGED else "targets"][name] = value
                judge = next((annotator for annotator in adjudicators if annotator in rating), None)
                said = rating if judge is None else {judge: rating[judge]}
                if drafts & said.keys() and not _by_someone(field, value, said, least, drafts):
                    record["drafts"][name] = accepted[name, item, min(drafts & said.keys())]
    return [Notes(item=item).model_copy(update=notes[item]) for item in sorted(notes)]


def _check(annotations: Sequence[Annotation], by: str, adjudicators: Sequence[str], least: float) -> None:
    if by not in get_args(By):
        raise UserError(f"'{by}' is no way to a consensus; take one of: {', '.join(get_args(By))}.")
    if not 0 <= least <= 1:
        raise UserError(f"The least share is {least}; it must be from 0 to 1.")
    known = sorted({a.annotator for a in annotations})
    for name in adjudicators:
        if name not in known:
            raise UserError(f"The adjudicator '{name}' annotated nothing here; the annotators are: {', '.join(known)}.")


def left_open(schema: Schema, notes: Iterable[Notes]) -> list[Open]:
    """What the notes leave open, for one more annotator to settle: by item, in the order of the fields."""
    return [
        Open(note.item, field, note.how[field.name])
        for note in notes
        for field in schema.field
        if field.name in note.how
        and (LEFT_OPEN in note.how[field.name] or field.name not in {**note.privileged, **note.targets})
    ]


def _settle(
    field: Field,
    rating: Rating,
    adjudicators: Sequence[str],
    least: float,
    drafts: set[str],
    weighed: Sequence[Weighed] | None,
) -> Reached:
    """The consensus on one field of one item, and how it was reached."""
    judge = next((name for name in adjudicators if name in rating), None)
    if judge is not None:
        others = {name: value for name, value in rating.items() if name not in adjudicators}
        return _adjudicated(field, judge, rating[judge], others, least, drafts)
    if field.kind is Kind.TEXT and drafts < rating.keys():
        rating = {name: text for name, text in rating.items() if name not in drafts}
    if len(rating) > 1 and weighed is not None:
        value, how = _by_reliability(field, weighed, least)
    else:
        value, how = reach(field, rating, least)
    return value, how + _unchanged(drafts, rating.keys())


def _adjudicated(field: Field, judge: str, value: Value, others: Rating, least: float, drafts: set[str]) -> Reached:
    """The adjudicator's word; of turns that the adjudicator passed over, what the others reached."""
    how = f"adjudicated: {judge}{_unchanged(drafts, {judge})}"
    passed = isinstance(value, tuple) and field.kind is Kind.TURN_CHOICE and None in value
    if not passed or not others:
        return value, how
    rest, reached = reach(field, others, least)
    if not isinstance(rest, tuple) or len(rest) != len(value):  # type: ignore[arg-type]
        return value, how
    merged: Any = tuple(own or other for own, other in zip(value, rest, strict=True))  # type: ignore[arg-type]
    own = sum(one is not None for one in value)  # type: ignore[union-attr]
    settled = reached.partition(";")[0] if None not in merged else reached
    return merged, f"adjudicated: {judge}, {own} of {len(merged)} turns; the rest {settled}"


def _by_someone(field: Field, value: Value, rating: Rating, least: float, drafts: set[str]) -> bool:
    """True where people came to the value on their own: one of them, or those together who left no draft as it was."""
    own = {annotator: said for annotator, said in rating.items() if annotator not in drafts}
    return bool(own) and (value in own.values() or reach(field, own, least)[0] == value)


def _unchanged(drafts: set[str], annotators: Iterable[str]) -> str:
    names = set(annotators)
    left = len(drafts & names)
    return f"; {'' if len(names) == 1 else f'{left} of {len(names)} '}left {ACCEPTED}" if left else ""


def reach(field: Field, rating: Rating, least: float = 0.5) -> Reached:
    """The consensus of what annotators said of one field, and how; None where there is none."""
    if len(rating) == 1:
        annotator, value = next(iter(rating.items()))
        return value, f"single: {annotator}"
    return RULES[field.kind](field, rating, least)


def _majority(values: list[Any], least: float) -> Reached:
    counts = Counter(values).most_common()
    share = f"{counts[0][1]}/{len(values)}"
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return None, f"tie {share}"
    if counts[0][1] < least * len(values):
        return None, f"too few agree: {share}"
    return counts[0][0], f"majority {share}"


def _choice(field: Field, rating: Rating, least: float) -> Reached:
    return _majority(list(rating.values()), least)


def _scale(field: Field, rating: Rating, least: float) -> Reached:
    assert isinstance(field, ScaleField)
    values: list[Any] = sorted(rating.values())  # type: ignore[type-var]
    lower, upper = values[(len(values) - 1) // 2], values[len(values) // 2]
    near = max(1, (field.high - field.low) // 10)
    if upper - lower > near:
        return None, f"the two middle ones of {len(values)} are far apart"
    close = sum(abs(value - lower) <= near for value in values)
    if close < least * len(values):
        return None, f"too few near the median: {close}/{len(values)}"
    return lower, f"median of {len(values)}"


def _choices(field: Field, rating: Rating, least: float) -> Reached:
    assert isinstance(field, OptionsField)
    chosen = [set(value) for value in rating.values()]  # type: ignore[arg-type]
    shares = {option: sum(option in one for one in chosen) / len(chosen) for option in field.options}
    kept = tuple(option for option, share in shares.items() if share > 0.5 and share >= least)
    unsettled = sum(share == 0.5 or max(share, 1 - share) < least for share in shares.values())
    rest = f"; {unsettled} of {len(shares)} options {LEFT_OPEN}" if unsettled else ""
    return kept or None, f"majority of {len(chosen)}, each option{rest}"


def _turns(field: Field, rating: Rating, least: float) -> Reached:
    lists: list[Any] = list(rating.values())
    if len({len(options) for options in lists}) > 1:
        return None, "annotations have different numbers of turns"
    reached: list[Any] = []
    unsettled = 0
    for options in zip(*lists, strict=True):
        said = [option for option in options if option is not None]
        reached.append(_majority(said, least)[0] if said else None)
        unsettled += bool(said) and reached[-1] is None
    rest = f"; {unsettled} of {len(reached)} turns {LEFT_OPEN}" if unsettled else ""
    return (tuple(reached) if any(reached) else None), f"majority of {len(lists)}, each turn{rest}"


def _by_reliability(field: Field, weighed: Sequence[Weighed], least: float) -> Reached:
    """The options whose probability is high enough, one a unit: the item, each turn, or each option."""
    clear = [unit.value if not unit.tied and unit.probability >= least else None for unit in weighed]
    unsettled = sum(value is None and unit.said for value, unit in zip(clear, weighed, strict=True))
    lowest = min((unit.probability for unit in weighed if unit.said), default=0.0)
    how = f"by reliability, probability {lowest:.2f}"
    if field.kind is Kind.CHOICE:
        return (clear[0], how) if clear[0] is not None else (None, f"{how}, {LEFT_OPEN}")
    what = "turns" if field.kind is Kind.TURN_CHOICE else "options"
    how += " or more" + (f"; {unsettled} of {len(clear)} {what} {LEFT_OPEN}" if unsettled else "")
    if field.kind is Kind.TURN_CHOICE:
        return (tuple(clear) if any(clear) else None), how
    assert isinstance(field, OptionsField)
    return tuple(o for o, value in zip(field.options, clear, strict=True) if value is True) or None, how


def _spans(field: Field, rating: Rating, least: float) -> Reached:
    assert isinstance(field, OptionsField)
    marks: list[tuple[Span, ...]] = list(rating.values())  # type: ignore[arg-type]
    needed = max(len(marks) // 2 + 1, math.ceil(least * len(marks) - 1e-9))
    kept = [
        Span(start=start, end=end, label=label)
        for label in field.options
        for start, end in _marked_by([[s for s in one if s.label == label] for one in marks], needed)
    ]
    reason = f"marked by {needed} of {len(marks)} or more"
    return (tuple(sorted(kept, key=lambda s: (s.start, s.end, s.label))) or None), reason


def _marked_by(marks: list[list[Span]], needed: int) -> list[tuple[float, float]]:
    """The stretches of time that at least ``needed`` annotators marked."""
    times = sorted({time for spans in marks for span in spans for time in (span.start, span.end)})
    merged: list[tuple[float, float]] = []
    for start, end in itertools.pairwise(times):
        middle = (start + end) / 2
        if sum(any(s.start <= middle <= s.end for s in spans) for spans in marks) < needed:
            continue
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _text(field: Field, rating: Rating, least: float) -> Reached:
    texts: list[tuple[str, str]] = sorted((annotator, str(text)) for annotator, text in rating.items())

    def central(entry: tuple[str, str]) -> float:
        return math.fsum(word_f1(entry[1], other) for name, other in texts if name != entry[0])

    # Of two texts neither is more central: the longer one says more; names settle what is left.
    annotator, text = max(texts, key=lambda entry: (central(entry), len(entry[1]), entry[0]))
    return text, f"most central of {len(texts)}: {annotator}"


RULES: dict[Kind, Callable[[Field, Rating, float], Reached]] = {
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choices,
    Kind.SCALE: _scale,
    Kind.TURN_CHOICE: _turns,
    Kind.SPANS: _spans,
}
