"""Text that overlaps the target: a response that stands in the dialogue or in a note is copied, not learnt."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field as Setting

from pipelines.overlap import covered, words
from pipelines.quality.rule import Rule

# Shorter responses are said again and again: «I am so sorry to hear that.»
_SHORTEST = 8


class Overlap(Rule):
    """A response of which at least ``share`` of the words stands in the dialogue before it, or in a note."""

    title: ClassVar[str] = "Response in the text before it"
    axis: ClassVar[str] = "share of the response's words that stand there in the same order"
    share: Annotated[float, Setting(gt=0, le=1)] = 0.9

    @property
    def threshold(self) -> float:
        return self.share

    def reason(self, figure: float) -> str | None:
        return f"{figure:.0%} of the response stands in it word for word" if figure >= self.share else None


def figure(response: str, texts: Iterable[str]) -> float | None:
    """The share of a response's words that stand in the texts in runs; None of a short response."""
    return covered(response, texts) if len(words(response)) >= _SHORTEST else None
