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
from pride_mm.training.history import read_history

_TEMPLATE = Path(__file__).parent / "templates" / "runs.html.j2"
_LAST = 50
"""Steps over which speed is taken."""


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
    )


def differing(runs: Sequence[Progressed]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with the value of each."""
    names = sorted({name for run in runs for name in run.settings} - {"name", "description"})
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(one != found[0] for one in found)}


def write_runs(path: Path, runs: Sequence[Progressed]) -> None:
    """A page with the runs, their settings that differ, and the curves of every term."""
    write_page(
        path,
        _TEMPLATE,
        title="Runs",
        runs=runs,
        colours=[COLOURS[number % len(COLOURS)] for number in range(len(runs))],
        differing=differing(runs),
        curves=curves(runs),
    )
