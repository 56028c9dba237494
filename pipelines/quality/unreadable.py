"""Media that cannot be read, or are larger than the limits."""

from typing import ClassVar

from pipelines.quality.rule import Rule


class Unreadable(Rule):
    """An item whose clip or sound is missing, doesn't decode, or is beyond the limits."""

    title: ClassVar[str] = "Unreadable"
