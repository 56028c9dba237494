"""Drafts by a model as predictions in Label Studio, where experts find their page filled in with them.

Each prediction carries the version of the model, of the questions and of the fields asked for. A task is drafted
once a version: a second run adds nothing, and a run that was cut off goes on. What an expert makes of a draft is
told by ``provenance``. The drafting itself is ``pride_mm.teacher.drafting``.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotate.people import person_of
from annotate.project import Project
from annotate.results import Context, Result, to_results
from annotate.tasks import Listed
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Item
from pride_mm.schema import Field, Value
from pride_mm.teacher.drafting import Drafter, DraftPrompt

_BULK = 50
_SECONDS = 30.0  # so that little is lost when the machine is


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
    """Draft the tasks of some items. Interrupted, it leaves on the server what is drafted so far.

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
    upload = _Upload(project, version, drafter.bad)
    written = empty = 0
    try:
        for done, (item, task) in enumerate(plan):
            progress(done, len(plan), "items")
            drafted = drafter.draft(item, fields)
            if drafted.values:
                upload.add(task, drafted.values, drafted.score)
            written += len(drafted.values)
            empty += not drafted.values
        progress(len(plan), len(plan), "items")
    finally:  # Ctrl-C, too many bad ones, a model that went away: what is drafted is kept
        upload.flush()
    return Written(upload.written, written, before, annotated, empty)


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


@dataclass
class _Upload:
    """Predictions on their way, in bulks."""

    project: Project
    version: str
    bad: BadSamples
    written: int = 0
    waiting: list[tuple[_Task, dict[str, Any]]] = field(default_factory=list)
    since: float = 0.0

    def add(self, task: _Task, values: Mapping[str, Value], score: float | None) -> None:
        """Send a draft with the next bulk."""
        with self.bad.counting():
            result = draft_results(values, task.context, f"item {task.item}")
            body = {"task": task.number, "result": result, "model_version": self.version}
            self.since = self.since if self.waiting else time.monotonic()
            self.waiting.append((task, body if score is None else {**body, "score": score}))
        if len(self.waiting) >= _BULK or (self.waiting and time.monotonic() - self.since > _SECONDS):
            self.flush()

    def flush(self) -> None:
        """Send what waits; raises UserError where the server does not answer."""
        waiting, self.waiting = self.waiting, []
        for number in sorted({task.project for task, _ in waiting}):
            mine = [(task, body) for task, body in waiting if task.project == number]
            client = self.project.studio.client
            answer = self.project.studio.call(
                "adding drafts", client.projects.import_predictions, id=number, request=[body for _, body in mine]
            )
            self.written += answer.created or 0
            if answer.created != len(mine):
                raise UserError(
                    f"Label Studio took {answer.created} of {len(mine)} drafts; run the same command again."
                )
            show_drafts(self.project, number, self.version)


def show_drafts(project: Project, number: int, version: str) -> None:
    """Have the pages of one part of a project filled in with the drafts of ``version``, and of no other."""
    project.studio.call(
        "choosing the drafts to show", project.studio.client.projects.update,
        id=number, model_version=version, show_collab_predictions=True,
    )  # fmt: skip
