"""A judge's words as verdicts, and verdicts in both orders counted.

A judge that prefers whatever stands first says nothing about the answers: a verdict counts only where both orders give
the same one, else the pair is a tie and a flip. What cannot be read is no tie: it is left out by name.
Source of the swap: Zheng et al. (2023), "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS, Opinion, Preference, Side, opinion, preference
from pride_mm.evaluation.results import plain

OVERALL = next(reversed(ASPECTS))
SIMILAR = 1.25
"""Answers are of similar length where the longer has at most this many times the characters of the shorter."""

_SIDES: dict[str, Side] = {"a": "A", "b": "B"}  # whatever else is a side's word is a tie
_SIDE = r"(a|b|tie|tied|equal|both|neither|draw)"
_FILLED = r"(?:(?:answer|response|option|winner|verdict|choice|preference)[^a-z0-9]{0,6}){0,2}"
# A letter is a verdict only where it ends there: "A better ..." begins a sentence, "A|B|tie" repeats the question.
_ENDS = r"[ \t]*(?=[^\w\s|/-]|\s[-–—]\s|\r?\n|$)"
_NAMED = {name: re.compile(rf"\b{name}[^a-z0-9]{{1,10}}{_FILLED}{_SIDE}{_ENDS}") for name in ASPECTS}
_ALONE = re.compile(rf"[^a-z0-9]*{_FILLED}{_SIDE}[^a-z0-9]*")
_BOXED = re.compile(r"\[\[(a|b|c|tie)\]\]")

Said = dict[str, Side]


def read_verdict(text: str) -> Said:
    """The sides that a judge named, by aspect: from JSON, from lines, or a letter alone, which is the overall one.

    Of several the last counts, since a judge may think aloud first. An aspect without a readable side is not there.
    """
    lower = text.casefold()
    named = {name: pattern.findall(lower) for name, pattern in _NAMED.items()}
    said = {name: _SIDES.get(sides[-1], "tie") for name, sides in named.items() if sides}
    if not said:
        alone = _ALONE.fullmatch(lower)
        sides = [alone[1]] if alone else _BOXED.findall(lower)
        if sides:
            said[OVERALL] = _SIDES.get(sides[-1], "tie")
    return said


@dataclass(frozen=True)
class Judged:
    """A pair, and what the judge said of it with the first contender shown as A, and then as B.

    ``said`` is None where the answers are the same, so that nobody was asked.
    """

    pair: Pair
    said: tuple[Said, Said] | None

    def verdicts(self, aspect: str) -> tuple[int, int] | None:
        """1 for the first contender, -1 for the second, 0 for a tie, in both orders; None where one can't be read."""
        if self.said is None:
            return 0, 0
        if not all(aspect in said for said in self.said):
            return None
        value = {"A": 1, "B": -1, "tie": 0}
        return value[self.said[0][aspect]], -value[self.said[1][aspect]]


@dataclass(frozen=True)
class AspectJudged:
    """What a judge found of one aspect.

    Attributes:
        preference: over all pairs that could be read.
        similar: over those of them whose answers are of similar length: what is left where length cannot win.
        asked: pairs that were asked about and read in both orders.
        flips: those of them whose two orders disagree.
        first_shown: how often the answer shown first was named, ``of`` all times that one was; half is unbiased.
        unread: keys of the pairs of which an answer could not be read.
    """

    preference: Preference | None
    similar: Preference | None
    asked: int
    flips: int
    first_shown: int
    of: int
    unread: tuple[str, ...]

    @property
    def flip_rate(self) -> float | None:
        return self.flips / self.asked if self.asked else None


def count(judged: Sequence[Judged], aspect: str) -> AspectJudged:
    """Count the verdicts on one aspect."""
    opinions: list[Opinion] = []
    similar: list[Opinion] = []
    unread: list[str] = []
    asked = flips = first = of = 0
    for one in judged:
        found = one.verdicts(aspect)
        if found is None:
            unread.append(one.pair.key)
            continue
        if one.said is not None:
            asked += 1
            flips += found[0] != found[1]
            first += (found[0] == 1) + (found[1] == -1)
            of += sum(verdict != 0 for verdict in found)
        agreed = found[0] if found[0] == found[1] else 0
        opinions.append(opinion(one.pair.key, one.pair.group, [agreed]))
        shorter, longer = sorted(len(answer) for answer in one.pair.answers)
        if longer <= SIMILAR * shorter or longer == 0:
            similar.append(opinions[-1])
    return AspectJudged(preference(opinions), preference(similar), asked, flips, first, of, tuple(unread))


def count_all(judged: Sequence[Judged]) -> dict[str, AspectJudged]:
    """Count the verdicts on every aspect."""
    return {aspect: count(judged, aspect) for aspect in ASPECTS}


def judge_json(
    contenders: tuple[str, str], model: str, prompt: str, judged: Sequence[Judged], aspects: dict[str, AspectJudged]
) -> dict[str, Any]:
    """What ``judge.json`` holds: names, rates and the sides by key; neither dialogues nor answers."""
    pairs = [one.pair for one in judged]
    length = [round(sum(len(pair.answers[side]) for pair in pairs) / max(1, len(pairs)), 1) for side in (0, 1)]
    return {
        "format": 1,
        "contenders": list(contenders),
        "judge": model,
        "prompt_sha256": prompt,
        "pairs": len(pairs),
        "dialogues": len({pair.group for pair in pairs}),
        "alike": [pair.key for pair in pairs if pair.same],
        "characters": length,
        "similar_length": SIMILAR,
        "aspects": {name: {"flip_rate": plain(found.flip_rate), **plain(found)} for name, found in aspects.items()},
        "said": {one.pair.key: list(one.said) for one in judged if one.said is not None},
    }
