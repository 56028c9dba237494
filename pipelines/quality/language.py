"""The language that is spoken, told by a small model that comes inside ``py3langid``."""

from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import Field as Setting

from pipelines.quality.rule import Rule

# Shorter texts could be anything: a laugh, a name.
_SHORTEST_BYTES = 20


class Language(Rule):
    """Text that is in one of the ``allowed`` languages (ISO 639-1) with less than ``probability``."""

    title: ClassVar[str] = "Language"
    axis: ClassVar[str] = "probability that it is in a language that is wanted"
    allowed: Annotated[tuple[str, ...], Setting(min_length=1)] = ("en",)
    probability: Annotated[float, Setting(gt=0, le=1)] = 0.01

    @property
    def threshold(self) -> float:
        return self.probability

    def reason(self, figure: float) -> str | None:
        if figure >= self.probability:
            return None
        return f"not in {' or '.join(self.allowed)} (probability {figure:.1%})"


def figure(text: str, allowed: tuple[str, ...]) -> float | None:
    """The probability that a text is in one of these languages; None where it is too short to tell."""
    if len(text.encode()) < _SHORTEST_BYTES:
        return None
    likely = dict(_model().rank(text))
    return float(sum(likely.get(language, 0.0) for language in allowed))


def known() -> frozenset[str]:
    """The languages that can be told apart."""
    return frozenset(_model().labels)


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
