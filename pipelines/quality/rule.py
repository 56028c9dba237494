"""What is done with an item that a measure speaks against."""

from typing import ClassVar, Literal

from pride_mm.schema import Frozen

Action = Literal["off", "report", "drop"]


class Rule(Frozen):
    """One measure's setting: ``off`` doesn't look, ``report`` lists what it finds, ``drop`` leaves it out, too.

    A rule with a threshold draws its measure's figures on the report's page, with ``axis`` under them.
    """

    action: Action = "drop"
    title: ClassVar[str]
    axis: ClassVar[str] = ""

    @property
    def threshold(self) -> float | None:
        """Where the rule begins to speak, on the scale of its figures; None where it has no scale."""
        return None

    def reason(self, figure: float) -> str | None:
        """Why a figure is not good enough, in words; None where it is."""
        raise NotImplementedError
