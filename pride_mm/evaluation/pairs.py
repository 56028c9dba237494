"""Two contenders' answers to the same dialogues: what people and models are asked to compare.

A contender is a run in ``scores.json``, or the expert whose answer lies in the shards. Dialogues come from the
shards, inputs only: no note is read, so that none can be shown to anybody.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.schema import Role, Turn

HUMAN = "human"


@dataclass(frozen=True)
class Pair:
    """Two answers to one dialogue.

    Attributes:
        key: of the sample.
        group: the dialogue or the speaker it belongs to; what is drawn whole for intervals.
        turns: what was said before the answer.
        answers: the first contender's and the second's.
    """

    key: str
    group: str
    turns: tuple[Turn, ...]
    answers: tuple[str, str]

    @property
    def same(self) -> bool:
        """Whether there is nothing to choose between: the answers are the same but for white space."""
        first, second = (answer.split() for answer in self.answers)
        return first == second


def read_pairs(scores: Path, shards: ShardSet, contenders: tuple[str, str], bad: BadSamples) -> list[Pair]:
    """The pairs of two contenders, in the order of the shards.

    Args:
        scores: a ``scores.json`` of ``pride eval score``.
        shards: what was scored.
        contenders: names of runs in it, or ``human``.
        bad: counts samples that were scored and cannot be read, or lack an answer.

    Raises:
        UserError: no such file or contender, one contender twice, or nothing to compare.
    """
    split, answers = _read(scores)
    known = list(dict.fromkeys((*answers, HUMAN)))
    for name in contenders:
        if name not in known:
            raise UserError(f"No answers of '{name}' in {scores}; there are: {', '.join(known)}.")
    if contenders[0] == contenders[1]:
        raise UserError(f"'{contenders[0]}' would be compared with itself; name two of: {', '.join(known)}.")
    schema = shards.schema
    reader = shards.samples(split, (Role.INPUT, Role.TARGET), media=False)
    place = {key: number for number, key in enumerate(reader.keys)}
    pairs = []
    for key in dict.fromkeys(key for name in contenders for key in answers.get(name, ())):
        with bad.counting():
            if key not in place:
                raise SampleError(key, None, f"scored, but not in the {split} split of {shards.place}")
            sample = reader[place[key]]
            gold = sample.targets.get(schema.response.name)
            said = [answers[name].get(key) if name in answers else gold for name in contenders]
            if None in said:
                raise SampleError(key, None, f"no answer of '{contenders[said.index(None)]}'")
            turns: Any = sample.inputs[schema.dialogue.name]
            group = str(sample.meta.get("group") or key)
            pairs.append(Pair(key, group, tuple(turns), (str(said[0]).strip(), str(said[1]).strip())))
    if not pairs:
        raise UserError(f"'{contenders[0]}' and '{contenders[1]}' have no dialogue in common in {scores}.")
    return sorted(pairs, key=lambda pair: place[pair.key])


def empty_answers(pairs: Sequence[Pair], contenders: tuple[str, str]) -> list[str]:
    """What to say of answers that are empty; they stay in, and lose."""
    found = []
    for number, name in enumerate(contenders):
        keys = [pair.key for pair in pairs if not pair.answers[number]]
        if keys:
            shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            found.append(f"{name}: {len(keys)} of {len(pairs)} answers are empty ({shown}).")
    return found


def _read(scores: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """The split that was scored, and the answers by run and key."""
    try:
        found = json.loads(scores.read_text(encoding="utf-8"))
        answers = {str(run["name"]): dict(run["answers"]) for run in found["runs"]}
        return str(found["split"]), answers
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{scores} is no scores.json; `pride eval score RUN --shards ...` writes one.") from None
