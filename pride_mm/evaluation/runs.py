"""The runs of a folder beside each other: how far they are, how well, how fast, and what they differ in.

Reads what training has written, and may be asked while it trains.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pride_mm.errors import UserError
from pride_mm.evaluation.figures import COLOURS, curves
from pride_mm.evaluation.settings import read_settings
from pride_mm.page import write_page
from pride_mm.training import checkpoint
from pride_mm.training.answers import ANSWERS
from pride_mm.training.history import read_history

_TEMPLATE = Path(__file__).parent / "templates" / "runs.html.j2"
_LAST = 50
"""Steps over which speed is taken."""
_SAMPLES = 4


@dataclass(frozen=True)
class Progressed:
    """How far a run is.

    Attributes:
        steps: taken.
        finished: whether its newest checkpoint is its last one.
        loss: the best validation loss without notes, and ``at``, the step of it; None before the first validation.
        speed: tokens a second, the median over the last steps; None where the run doesn't say.
        waiting: the part of that time in which it waited for data.
        history: the lines of its ``metrics.jsonl``.
        settings: flat.
        answers: what it answered last, by sample: a line of its ``answers.jsonl``.
    """

    name: str
    steps: int
    finished: bool
    loss: float | None
    at: int | None
    speed: float | None
    waiting: float | None
    history: list[dict[str, Any]]
    settings: dict[str, Any]
    answers: dict[str, dict[str, Any]]


def read_runs(folder: Path) -> list[Progressed]:
    """Every run in ``folder``, or the one that it is, by name; raises UserError where there is none."""
    places = [folder] if (folder / "metrics.jsonl").is_file() else sorted(folder.glob("*/"))
    runs = [_read(place) for place in places if (place / "metrics.jsonl").is_file()]
    if not runs:
        raise UserError(f"No run in {folder}: give the folder that 'pride train --out' was given.")
    return runs


def _read(run: Path) -> Progressed:
    history = read_history(run / "metrics.jsonl")
    trained = [line for line in history if line["split"] == "train"]
    valid = [line for line in history if line["split"] == "valid" and "total" in line["terms"]]
    best = min(valid, key=lambda line: line["terms"]["total"], default=None)
    timed = [line for line in trained[-_LAST:] if line["seconds"] > 0 and "tokens" in line["terms"]]
    kept = checkpoint.checkpoints(run)
    return Progressed(
        name=run.resolve().name,
        steps=trained[-1]["step"] if trained else 0,
        finished=bool(kept) and checkpoint.read_state(kept[-1]).finished,
        loss=None if best is None else best["terms"]["total"],
        at=None if best is None else best["step"],
        speed=statistics.median(line["terms"]["tokens"] / line["seconds"] for line in timed) if timed else None,
        waiting=sum(line["terms"]["data_wait"] for line in timed) / sum(line["seconds"] for line in timed)
        if timed
        else None,
        history=history,
        settings=read_settings(run),
        answers=_answers(run / ANSWERS),
    )


def _answers(path: Path) -> dict[str, dict[str, Any]]:
    lines = read_history(path) if path.is_file() else []
    return {line["key"]: line for line in lines if line["step"] == lines[-1]["step"]}


def _shown(name: str, value: Any) -> Any:
    """Of a hash as much as tells it from another."""
    return value[:12] if name.endswith("sha256") and isinstance(value, str) else value


def answered(runs: Sequence[Progressed]) -> list[tuple[dict[str, Any], list[str | None]]]:
    """A few samples with what each of the runs answered last; None where it was not asked."""
    samples = {key: line for run in runs for key, line in run.answers.items()}
    return [
        (line, [run.answers[key]["answer"] if key in run.answers else None for run in runs])
        for key, line in list(samples.items())[:_SAMPLES]
    ]


def differing(runs: Sequence[Progressed]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with the value of each."""
    names = sorted({name for run in runs for name in run.settings} - {"name", "description"})
    values = {name: [_shown(name, run.settings.get(name)) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(one != found[0] for one in found)}


def write_runs(path: Path, runs: Sequence[Progressed]) -> None:
    """A page with the runs, their settings that differ, the curves of every term, and some answers."""
    write_page(
        path,
        _TEMPLATE,
        title="Runs",
        runs=runs,
        colours=[COLOURS[number % len(COLOURS)] for number in range(len(runs))],
        differing=differing(runs),
        curves=curves(runs),
        answered=answered(runs),
    )
