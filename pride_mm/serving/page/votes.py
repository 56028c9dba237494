"""Votes on two students who were talked to side by side, a line each; never a word of what was said.

A vote is one person's of one conversation: no more than a hint, beside ``pride eval study``.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pride_mm.errors import UserError
from pride_mm.schema import Frozen

Vote = Literal["left", "right", "tie", "both bad"]
WORDS: Mapping[Vote, str] = {
    "left": "A is better",
    "right": "B is better",
    "tie": "Both are good",
    "both bad": "Both are bad",
}
"""What can be said of two conversations, and the words for it."""


class Contender(Frozen):
    """A student: the name of its artifact, and the SHA-256 of each file of weights in it."""

    name: str
    weights: dict[str, str]


class Ballot(Frozen):
    """One vote.

    Attributes:
        time: when, in UTC.
        left, right: who stood where.
        vote: what was said of them, not knowing who they were.
        turns: how many lines each has answered.
    """

    time: str
    left: Contender
    right: Contender
    vote: Vote
    turns: Annotated[int, Field(ge=1)]

    @property
    def preferred(self) -> str:
        """The name of the one that was preferred, or ``tie``, ``both bad``."""
        return {"left": self.left.name, "right": self.right.name}.get(self.vote, self.vote)


class Votes:
    """The votes of one program, each appended to a file when it is cast.

    Args:
        path: JSON lines; made where it isn't there.

    Raises:
        UserError: nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cast: list[Ballot] = []
        try:
            self._append(b"")
        except OSError as error:
            raise UserError(f"Votes cannot be written to {path} ({error.strerror}): give another --votes.") from None

    def add(self, left: Contender, right: Contender, vote: Vote, turns: int) -> Ballot:
        """Keep one vote."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ballot = Ballot(time=now, left=left, right=right, vote=vote, turns=turns)
        self._append(json.dumps(ballot.model_dump(), ensure_ascii=False).encode() + b"\n")
        self.cast.append(ballot)
        return ballot

    def tally(self, names: Sequence[str]) -> dict[str, int]:
        """How often each was preferred, or neither; of this program's votes."""
        found = Counter(ballot.preferred for ballot in self.cast)
        return {name: found[name] for name in (*names, "tie", "both bad")}

    def _append(self, line: bytes) -> None:
        """In one write, so that programs that share a file don't mix their lines."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)
