"""The plan of a study, which is the key to it: which pairs are shown under which name, and whose answer stands where.

It stays in a file that only its owner can read and no line of it reaches Label Studio: tasks there bear names drawn by
lot. The first contender stands on side A in half of the tasks (one more or less), and the order is drawn with a seed.
"""

import hashlib
import json
import random
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from annotate.server.credentials import write_secret
from pride_mm.errors import UserError
from pride_mm.evaluation.pairs import Pair
from pride_mm.schema import Frozen


class Shown(Frozen):
    """A pair that is shown: its ``name`` in Label Studio, and on which side the ``first`` contender's answer stands."""

    name: str
    key: str
    group: str
    first: Literal["A", "B"]


class Alike(Frozen):
    """A pair whose answers are the same: a tie that nobody is asked about."""

    key: str
    group: str


class Plan(Frozen):
    """A study: what was asked for, and what came of it. ``answers`` is the SHA-256 of all pairs it was drawn from."""

    format: Literal[1] = 1
    title: str
    contenders: tuple[str, str]
    samples: int
    seed: int
    raters: int
    answers: str
    shown: tuple[Shown, ...] = ()
    alike: tuple[Alike, ...] = ()


def make_plan(
    pairs: Sequence[Pair], title: str, contenders: tuple[str, str], samples: int, seed: int, raters: int
) -> Plan:
    """Draw the pairs of a study, their order and sides.

    Args:
        pairs: to draw from.
        title: of the project; may not name a contender, since raters read it.
        contenders: their names, the one whose wins are counted first.
        samples: how many pairs at most, those with the same answer twice among them.
        seed: of the draw.
        raters: how many experts judge each pair.

    Raises:
        UserError: the title gives a contender away, or is too short for Label Studio.
    """
    if named := [name for name in contenders if re.search(rf"\b{re.escape(name)}\b", title, re.IGNORECASE)]:
        raise UserError(f"The title '{title}' names {named[0]}, and raters read it; give another with --project.")
    if not 3 <= len(title) <= 50:
        raise UserError(f"'{title}' is no title for a project; 3 to 50 characters are needed.")
    draw = random.Random(seed)
    drawn = draw.sample(list(pairs), min(samples, len(pairs)))
    asked = [pair for pair in drawn if not pair.same]
    sides: list[Literal["A", "B"]] = [("A", "B")[number % 2] for number in range(len(asked))]
    draw.shuffle(sides)
    return Plan(
        title=title,
        contenders=contenders,
        samples=samples,
        seed=seed,
        raters=raters,
        answers=_digest(pairs),
        shown=tuple(
            Shown(name=f"pair-{secrets.token_hex(6)}", key=pair.key, group=pair.group, first=side)
            for pair, side in zip(asked, sides, strict=True)
        ),
        alike=tuple(Alike(key=pair.key, group=pair.group) for pair in drawn if pair.same),
    )


def ensure_plan(path: Path, wanted: Plan) -> Plan:
    """The plan in a file, or ``wanted``, which is written there; raises UserError where it is of another study."""
    if not path.exists():
        write_secret(path, wanted.model_dump_json(indent=2) + "\n")
        return wanted
    found = read_plan(path)
    asked = ("title", "contenders", "samples", "seed", "raters", "answers")
    if differ := [name for name in asked if getattr(found, name) != getattr(wanted, name)]:
        raise UserError(
            f"{path} is the key of another study: {', '.join(differ)} differ. Give this one another --key and "
            "--project, or that one's settings to go on with it."
        )
    return found


def read_plan(path: Path) -> Plan:
    """Read a plan; raises UserError where there is none."""
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"No key at {path}: 'pride eval study push' wrote it; without it nobody can unblind.") from None
    except (ValidationError, ValueError):
        raise UserError(f"{path} is not the key of a study; restore what 'pride eval study push' wrote.") from None


def _digest(pairs: Sequence[Pair]) -> str:
    text = json.dumps(sorted((pair.key, *pair.answers) for pair in pairs))
    return hashlib.sha256(text.encode()).hexdigest()
