"""One set of notes an item, out of what several annotators said; each value says how it was reached.

Choices by majority (a tie is no consensus and is left out), scales by the median (the lower of two middle
ones), time segments by what a majority marked, or what the only annotator did, texts by the one that shares
most words with the others. The result depends on the set of annotations only, never on their order.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from annotate.agreement import Rating, gather, word_f1
from pride_mm.records import Annotation, Notes
from pride_mm.schema import Field, Kind, OptionsField, Role, Schema, Span, Value

Reached = tuple[Value | None, str]


def consensus(schema: Schema, annotations: Iterable[Annotation]) -> list[Notes]:
    """The notes of each annotated item, in the order of their ids."""
    privileged: dict[str, dict[str, Value]] = {}
    targets: dict[str, dict[str, Value]] = {}
    how: dict[str, dict[str, str]] = {}
    for name, ratings in gather(schema, annotations).items():
        field = schema.by_name[name]
        for item, rating in ratings.items():
            value, reason = reach(field, rating)
            how.setdefault(item, {})[name] = reason
            if value is not None:
                kept = privileged if field.role is Role.PRIVILEGED else targets
                kept.setdefault(item, {})[name] = value
    return [
        Notes(item=item, how=how[item]).model_copy(
            update={"privileged": privileged.get(item, {}), "targets": targets.get(item, {})}
        )
        for item in sorted(how)
    ]


def reach(field: Field, rating: Rating) -> Reached:
    """The consensus of what annotators said of one field, and how; None where there is none."""
    if len(rating) == 1:
        annotator, value = next(iter(rating.items()))
        return value, f"single: {annotator}"
    return RULES[field.kind](field, rating)


def _majority(values: list[Any]) -> Reached:
    counts = Counter(values).most_common()
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return None, f"tie {counts[0][1]}/{len(values)}"
    return counts[0][0], f"majority {counts[0][1]}/{len(values)}"


def _choice(field: Field, rating: Rating) -> Reached:
    return _majority(list(rating.values()))


def _scale(field: Field, rating: Rating) -> Reached:
    values: list[Any] = sorted(rating.values())  # type: ignore[type-var]
    return values[(len(values) - 1) // 2], f"median of {len(values)}"


def _choices(field: Field, rating: Rating) -> Reached:
    assert isinstance(field, OptionsField)
    chosen = [set(value) for value in rating.values()]  # type: ignore[arg-type]
    kept = tuple(o for o in field.options if 2 * sum(o in one for one in chosen) > len(chosen))
    reason = f"majority of {len(chosen)}, each option"
    return (kept, reason) if kept else (None, f"tie, {reason}")


def _turns(field: Field, rating: Rating) -> Reached:
    lists: list[Any] = list(rating.values())
    if len({len(options) for options in lists}) > 1:
        return None, "annotations have different numbers of turns"
    reached: list[str | None] = []
    tied = 0
    for options in zip(*lists, strict=True):
        said = [option for option in options if option is not None]
        value = _majority(said)[0] if said else None
        tied += bool(said) and value is None
        reached.append(value if isinstance(value, str) else None)
    reason = f"majority of {len(lists)}, each turn" + (f"; {tied} of {len(reached)} turns tied" if tied else "")
    return (tuple(reached) if any(reached) else None), reason


def _spans(field: Field, rating: Rating) -> Reached:
    assert isinstance(field, OptionsField)
    marks: list[tuple[Span, ...]] = list(rating.values())  # type: ignore[arg-type]
    needed = len(marks) // 2 + 1
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


def _text(field: Field, rating: Rating) -> Reached:
    texts: list[tuple[str, str]] = sorted((annotator, str(text)) for annotator, text in rating.items())

    def central(entry: tuple[str, str]) -> float:
        return math.fsum(word_f1(entry[1], other) for name, other in texts if name != entry[0])

    # Of two texts neither is more central: the longer one says more; names settle what is left.
    annotator, text = max(texts, key=lambda entry: (central(entry), len(entry[1]), entry[0]))
    return text, f"most central of {len(texts)}: {annotator}"


RULES: dict[Kind, Callable[[Field, Rating], Reached]] = {
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choices,
    Kind.SCALE: _scale,
    Kind.TURN_CHOICE: _turns,
    Kind.SPANS: _spans,
}
