"""What an ablation is: read from ``configs/ablation/*.toml``. A base run, and arms that each change something in it.

Every arm is trained once a seed, on the same samples in the same order as the base of that seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field as Setting
from pydantic import ValidationError, model_validator

from pride_mm.config import find_config, load_settings, mistakes
from pride_mm.errors import UserError
from pride_mm.losses.alignment import POOLED
from pride_mm.schema import Frozen
from pride_mm.training.settings import RunSettings

FULL = "full"
"""The name of the base among the arms."""
Name = Annotated[str, Setting(pattern=r"^[a-z0-9_]{1,40}$")]
Positive = Annotated[int, Setting(ge=1)]


class TeacherChoice(Frozen):
    """Whose cache the students of an arm learn from, as ``pride teach`` makes it.

    Attributes:
        models: folders, hub names, or ``smollm2-135m``; the first seed has the first, the next one the next, and round
            again: with several, an arm's spread is that of its teachers, too.
        prompt, notes, top_k, max_prompt, dtype, adapt: as ``pride teach`` takes them.
    """

    models: Annotated[tuple[str, ...], Setting(min_length=1)] = ("smollm2-135m",)
    prompt: str = "empathy_reasoning"
    notes: Literal["given", "none", "shuffled"] = "given"
    top_k: Annotated[int, Setting(ge=0)] = 64
    max_prompt: Positive = 768
    dtype: Literal["float32", "bfloat16"] = "float32"
    adapt: Annotated[int, Setting(ge=0)] = 0


class Arm(Frozen):
    """One change.

    Attributes:
        title: what it is, as the table calls it.
        change: settings of the run, as its file has them, that are other than in the base.
        teacher: fields of ``TeacherChoice`` that are other than in the base.
        matched: ``steps`` as the base, or ``compute``: as many epochs as cost what the base costs, its teacher's
            learning and reading of the train split included.
    """

    name: Name
    title: str
    change: dict[str, Any] = {}
    teacher: dict[str, Any] = {}
    matched: Literal["steps", "compute"] = "steps"


class Ablation(Frozen):
    """All of it.

    Attributes:
        run: the base: a name in ``configs/run``, or the path of a file.
        change: settings of the base that are other than in its file.
        answers: how many samples of the split each student answers.
    """

    name: Annotated[str, Setting(pattern=r"^[A-Za-z0-9_-]+$")]
    description: str = ""
    run: str = "whole"
    change: dict[str, Any] = {}
    teacher: TeacherChoice = TeacherChoice()
    seeds: Annotated[tuple[int, ...], Setting(min_length=1)] = (1, 2, 3)
    split: str = "test"
    answers: Annotated[int, Setting(ge=0)] = 100
    arm: tuple[Arm, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [FULL, *(arm.name for arm in self.arm)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two arms are called {', '.join(twice)} ('{FULL}' is the base)")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice: it would count as two of one and the same run")
        return self

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The base first."""
        return (Arm(name=FULL, title="the whole method"), *self.arm)

    def chosen(self, names: Sequence[str]) -> "Ablation":
        """The same with some of its arms; raises UserError that lists them."""
        known = {arm.name: arm for arm in self.arm}
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise UserError(f"No arm {', '.join(unknown)} in '{self.name}': choose of {', '.join(known)}.")
        return self.model_copy(update={"arm": tuple(known[name] for name in known if name in names)})

    def teacher_of(self, arm: Arm) -> TeacherChoice:
        """The base's teacher with the arm's changes."""
        return _changed(TeacherChoice, self.teacher.model_dump(), arm.teacher, f"arm '{arm.name}', teacher")

    def settings_of(self, arm: Arm, seed: int) -> RunSettings:
        """The base's settings with the arm's changes, under the name of the trial."""
        base = load_settings(RunSettings, find_config("run", self.run)).model_dump()
        base = _merged(_merged(base, self.change), {"name": f"{arm.name}-{seed}", "seed": seed})
        return _changed(RunSettings, base, arm.change, f"arm '{arm.name}'")


def load_ablation(name: str | Path, overrides: Sequence[str] = ()) -> Ablation:
    """An ablation by name or path, ``key=value`` on top, each of its arms checked.

    Raises:
        UserError: no such file, unknown settings, an arm that changes nothing.
    """
    found = load_settings(Ablation, find_config("ablation", name), overrides)
    base, teacher = found.settings_of(found.arms[0], 0), found.teacher
    for arm in found.arm:
        same = found.settings_of(arm, 0).model_copy(update={"name": base.name}) == base
        if same and arm.matched == "steps" and (found.teacher_of(arm) == teacher or not listens(base)):
            raise UserError(f"{name}: arm '{arm.name}' changes nothing in the run '{found.run}': leave it out.")
    return found


def listens(settings: RunSettings) -> bool:
    """Whether a run wants a teacher's cache."""
    return settings.teacher is None and settings.loss.uses("kd", *POOLED)


def _changed(model: type[Any], given: dict[str, Any], change: dict[str, Any], where: str) -> Any:
    try:
        return model.model_validate(_merged(given, change))
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(mistakes(error))}") from None


def _merged(given: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``change`` on top of ``given``, table by table; an encoder is replaced whole."""
    merged = dict(given)
    for name, value in change.items():
        inner = merged.get(name)
        whole = isinstance(value, dict) and isinstance(inner, dict) and "name" not in value
        merged[name] = _merged(inner, value) if whole else value  # type: ignore[arg-type]
    return merged
