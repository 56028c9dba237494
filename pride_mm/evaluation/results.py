"""What an evaluation found, as values: what ``scores.json`` holds and the report shows.

Inputs, targets and what students answered are in it; never the text of a note.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from pride_mm.evaluation.calibration import Calibration
from pride_mm.evaluation.cost import Cost
from pride_mm.evaluation.gates import Gates
from pride_mm.evaluation.leakage import Leakage, Overlap
from pride_mm.evaluation.metrics import HeadScores, Likelihood, Score
from pride_mm.schema import Turn

What = Literal["run", "teacher", "baseline"]


@dataclass(frozen=True)
class Contender:
    """One row of the table of scores. ``empty`` names the samples that it left without an answer."""

    name: str
    what: What
    scores: dict[str, Score]
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One student, evaluated in deploy mode.

    Attributes:
        name: the run's.
        checkpoint: name of the checkpoint's folder.
        parameters: of the student.
        settings: of the run, flat: ``optim.lr`` and so on.
        history: the lines of its ``metrics.jsonl``.
        likelihood: of the gold responses.
        heads: by target.
        answers: what it generated, by key.
        attention: for each source the mean share of attention, over the tokens of samples that have it.
        leakage: None where the shards have no privileged fields at all.
        gates: what it leans on, with notes and without.
        calibration: by target.
    """

    name: str
    checkpoint: str
    parameters: int
    settings: dict[str, Any]
    history: list[dict[str, Any]]
    likelihood: Likelihood
    heads: dict[str, HeadScores]
    answers: dict[str, str]
    attention: dict[str, float]
    leakage: Leakage | None
    gates: Gates
    calibration: dict[str, Calibration]


@dataclass(frozen=True)
class Difference:
    """A run minus the base, paired. ``better`` (the run is) is None where the interval holds zero or isn't known."""

    metric: str
    run: str
    base: str
    score: Score
    better: bool | None


@dataclass(frozen=True)
class Example:
    """One sample as a person reads it: the turns, the gold answer, and what each run said and read.

    ``nats`` are a token of the gold response, by contender; the teacher is among them.
    """

    key: str
    turns: tuple[Turn, ...]
    media: tuple[str, ...]
    response: str | None
    labels: dict[str, str]
    answers: dict[str, str]
    read: dict[str, dict[str, str]]
    nats: dict[str, float]


@dataclass(frozen=True)
class Extreme:
    """A sample whose gold response is likelier to ``run`` than to ``base`` by ``gain`` nats a token, or less likely."""

    run: str
    base: str
    gain: float
    example: Example


@dataclass(frozen=True)
class Evaluation:
    """All of it.

    ``measured`` says how each metric was made, ``missing`` why one was not. ``titles`` are the heads' by name,
    ``scales`` those of the scales of empathy that were read off the answers.
    """

    schema: str
    split: str
    samples: int
    groups: int
    with_response: int
    generated: int
    runs: tuple[Run, ...]
    contenders: tuple[Contender, ...]
    differences: tuple[Difference, ...]
    overlap: dict[str, Overlap]
    examples: tuple[Example, ...]
    extremes: tuple[Extreme, ...]
    costs: dict[str, Cost]
    measured: dict[str, str]
    privileged: tuple[str, ...]
    bad: tuple[str, ...]
    titles: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """No run's prediction depends on notes."""
        return all(run.leakage is None or run.leakage.clean for run in self.runs)


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """What ``scores.json`` holds."""
    return {
        "format": 1,
        "schema": evaluation.schema,
        "split": evaluation.split,
        "samples": evaluation.samples,
        "groups": evaluation.groups,
        "with_response": evaluation.with_response,
        "generated": evaluation.generated,
        "contenders": [plain(contender) for contender in evaluation.contenders],
        "costs": plain(evaluation.costs),
        "differences": [plain(difference) for difference in evaluation.differences],
        "runs": [
            {
                "name": run.name,
                "checkpoint": run.checkpoint,
                "parameters": run.parameters,
                "attention": plain(run.attention),
                "gates": plain(run.gates),
                "calibration": plain(run.calibration),
                "leakage": None if run.leakage is None else {"clean": run.leakage.clean, **plain(run.leakage)},
                "heads": {
                    name: {
                        "classes": list(head.classes),
                        "matrix": plain(head.matrix),
                        "calibration": plain(head.bins),
                    }
                    for name, head in run.heads.items()
                },
                "answers": run.answers,
            }
            for run in evaluation.runs
        ],
        "overlap": plain(evaluation.overlap),
        "measured": evaluation.measured,
        "missing": evaluation.missing,
        "privileged_fields": list(evaluation.privileged),
        "bad": list(evaluation.bad),
    }


def plain(value: Any) -> Any:
    """Dataclasses to JSON; a number that is none becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {datum.name: plain(getattr(value, datum.name)) for datum in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
