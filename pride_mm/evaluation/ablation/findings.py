"""What an ablation found, as values: a row an arm, each measure's mean over seeds, and its effect against the base."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples
from pride_mm.evaluation import metrics
from pride_mm.evaluation.ablation.arms import FULL
from pride_mm.evaluation.ablation.effects import Effect, Measured, adjusted, effect
from pride_mm.evaluation.ablation.measures import averages, mean_and_spread, measure, titles
from pride_mm.evaluation.ablation.trials import Design, Trial
from pride_mm.evaluation.baselines import baselines
from pride_mm.evaluation.examined import Predictions, asked
from pride_mm.evaluation.gold import Gold, read_gold
from pride_mm.evaluation.taught import TEACHERS, taught_likelihood
from pride_mm.progress import Progress, silent
from pride_mm.teacher.cache import open_cache
from pride_mm.training.history import read_history

Mean = tuple[float, float | None]
"""Over seeds, and the standard deviation; None of one."""


@dataclass(frozen=True)
class ArmFound:
    """One arm.

    Attributes:
        values: of each measure, and of each score of its answers.
        effects: against the base, by measure; none of the base itself.
        epochs, steps: of one trial.
        seconds: of one trial's training, the median; as busy as the machine was.
        empty: answers without a word, over all seeds.
    """

    name: str
    title: str
    values: dict[str, Mean]
    effects: dict[str, Effect]
    epochs: int
    steps: int
    seconds: float
    empty: int


@dataclass(frozen=True)
class Beside:
    """What stands beside the students: teachers and baselines, with nothing of seeds, or the mean over teachers."""

    name: str
    values: dict[str, Mean]
    parameters: int | None = None


@dataclass(frozen=True)
class Findings:
    """All of it."""

    name: str
    description: str
    split: str
    samples: int
    groups: int
    seeds: tuple[int, ...]
    arms: tuple[ArmFound, ...]
    beside: tuple[Beside, ...]
    titles: dict[str, str]
    better: dict[str, int]
    left_out: dict[str, str]

    @property
    def rows(self) -> tuple[ArmFound | Beside, ...]:
        """All that have scores."""
        return (*self.arms, *self.beside)

    @property
    def base(self) -> ArmFound:
        """What the others are held against."""
        return self.arms[0]

    def verdict(self, arm: ArmFound, name: str) -> str:
        """One measure of one arm, in words."""
        found = arm.effects.get(name)
        if found is None:
            return "not enough groups to tell"
        if found.verdict == "same":
            return f"no difference that {len(self.seeds)} seeds and {found.groups:,} groups can show"
        return f"{'better' if found.verdict == 'better' else 'worse'} than '{FULL}'"


def collect(design: Design, trials: Sequence[Trial], progress: Progress = silent) -> Findings:
    """Read what all trials have said, and compare.

    Raises:
        UserError: a trial that isn't done.
    """
    ablation, schema = design.ablation, design.shards.schema
    gold = read_gold(design.shards, ablation.split, BadSamples(sum(design.shards.splits.values())))
    count = len(ablation.seeds)
    rows: list[tuple[Any, Sequence[Trial], list[Predictions], list[metrics.Written], dict[str, Measured]]] = []
    for number, arm in enumerate(design.arms):
        mine = trials[number * count : (number + 1) * count]
        said = [trial.examine() for trial in mine]
        answers = [_written(one.answers, gold) for one in said]
        rows.append((arm, mine, said, answers, measure(schema, gold, said, answers)))
        progress(number + 1, len(design.arms), "comparing")
    effects = _effects({arm.name: measured for arm, _, _, _, measured in rows})
    found = []
    for arm, mine, _, answers, measured in rows:
        values = {name: mean_and_spread(one.values) for name, one in measured.items()}
        histories = [_trained(trial) for trial in mine]
        found.append(
            ArmFound(
                name=arm.name,
                title=arm.title,
                values=values | averages([{name: s.value for name, s in one.scores.items()} for one in answers]),
                effects=effects.get(arm.name, {}),
                epochs=mine[0].settings.optim.epochs,
                steps=max(len(lines) for lines in histories),
                seconds=statistics.median(sum(line["seconds"] for line in lines) for lines in histories),
                empty=sum(len(one.empty) for one in answers),
            )
        )
    base = rows[0][4]
    return Findings(
        name=ablation.name,
        description=ablation.description,
        split=ablation.split,
        samples=len(gold.keys),
        groups=len(set(gold.groups.values())),
        seeds=ablation.seeds,
        arms=tuple(found),
        beside=(*_teachers(design, rows[0][2][0], gold), *_baselines(design, gold)),
        titles=titles(schema),
        better={name: one.better for name, one in base.items()},
        left_out=design.left_out,
    )


def _effects(arms: Mapping[str, Mapping[str, Measured]]) -> dict[str, dict[str, Effect]]:
    """Of each arm against the base, by Holm over the arms of each measure."""
    base = arms[FULL]
    found: dict[str, dict[str, Effect]] = {}
    for name, one in base.items():
        mine = {arm: effect(measured[name], one) for arm, measured in arms.items() if arm != FULL and name in measured}
        known = {arm: each for arm, each in mine.items() if each is not None}
        for (arm, each), p in zip(known.items(), adjusted([each.p for each in known.values()]), strict=True):
            found.setdefault(arm, {})[name] = replace(each, adjusted=p)
    return found


def _trained(trial: Trial) -> list[dict[str, Any]]:
    return [line for line in read_history(trial.run / "metrics.jsonl") if line["split"] == "train"]


def _teachers(design: Design, student: Predictions, gold: Gold) -> list[Beside]:
    """Of each kind the mean over its models."""
    kinds: dict[str, list[tuple[float, int | None]]] = {}
    for lecture in design.lectures():
        shards = ShardSet.open(lecture.view)
        like = taught_likelihood(shards, design.ablation.split, student.likelihood, gold)
        score = like and metrics.perplexity(like)
        if score:
            prompt = "" if lecture.choice.prompt == design.ablation.teacher.prompt else f", '{lecture.choice.prompt}'"
            kinds.setdefault(TEACHERS[lecture.choice.notes] + prompt, []).append(
                (score.value, open_cache(shards).parameters)
            )
    return [
        Beside(name, {"perplexity": mean_and_spread([value for value, _ in found])}, found[0][1])
        for name, found in kinds.items()
    ]


def _written(answers: Mapping[str, str], gold: Gold) -> metrics.Written:
    keys = [key for key in answers if key in gold.responses]
    right = [gold.responses[key] for key in keys]
    return metrics.written(keys, [answers[key] for key in keys], right, gold.group_of(keys))


def _baselines(design: Design, gold: Gold) -> list[Beside]:
    shards, answered = design.shards, [key for key in asked(gold, design.ablation.answers) if key in gold.responses]
    train = read_gold(shards, "train", BadSamples(sum(shards.splits.values())))
    rows = baselines(shards.schema, train, gold, answered)
    return [Beside(row.name, {name: (score.value, None) for name, score in row.scores.items()}) for row in rows]
