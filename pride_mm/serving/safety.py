"""What a person in danger says is answered with a referral to people, and not by a student.

Promise: on unless it is switched off by setting; the same words give the same verdict, and are kept nowhere.
Limits: these are lists of words, in ``configs/safety``, that seldom find what isn't there and miss much: who writes
around them, misspells or speaks another language is not found, and a clip is not looked at. A deployer writes the
referral, and must not take this for care.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pride_mm.config import find_config, load_settings
from pride_mm.schema import Frozen, Turn

NOT_THERAPY = "This is a research model. It is no therapist, and what it says is no advice."
OFF = "off"
_APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")


class Referral(Frozen):
    """What is said to a person in danger."""

    text: Annotated[str, Field(min_length=1)]


class Safety(Frozen):
    """Patterns by what they are a sign of, and the referral.

    ``harmless`` is taken out of the text first: sayings that the patterns would find.
    """

    description: str = ""
    referral: Referral
    patterns: dict[str, tuple[str, ...]]
    harmless: tuple[str, ...] = ()

    @field_validator("patterns")
    @classmethod
    def _readable(cls, given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not any(given.values()):
            raise ValueError("no pattern: give some, or switch the safety off")
        for name, patterns in given.items():
            _check(name, patterns)
        return given

    @field_validator("harmless")
    @classmethod
    def _readable_too(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        _check("harmless", given)
        return given

    def concern(self, turns: Sequence[Turn]) -> str | None:
        """What the last speaker's turns at the end of a dialogue are a sign of, by the name of its patterns; or None.

        What was said before the last answer has had its own.
        """
        for turn in reversed(turns):
            if turn.speaker != turns[-1].speaker:
                break
            if (found := self.concern_in(turn.text)) is not None:
                return found
        return None

    def concern_in(self, text: str) -> str | None:
        """What one text is a sign of, or None."""
        plain = " ".join(unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower().split())
        if self.harmless:
            plain = _any_of(self.harmless).sub(" ... ", plain)
        return next((name for name, found in self.patterns.items() if found and _any_of(found).search(plain)), None)


def _check(name: str, patterns: Sequence[str]) -> None:
    for number, pattern in enumerate(patterns, 1):
        try:
            found = re.compile(pattern).search("")
        except re.error as error:
            raise ValueError(f"pattern {number} of '{name}' is no regular expression ({error})") from None
        if found:
            raise ValueError(f"pattern {number} of '{name}' finds nothing at all, which is everywhere")


@functools.lru_cache(maxsize=64)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<!\w)(?:{pattern})(?!\w)" for pattern in patterns))


def load_safety(name: str | Path = "crisis") -> Safety | None:
    """Read it by name or by path to a TOML; ``off`` is none.

    Raises:
        UserError: no such file, or every mistake in it.
    """
    return None if str(name) == OFF else load_settings(Safety, find_config("safety", name))
