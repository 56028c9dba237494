"""The tasks of the server's projects, read page by page.

A page begins after the last task of the one before it (by number, not by place), so that tasks added or deleted
meanwhile shift nothing: each task is read once. Only the named entries are asked for, which spares the
server two thirds of its work.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.page.label_config import FPS, ITEM, Page
from annotate.page.results import Context
from annotate.studio import Studio

_PAGE, _CHOSEN = 500, 200  # tasks an answer; of chosen ones fewer, since their numbers stand in the address
STATE = ("id", "updated_at", "total_annotations", "cancelled_annotations", "total_predictions")
WHOLE = (
    *STATE, "data", "annotations", "predictions",
    # of the annotations
    "result", "completed_by", "was_cancelled", "created_at", "lead_time", "parent_prediction", "ground_truth",
    "draft_created_at",
)  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """A task as the server lists it: annotations and predictions as they are there. ``project`` is a number too.

    ``state`` changes whenever the task, an annotation or a prediction of it does.
    """

    item: str
    number: int
    project: int
    context: Context
    annotations: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    state: str = ""

    @property
    def users(self) -> set[int]:
        return {given["completed_by"] for given in self.annotations if given.get("completed_by")}


def read_tasks(
    studio: Studio, project: int, entries: Sequence[str], chosen: Sequence[int] | None = None, after: int = 0
) -> Iterator[dict[str, Any]]:
    """The tasks of one of the server's projects, by number.

    Args:
        studio: the server.
        project: its number there.
        entries: of the tasks, and of their annotations, if those are among them.
        chosen: only the tasks of these numbers; one that isn't there is left out.
        after: only tasks of higher numbers.
    """
    if chosen is not None:
        for start in range(0, len(chosen), _CHOSEN):
            included = list(chosen[start : start + _CHOSEN])
            yield from _page(studio, project, entries, {"selectedItems": {"all": False, "included": included}})
        return
    while True:
        beyond = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
        query = {"filters": {"conjunction": "and", "items": [beyond]}, "ordering": ["tasks:id"]}
        tasks = _page(studio, project, entries, query)
        yield from tasks
        if len(tasks) < _PAGE:
            return
        after = int(tasks[-1]["id"])


def count_tasks(studio: Studio, project: int) -> int:
    """How many tasks one of the server's projects has."""
    answer = studio.read("counting tasks", "api/tasks/", project=project, page_size=1, include="id")
    return int(answer["total"])


def count_drafted(studio: Studio, project: int, chosen: Sequence[int] | None = None) -> int:
    """How many tasks of one of the server's projects hold a draft that somebody hasn't submitted."""
    held = {"filter": "filter:tasks:draft_exists", "operator": "equal", "type": "Boolean", "value": True}
    query: dict[str, Any] = {"filters": {"conjunction": "and", "items": [held]}}
    if chosen is not None:
        query["selectedItems"] = {"all": False, "included": list(chosen)}
    answer = studio.read(
        "counting drafts", "api/tasks/", project=project, page_size=1, include="id", query=json.dumps(query)
    )
    return int(answer["total"])


def item_of(raw: Mapping[str, Any]) -> str | None:
    """The item of a task; None for a task that a person added by hand."""
    data = raw.get("data")
    item = data.get(ITEM) if isinstance(data, dict) else None
    return item if isinstance(item, str) else None


def context_of(raw: Mapping[str, Any], page: Page) -> Context:
    """What reading a task's results needs to know of it."""
    turns = raw["data"].get(page.schema.dialogue.name)
    return Context(page, len(turns) if isinstance(turns, list) else 0, float(raw["data"].get(FPS) or 0.0))


def state_of(raw: Mapping[str, Any]) -> str:
    """Changes whenever a task, an annotation or a prediction of it does.

    The counts are there for what is deleted in bulk, which leaves the task's time alone.
    """
    return " ".join(str(raw.get(name)) for name in STATE if name != "id")


def listed(raw: dict[str, Any], page: Page, project: int) -> Listed | None:
    """A task that was read with the entries of ``WHOLE``; None for one that is no item of ours."""
    item = item_of(raw)
    if item is None:
        return None
    annotations, predictions = raw.get("annotations") or [], raw.get("predictions") or []
    return Listed(item, int(raw["id"]), project, context_of(raw, page), annotations, predictions, state_of(raw))


def _page(studio: Studio, project: int, entries: Sequence[str], query: dict[str, Any]) -> list[dict[str, Any]]:
    answer = studio.read(
        "listing tasks", "api/tasks/", project=project, page_size=_PAGE, query=json.dumps(query),
        fields="all" if "annotations" in entries else "task_only", include=",".join(entries), resolve_uri="false",
        review="true",  # spares the server the counts of its own table
    )  # fmt: skip
    tasks: list[dict[str, Any]] = answer["tasks"]
    return tasks
