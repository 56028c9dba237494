"""What is probably right, given how reliable each annotator is: the model of Dawid and Skene (1979), by crowd-kit.

From all items at once it learns how often each annotator takes which option for which, and weighs their words by
that. Adjudicated items count as known. It needs three annotators or more: of two who disagree it can't be told who is
right. On a few dozen items its probabilities are too sure of themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.agreement.ratings import Rating
from pride_mm.schema import Field, Kind, OptionsField

RELIABLE = (Kind.CHOICE, Kind.TURN_CHOICE, Kind.CHOICES)
"""The kinds it is for; a scale has its median."""

_FEWEST = 3


@dataclass(frozen=True)
class Weighed:
    """What a unit (the item, a turn of it, an option of it) probably is; ``said`` is False where nobody said anything.

    ``tied`` says that another value is as probable.
    """

    value: Any
    probability: float
    tied: bool = False
    said: bool = True


def weigh(
    field: Field, ratings: Mapping[str, Rating], adjudicators: Sequence[str] = ()
) -> dict[str, tuple[Weighed, ...]]:
    """The units of each item weighed; empty with fewer than three annotators, items with unequal turns left out."""
    units = {item: _units(field, rating) for item, rating in ratings.items()}
    units = {item: of for item, of in units.items() if of is not None}
    rows, known = [], {}
    for item, said in units.items():
        for number, unit in enumerate(said or []):
            rows += [((item, number), name, value) for name, value in unit.items() if name not in adjudicators]
            judged = [unit[name] for name in adjudicators if name in unit]
            if judged:
                known[item, number] = judged[0]
    if len({annotator for _, annotator, _ in rows}) < _FEWEST:
        return {}
    likely = _dawid_skene(rows, known)
    return {
        item: tuple(likely.get((item, number), Weighed(None, 0.0, said=False)) for number in range(len(said or [])))
        for item, said in units.items()
    }


def _units(field: Field, rating: Rating) -> list[dict[str, Any]] | None:
    """For each unit of an item: annotator -> what was said of it; None where the annotators saw different units."""
    given: dict[str, Any] = dict(rating)
    if field.kind is Kind.CHOICE:
        return [given]
    if field.kind is Kind.CHOICES:
        assert isinstance(field, OptionsField)
        return [{name: option in chosen for name, chosen in given.items()} for option in field.options]
    if len({len(options) for options in given.values()}) > 1:
        return None
    turns = zip(*given.values(), strict=True)
    return [{name: o for name, o in zip(given, turn, strict=True) if o is not None} for turn in turns]


Unit = tuple[str, int]


def _dawid_skene(rows: Sequence[tuple[Unit, str, Any]], known: Mapping[Unit, Any]) -> dict[Unit, Weighed]:
    import pandas
    from crowdkit.aggregation.classification.dawid_skene import DawidSkene

    # codes, since true and false are no good names of columns there
    values = sorted({value for _, _, value in rows} | set(known.values()), key=str)
    tasks = list(dict.fromkeys(unit for unit, _, _ in rows))
    number = {unit: n for n, unit in enumerate(tasks)}
    code = {value: n for n, value in enumerate(values)}
    data = pandas.DataFrame(
        [(number[unit], annotator, code[value]) for unit, annotator, value in rows],
        columns=["task", "worker", "label"],
    )
    sure = {number[unit]: code[value] for unit, value in known.items() if unit in number}
    sure = {task: label for task, label in sure.items() if label in set(data.label)}
    true_labels = pandas.Series(sure, dtype="int64") if sure else None
    likely = DawidSkene(n_iter=200, tol=1e-7).fit_predict_proba(data, true_labels=true_labels)
    columns = list(likely.columns)
    found: dict[Unit, Weighed] = {}
    for task, shares in zip(likely.index, likely.to_numpy(), strict=True):
        ranked = sorted(range(len(columns)), key=lambda n: (-shares[n], columns[n]))
        tied = len(ranked) > 1 and shares[ranked[0]] - shares[ranked[1]] < 1e-6
        found[tasks[int(task)]] = Weighed(values[int(columns[ranked[0]])], float(shares[ranked[0]]), tied)
    return found
