"""One arm with one seed: trained, then examined. A trial that was begun goes on, one that was done is only read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples
from pride_mm.evaluation.ablation.arms import FULL, Ablation, Arm, listens
from pride_mm.evaluation.ablation.teachers import Lecture, view_name
from pride_mm.evaluation.examined import Predictions, examine_run
from pride_mm.progress import Progress, silent
from pride_mm.schema import Kind, Schema
from pride_mm.teacher.cache import open_cache
from pride_mm.training.checkpoint import checkpoints, read_state
from pride_mm.training.loop import train
from pride_mm.training.plan import Plan
from pride_mm.training.settings import RunSettings


@dataclass(frozen=True)
class Trial:
    """What is handed to whoever trains it.

    Attributes:
        settings: under the trial's own name.
        shards: the set, or the teacher's view of it.
        out: the ablation's folder.
        split, answers: as of ``Ablation``.
        threads: that it may take.
    """

    settings: RunSettings
    shards: Path
    out: Path
    split: str
    answers: int
    max_bad: int
    threads: int

    @property
    def name(self) -> str:
        """``ARM-SEED``."""
        return self.settings.name

    @property
    def run(self) -> Path:
        """The folder of its run."""
        return self.out / "runs" / self.name

    @property
    def finished(self) -> bool:
        """Whether its training is behind it."""
        kept = checkpoints(self.run)
        return bool(kept) and read_state(kept[-1]).finished

    def examine(self, progress: Progress = silent) -> Predictions:
        """What its student says of the split, kept beside the runs."""
        path = self.out / "predictions" / f"{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        shards, bad = ShardSet.open(self.shards), BadSamples(self.max_bad)
        return examine_run(self.run, shards, self.split, self.answers, path, bad, progress=progress)


def run_trial(trial: Trial, progress: Progress = silent) -> str:
    """Train and examine one trial, wherever this process is; gives its name.

    Raises:
        UserError: as ``pride train`` and ``pride eval``.
    """
    torch.set_num_threads(trial.threads)
    if not trial.finished:
        train(trial.settings, ShardSet.open(trial.shards), trial.out / "runs", progress)
    trial.examine(progress)
    return trial.name


@dataclass(frozen=True)
class Design:
    """An ablation on one set of shards: what has to be taught and trained.

    Attributes:
        arms: those that are tried, the base first.
        left_out: those that are not, and why, by name.
    """

    ablation: Ablation
    shards: ShardSet
    out: Path
    arms: tuple[Arm, ...]
    left_out: dict[str, str]

    @classmethod
    def of(cls, ablation: Ablation, shards: ShardSet, out: Path) -> "Design":
        """Leave out what makes no difference on these shards, such as an arm without video where there is none."""
        arms, left_out = [], {}
        base = _met(ablation.settings_of(ablation.arms[0], 0), shards.schema)
        for arm in ablation.arms:
            same = _met(ablation.settings_of(arm, 0), shards.schema) == base
            other = ablation.teacher_of(arm) != ablation.teacher
            if arm.name != FULL and same and not other and arm.matched == "steps":
                left_out[arm.name] = "what it changes, these shards don't have"
            else:
                arms.append(arm)
        return cls(ablation, shards, out, tuple(arms), left_out)

    def lectures(self, threads: int = 1, max_bad: int = 0) -> list[Lecture]:
        """One for each teacher that a student will listen to."""
        found: dict[Path, Lecture] = {}
        for arm in self.arms:
            for seed in self.ablation.seeds:
                settings = self.ablation.settings_of(arm, seed)
                if listens(settings):
                    lecture = self._lecture(arm, seed, settings.data.max_response, threads, max_bad)
                    found[lecture.view] = lecture
        return list(found.values())

    def _lecture(self, arm: Arm, seed: int, max_response: int, threads: int, max_bad: int) -> Lecture:
        choice = self.ablation.teacher_of(arm)
        model = choice.models[self.ablation.seeds.index(seed) % len(choice.models)]
        view = self.out / "teachers" / view_name(choice, model)
        return Lecture(view, model, choice, max_response, max_bad, threads)

    def trials(self, arm: Arm, epochs: int | None = None, threads: int = 1, max_bad: int = 0) -> list[Trial]:
        """One a seed; ``epochs`` are those of an arm that is matched in computing."""
        found = []
        for seed in self.ablation.seeds:
            settings = self.ablation.settings_of(arm, seed)
            if epochs is not None:
                settings = settings.model_copy(update={"optim": settings.optim.model_copy(update={"epochs": epochs})})
            place = self.shards.folder
            if listens(settings):
                place = self._lecture(arm, seed, settings.data.max_response, threads, max_bad).view
            ablation = self.ablation
            found.append(Trial(settings, place, self.out, ablation.split, ablation.answers, max_bad, threads))
        return found

    def epochs(self, arm: Arm, plan: Callable[..., Plan]) -> int | None:
        """Of an arm that is matched in computing: as many as cost what the base costs; None of others.

        The base's cost is its training, one reading of the train split by its teacher, a forward pass of ``2 N``
        operations a token, and twice that for each pass of LoRA over it, which has no gradients of weights. ``plan``
        counts those of a training.
        """
        if arm.matched == "steps":
            return None
        base, mine = (self.trials(one)[0] for one in (self.arms[0], arm))
        whole = plan(base.settings, [ShardSet.open(base.shards)]).total_flops
        if listens(base.settings):
            passes = 1 + 2 * self.ablation.teacher_of(self.arms[0]).adapt
            whole += passes * _reading(ShardSet.open(base.shards))
        planned = plan(mine.settings, [ShardSet.open(mine.shards)])
        return max(1, round(mine.settings.optim.epochs * whole / planned.total_flops))


def _reading(shards: ShardSet) -> float:
    """Operations of the teacher's reading of the train split."""
    record = open_cache(shards)
    asked = record.counts.scored - record.counts.kept  # in its last go, which is all that its tokens count
    each = record.counts.tokens / asked if asked > 0 else 0.0
    return 2.0 * (record.parameters or 0) * each * shards.splits["train"]


def _met(settings: RunSettings, schema: Schema) -> RunSettings:
    """Settings without a name, and without an encoder of what the shards don't have."""
    kinds = {field.kind for field in schema.inputs}
    plain = RunSettings(name="same").student
    unmet = {kind.value: getattr(plain, kind.value) for kind in (Kind.VIDEO, Kind.AUDIO) if kind not in kinds}
    student = settings.student.model_copy(update=unmet)
    return settings.model_copy(update={"name": "same", "student": student})
