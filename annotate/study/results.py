"""What a study found: who is preferred, how far raters agree, and whether the side an answer stands on mattered.

Agreement is on the side that was named (A, B, tie), which raters see: sides are balanced by design, so that chance
agreement does not depend on which contender is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from annotate.agreement.codes import counted
from annotate.agreement.ratings import Rating
from annotate.agreement.resampling import Figure, measure
from annotate.study.plan import Plan
from annotate.study.project import Judgement, Pulled
from pride_mm.evaluation.preference import ASPECTS, HEAD, SIDES, Preference, opinion, preference, row
from pride_mm.evaluation.results import plain


@dataclass(frozen=True)
class AspectFound:
    """What raters found of one aspect.

    ``preference`` is None where nobody said anything and no answers are alike. ``agreement`` has Krippendorff's alpha
    first, with intervals over pairs. Side A was named ``side_a`` times of ``sides``: half is unbiased.
    """

    preference: Preference | None
    agreement: tuple[Figure, ...]
    side_a: int
    sides: int


@dataclass(frozen=True)
class Findings:
    """A study's result. ``judged`` pairs have a word of at least one rater; ``raters`` are judgements by pseudonym."""

    plan: Plan
    aspects: dict[str, AspectFound]
    judged: int
    twice: int
    skipped: int
    raters: dict[str, int]
    seconds: float | None
    judgements: tuple[Judgement, ...]


def findings(plan: Plan, pulled: Pulled) -> Findings:
    """Unblind and count. Pairs with the same answer twice are ties; pairs that nobody has judged are not there."""
    said = pulled.judgements
    raters = sorted({one.rater for one in said})
    numbers = [sum(one.shown == shown for one in said) for shown in plan.shown]
    seconds = [one.seconds for one in said if one.seconds]
    return Findings(
        plan=plan,
        aspects={aspect: _aspect(plan, said, aspect, tuple(raters)) for aspect in ASPECTS},
        judged=sum(number > 0 for number in numbers),
        twice=sum(number > 1 for number in numbers),
        skipped=pulled.skipped,
        raters={rater: sum(one.rater == rater for one in said) for rater in raters},
        seconds=median(seconds) if seconds else None,
        judgements=said,
    )


def _aspect(plan: Plan, judgements: Sequence[Judgement], aspect: str, raters: tuple[str, ...]) -> AspectFound:
    opinions = [opinion(one.key, one.group, [0]) for one in plan.alike]
    ratings: list[Rating] = []
    sides = [one.said[aspect] for one in judgements if aspect in one.said]
    for shown in plan.shown:
        given = [one for one in judgements if one.shown == shown and aspect in one.said]
        verdicts = [verdict for one in given if (verdict := one.verdict(aspect)) is not None]
        if verdicts:
            opinions.append(opinion(shown.key, shown.group, verdicts))
            ratings.append({one.rater: (one.said[aspect],) for one in given})
    evidence = counted(ratings, raters, SIDES)
    agreement = (measure(evidence.headline()), *(measure(one) for one in evidence.others()))
    chosen = sum(side != "tie" for side in sides)
    return AspectFound(preference(opinions), agreement, sides.count("A"), chosen)


def study_json(found: Findings) -> dict[str, Any]:
    """What ``study.json`` holds: rates and verdicts by key, under pseudonyms; neither dialogues nor answers."""
    plan = found.plan
    names = {1: plan.contenders[0], 0: "tie", -1: plan.contenders[1]}
    return {
        "format": 1,
        "contenders": list(plan.contenders),
        "seed": plan.seed,
        "shown": len(plan.shown),
        "alike": [one.key for one in plan.alike],
        "judged": found.judged,
        "judged_twice": found.twice,
        "skipped": found.skipped,
        "raters": found.raters,
        "median_seconds": plain(found.seconds),
        "aspects": {name: plain(aspect) for name, aspect in found.aspects.items()},
        "judgements": [
            {
                "key": one.shown.key,
                "rater": one.rater,
                "first_on": one.shown.first,
                **{aspect: names[v] for aspect in ASPECTS if (v := one.verdict(aspect)) is not None},
            }
            for one in found.judgements
        ],
    }


def sentence(found: Findings) -> str:
    """What was compared, in one sentence."""
    first, second = found.plan.contenders
    return (
        f"{first} against {second}: {found.judged} of {len(found.plan.shown)} pairs judged by {len(found.raters)} "
        f"raters ({found.twice} by two or more), {len(found.plan.alike)} pairs alike and counted as ties"
    )


def table(found: Findings) -> list[str]:
    """The findings for a terminal of 80 columns."""
    plan = found.plan
    lines = [
        f"{plan.contenders[0]} against {plan.contenders[1]}: {found.judged} of {len(plan.shown)} pairs judged, "
        f"{found.twice} by two or more",
        f"{len(found.raters)} raters; {len(plan.alike)} pairs are alike and count as ties",
        HEAD,
        *(row(name, one.preference) for name, one in found.aspects.items()),
        "Agreement (Krippendorff's alpha, nominal), and how often side A was named:",
    ]
    for name, one in found.aspects.items():
        alpha = agreement_of(one.agreement[0]).removeprefix(one.agreement[0].name).strip()
        lines.append(f"{name:<12}{alpha}; {one.side_a} of {one.sides}")
    return lines


def agreement_of(figure: Figure) -> str:
    """A coefficient with its interval, or why there is none."""
    if figure.value is None:
        return f"not known: {figure.why}"
    between = f" ({figure.low:.2f} to {figure.high:.2f})" if figure.low is not None else ""
    return f"{figure.name} {figure.value:.2f}{between}"
