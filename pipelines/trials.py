"""An ablation's teachers and trials, handed to processes here or on a Ray cluster, and what came of them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pipelines.workers import Bounds, Lost, Workers
from pride_mm.errors import UserError
from pride_mm.evaluation.ablation.findings import Findings, collect
from pride_mm.evaluation.ablation.teachers import give_lecture, link_view
from pride_mm.evaluation.ablation.trials import Design, run_trial
from pride_mm.progress import Progress, silent
from pride_mm.training.plan import make_plan

Task = TypeVar("Task")
BOUNDS = Bounds(seconds=20 * 24 * 3600.0, memory=1 << 42)
"""A training takes what it takes; a poll waits no longer than 24 days."""


def run_ablation(
    design: Design, workers: Workers, threads: int = 1, max_bad: int = 0, progress: Progress = silent
) -> Findings:
    """Teach every teacher, train and examine every trial, and compare the arms. What is done already isn't done again.

    Args:
        design: what is tried.
        workers: who does it.
        threads: of each of them.
        max_bad: broken samples that each trial may meet.
        progress: told of each teacher and trial that is done.

    Raises:
        UserError: as ``pride teach``, ``pride train`` and ``pride eval``; or a process that died, by its trial's name.
    """
    lectures = design.lectures(threads, max_bad)
    for lecture in lectures:
        link_view(design.shards, lecture.view)
    for number, _ in enumerate(_done(workers, give_lecture, lectures), 1):
        progress(number, len(lectures), "teachers")
    epochs = {arm.name: design.epochs(arm, make_plan) for arm in design.arms}
    trials = [trial for arm in design.arms for trial in design.trials(arm, epochs[arm.name], threads, max_bad)]
    for number, name in enumerate(_done(workers, run_trial, trials), 1):
        progress(number, len(trials), f"trials, {name} done")
    return collect(design, trials, progress)


def _done(workers: Workers, function: Callable[[Task], Any], tasks: Iterable[Task]) -> Iterator[Any]:
    for result in workers.run(function, tasks):
        if isinstance(result, Lost):
            name = getattr(result.task, "name", "a task")
            raise UserError(f"{name}: its process ended ({result.reason}). Run the same command to go on.")
        yield result
