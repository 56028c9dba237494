"""Drafts by a model as predictions in Label Studio, where experts find their page filled in with them.

Each prediction carries the version of the model, of the questions and of the fields asked for. A task is drafted
once a version: a second run adds nothing, and a run that was cut off goes on. What an expert makes of a draft is
told by ``provenance``. The drafting itself is ``pride_mm.teacher.drafting``.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annotate.exchange.project import Project
from annotate.exchange.tasks import Listed
from annotate.page.results import Context, Result, to_results
from annotate.people import person_of
from pride_mm.errors import SampleError
from pride_mm.progress import Progress, silent
from pride_mm.records import Item
from pride_mm.schema import Field, Value
from pride_mm.teacher.drafting import Drafter, DraftPrompt


@dataclass(frozen=True)
class Written:
    """How many tasks a run drafted, in how many fields, and how many it left alone.

    ``before``: drafted by the same version before; ``annotated``: by an expert, for whom a draft comes too late;
    ``empty``: the model had nothing to say.
    """

    tasks: int = 0
    fields: int = 0
    before: int = 0
    annotated: int = 0
    empty: int = 0


def version_of(model: str, prompt: DraftPrompt, fields: Sequence[Field]) -> str:
    """What predictions are marked with: the model's name without its folder, and a digest of what it was asked."""
    digest = hashlib.sha256("\n".join([prompt.sha256, *(f.model_dump_json() for f in fields)]).encode())
    return f"{model.rstrip('/').rpartition('/')[2] or model}@{digest.hexdigest()[:8]}"


def draft_results(values: Mapping[str, Value], context: Context, place: str) -> list[Result]:
    """Drafted values as a prediction's result; raises SampleError."""
    results = to_results(values, context, place)
    for part in results:
        del part["origin"]  # the page says where it came from
    return results


def write_drafts(
    project: Project,
    items: Iterable[Item],
    drafter: Drafter,
    fields: Sequence[Field],
    version: str,
    progress: Progress = silent,
) -> Written:
    """Draft the tasks of some items, each sent as soon as it is written: stopped, it loses no more than one.

    Args:
        project: where the items have been pushed.
        items: what to draft.
        drafter: its ``bad`` counts items without a task, and what could not be drafted.
        fields: which fields, in the order of the steps.
        version: the predictions' mark; see ``version_of``.
        progress: called after each item.

    Raises:
        UserError: the server or the model doesn't answer.
    """
    there = _tasks(project, version)
    plan: list[tuple[Item, _Task]] = []
    before = annotated = 0
    for item in items:
        task = there.get(item.id)
        if task is None:
            drafter.bad.add(SampleError(item.id, None, f"no task in '{project.title}'; run 'pride label push' first"))
        elif task.drafted:
            before += 1
        elif task.annotated:
            annotated += 1
        else:
            plan.append((item, task))
    tasks = written = empty = 0
    shown: set[int] = set()
    for done, (item, task) in enumerate(plan):
        progress(done, len(plan), "items")
        drafted = drafter.draft(item, fields)
        if not drafted.values:
            empty += 1
            continue
        with drafter.bad.counting():
            result = draft_results(drafted.values, task.context, f"item {item.id}")
            add_draft(project, task.number, result, drafted.score, version)
            tasks, written = tasks + 1, written + len(drafted.values)
        if task.project not in shown:
            show_drafts(project, task.project, version)
            shown.add(task.project)
    progress(len(plan), len(plan), "items")
    return Written(tasks, written, before, annotated, empty)


@dataclass(frozen=True)
class _Task:
    """What is kept of a listed task; ``drafted`` is by this version."""

    item: str
    number: int
    project: int
    context: Context
    drafted: bool
    annotated: bool


def _tasks(project: Project, version: str) -> dict[str, _Task]:
    """The project's tasks by item. An annotation counts as an expert's unless a corpus or a model made it."""
    users = project.studio.call("listing the annotators", project.studio.client.users.list)
    others = {user.id for user in users if person_of(user, b"").origin != "expert"}

    def kept(task: Listed) -> _Task:
        drafted = any(one.get("model_version") == version for one in task.predictions)
        annotated = any(a.get("completed_by") not in others for a in task.annotations if not a.get("was_cancelled"))
        return _Task(task.item, task.number, task.project, task.context, drafted, annotated)

    return {task.item: kept(task) for task in project.tasks()}


def add_draft(project: Project, task: int, result: list[Result], score: float | None, version: str) -> None:
    """Add one prediction to a task."""
    # Not in bulk: there the server leaves out, without a word, what has a control for each turn.
    given = {} if score is None else {"score": score}
    project.studio.call(
        "adding a draft", project.studio.client.predictions.create,
        task=task, result=result, model_version=version, **given,
    )  # fmt: skip


def show_drafts(project: Project, number: int, version: str) -> None:
    """Have the pages of one part of a project filled in with the drafts of ``version``, and of no other."""
    project.studio.call(
        "choosing the drafts to show", project.studio.client.projects.update,
        id=number, model_version=version, show_collab_predictions=True,
    )  # fmt: skip
