"""A study's project on the server: its tasks in, what raters said out.

Tasks are found by their names, so that a push that was cut off adds what is missing. Of a rater who judged a pair
twice the later word counts, so that a task that is there twice does no harm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.exchange.listing import read_tasks
from annotate.page.label_config import control_names
from annotate.people import people
from annotate.studio import Studio
from annotate.study.page import PAIR, study_config, task_data
from annotate.study.plan import Plan, Shown
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS, SIDES, Side

_BULK = 500
_ENTRIES = ("id", "data", "annotations", "result", "completed_by", "was_cancelled", "lead_time")


@dataclass(frozen=True)
class Judgement:
    """What one rater, a pseudonym, said of one pair; ``seconds`` is how long the page was open."""

    shown: Shown
    rater: str
    said: Mapping[str, Side]
    seconds: float | None = None

    def verdict(self, aspect: str) -> int | None:
        """1 for the first contender, -1 for the second, 0 for neither; None where nothing was said."""
        side = self.said.get(aspect)
        return None if side is None else 0 if side == "tie" else 1 if side == self.shown.first else -1


@dataclass(frozen=True)
class Pulled:
    """The judgements of a study; ``skipped`` were left out by their raters."""

    judgements: tuple[Judgement, ...]
    skipped: int = 0


@dataclass(frozen=True)
class Study:
    """A study on a server."""

    studio: Studio
    plan: Plan

    def push(self, pairs: Sequence[Pair]) -> tuple[int, int, str]:
        """Add the tasks that are not there yet.

        Returns:
            How many were added, how many were there, and where a rater opens the project.

        Raises:
            UserError: the server does not answer, or its project of this title is another one.
        """
        number = self._number()
        if number is None:
            number = self._make()
        there = self._names(number)
        if strange := there - {shown.name for shown in self.plan.shown}:
            raise UserError(
                f"Project '{self.plan.title}' at {self.studio.url} holds {len(strange)} tasks of another study; give "
                "this one another title with --project."
            )
        by_key = {pair.key: pair for pair in pairs}
        missing = [shown for shown in self.plan.shown if shown.name not in there]
        for start in range(0, len(missing), _BULK):
            bulk = [{"data": task_data(one, by_key[one.key])} for one in missing[start : start + _BULK]]
            self.studio.send("adding tasks", f"api/projects/{number}/import", bulk)
        return len(missing), len(there), f"{self.studio.url}/projects/{number}/data"

    def pull(self, key: bytes, bad: BadSamples) -> Pulled:
        """What raters said; ``key`` makes pseudonyms of them, and ``bad`` counts what is not in the form of the page.

        Raises:
            UserError: there is no such project, or the server does not answer.
        """
        number = self._number()
        if number is None:
            raise UserError(f"No project '{self.plan.title}' at {self.studio.url}; 'pride eval study push' makes it.")
        known = people(self.studio, key)
        shown = {one.name: one for one in self.plan.shown}
        found: dict[tuple[str, str], tuple[int, Judgement]] = {}
        skipped = 0
        for raw in read_tasks(self.studio, number, _ENTRIES):
            one = shown.get(_name(raw))
            if one is None:
                bad.add(SampleError(f"task {raw['id']}", None, "not a task of this study; was it added by hand?"))
                continue
            for given in raw.get("annotations") or []:
                if given.get("was_cancelled"):
                    skipped += 1
                    continue
                person = known.get(given.get("completed_by") or -1)
                rater = person.annotator if person else "unknown"
                said = _said(given.get("result") or [], f"task {raw['id']}, rater {rater}", bad)
                at, before = int(given["id"]), found.get((one.name, rater))
                if said and (before is None or before[0] < at):
                    found[one.name, rater] = (at, Judgement(one, rater, said, given.get("lead_time")))
        ordered = [found[place][1] for place in sorted(found)]
        return Pulled(tuple(ordered), skipped)

    def _number(self) -> int | None:
        """The server's number of the project; None where there is none."""
        listing = self.studio.call("listing projects", self.studio.client.projects.list, page_size=100)
        projects: list[Any] = self.studio.call("listing projects", list, listing)
        for project in projects:
            if project.title == self.plan.title:
                if control_names(project.label_config or "") != control_names(study_config()):
                    raise UserError(
                        f"Project '{self.plan.title}' at {self.studio.url} is no study, or its page was edited; give "
                        "another title with --project."
                    )
                return int(project.id)
        return None

    def _make(self) -> int:
        made = self.studio.call(
            "making the project", self.studio.client.projects.create, title=self.plan.title,
            label_config=study_config(), maximum_annotations=self.plan.raters,
            description="A blind comparison of answers. Do not edit the labelling setup.",
        )  # fmt: skip
        return int(made.id)

    def _names(self, number: int) -> set[str]:
        return {_name(raw) for raw in read_tasks(self.studio, number, ("id", "data"))}


def _name(raw: Mapping[str, Any]) -> str:
    data = raw.get("data")
    return str(data.get(PAIR)) if isinstance(data, dict) else ""


def _said(results: Sequence[Any], place: str, bad: BadSamples) -> dict[str, Side]:
    """The side by aspect; what is in another form is counted and left out."""
    said: dict[str, Side] = {}
    for result in results:
        name = str(result.get("from_name")) if isinstance(result, dict) else ""
        try:
            (side,) = result["value"]["choices"]
            if name not in ASPECTS or side not in SIDES or name in said:
                raise ValueError
            said[name] = side
        except (KeyError, TypeError, ValueError):
            bad.add(SampleError(place, name[:32] or None, f"not one of {', '.join(SIDES)}, once; was the page edited?"))
    return said
