"""Which task next: first what experts disagree on, what they changed in a draft, or what the model was unsure of.

Label Studio's own "Uncertainty sampling" draws at random as soon as a second person annotates, and offers what
somebody has begun before anything else. So the order stands in a column of the tasks, and the tabs of the Data
Manager are sorted by it: "Label Tasks As Displayed", or the link to a tab with ``labeling=1``, then offers the tasks
in that order, to each expert those that are still open for him. "Label All Tasks" does not heed it.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.agreement import MEASURES
from annotate.agreement.ratings import by_people, gather
from annotate.exchange.listing import item_of, read_tasks
from annotate.exchange.project import Project
from annotate.page.provenance import Prediction, change, predictions_of
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation
from pride_mm.schema import Kind, Schema

ORDER = "Order"  # the column; begins with a capital, which no field's name does
TAB = "Uncertain first"
BY_ORDER = f"-tasks:data.{ORDER}"  # the Data Manager's way to say: by this column, the largest first
AS_GIVEN = "tasks:id"  # an order once set cannot be taken away, only changed
_NOTHING_KNOWN = 0.5
_DIGITS = 3  # of a number from 0 to 1, so that the server may sort it as text, too


@dataclass(frozen=True)
class Evidence:
    """What is known of an item's task: the score of its draft, and what its drafts are."""

    score: float | None = None
    drafts: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class Ordered:
    """How many tasks have a place, how many got another one, and how many have theirs by what was known of them.

    ``disagreement`` is that of the experts, ``changed`` what one of them did to a draft, ``doubt`` the model's own.
    """

    tasks: int = 0
    written: int = 0
    disagreement: int = 0
    changed: int = 0
    doubt: int = 0


def disagreement(schema: Schema, annotations: Iterable[Annotation]) -> dict[str, float]:
    """How far annotators disagree on each item that two or more annotated, 0 to 1: the mean over its fields.

    Texts are left out, since two good ones share few words, and so are drafts that were left as they were.
    """
    far: dict[str, list[float]] = {}
    for name, ratings in gather(schema, annotations, accepted=False).items():
        field = schema.by_name[name]
        items = [item for item, rating in ratings.items() if len(rating) > 1]
        if field.kind is Kind.TEXT or not items:
            continue
        annotators = tuple(sorted({annotator for item in items for annotator in ratings[item]}))
        found = MEASURES[field.kind](field, [ratings[item] for item in items], annotators).disagreement()
        for number, one in found.items():
            far.setdefault(items[number], []).append(one)
    return {item: sum(all_) / len(all_) for item, all_ in far.items()}


def changed(schema: Schema, annotations: Iterable[Annotation], known: Mapping[str, Evidence]) -> dict[str, float]:
    """How far people are from the model's last draft on each item, 0 to 1: the mean over fields, without texts."""
    far: dict[str, list[float]] = {}
    for annotation in by_people(annotations):
        for draft in known.get(annotation.item, Evidence()).drafts[-1:]:
            for name, value in annotation.values.items():
                if name in draft.values and schema.by_name[name].kind is not Kind.TEXT:
                    far.setdefault(annotation.item, []).append(change(schema.by_name[name], value, draft.values[name]))
    return {item: sum(all_) / len(all_) for item, all_ in far.items()}


def doubt(known: Mapping[str, Evidence]) -> dict[str, float]:
    """How unsure the model was of each draft, 0 to 1: the share of the drafts that it was surer of."""
    scores = sorted(one.score for one in known.values() if one.score is not None)
    return {
        item: (len(scores) - bisect.bisect_right(scores, one.score)) / max(1, len(scores) - 1)
        for item, one in known.items()
        if one.score is not None
    }


def put_in_order(project: Project, annotations: Sequence[Annotation], progress: Progress = silent) -> Ordered:
    """Write each task's place into its column, and sort the tabs by it.

    What is known best decides: how far experts disagree; of one expert, how much of the draft was changed; else how
    unsure the model was of its draft. A task of which nothing is known stands in the middle.

    Args:
        project: whose tasks are put in order.
        annotations: of these items, from this project or others.
        progress: called after each task that is written.
    """
    known = {
        task.item: Evidence(_score(task.predictions), predictions_of(task.predictions, task.context))
        for task in project.tasks()
    }
    by = (disagreement(project.schema, annotations), changed(project.schema, annotations, known), doubt(known))
    counts = [0, 0, 0]
    tasks = written = 0
    studio = project.studio
    for number in project.numbers:
        for raw in read_tasks(studio, number, ("id", "data")):
            item = item_of(raw)
            if item is None:
                continue
            best = next((n for n, values in enumerate(by) if item in values), None)
            place = round(_NOTHING_KNOWN if best is None else by[best][item], _DIGITS)
            if best is not None:
                counts[best] += 1
            tasks += 1
            if raw["data"].get(ORDER) != place:
                data = {**raw["data"], ORDER: place}
                studio.call("putting tasks in order", studio.client.tasks.update, id=str(raw["id"]), data=data)
                written += 1
            progress(tasks, len(known), "tasks")
        sort_tabs(project, number, BY_ORDER)
    return Ordered(tasks, written, *counts)


def sort_tabs(project: Project, number: int, by: str) -> None:
    """Sort every tab of a part by ``BY_ORDER`` or ``AS_GIVEN``; where there is none, one is made."""
    studio = project.studio
    there: list[Any] = studio.call("listing tabs", studio.client.views.list, project=number)
    for view in there:
        raw = view.data.dict() if hasattr(view.data, "dict") else dict(view.data or {})
        if (raw.get("ordering") or [AS_GIVEN]) != [by]:
            data = {name: value for name, value in raw.items() if value is not None}
            studio.call("sorting a tab", studio.client.views.update, str(view.id), data={**data, "ordering": [by]})
    if not there and by == BY_ORDER:
        data = {"title": TAB, "type": "list", "ordering": [by]}
        studio.call("adding a tab", studio.client.views.create, project=number, data=data)


def links(project: Project) -> list[str]:
    """Where an expert is offered the tasks of each sorted tab one after the other, in its order."""
    studio, found = project.studio, []
    for number in project.numbers:
        for view in studio.call("listing tabs", studio.client.views.list, project=number):
            found.append(f"{studio.url}/projects/{number}/data?tab={view.id}&labeling=1")
    return found


def _score(predictions: Iterable[Mapping[str, Any]]) -> float | None:
    """The score of the last draft that has one."""
    scored = [(one["id"], one["score"]) for one in predictions if isinstance(one.get("score"), int | float)]
    return float(max(scored)[1]) if scored else None
