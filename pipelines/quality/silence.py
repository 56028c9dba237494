"""Silence: nobody speaks, or the microphone was off.

Letters: ``N`` samples.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.rule import Rule

_WINDOW = 0.05
_FLOOR = -120.0


class Silence(Rule):
    """Sound whose loud parts stay below ``decibels`` of full scale."""

    title: ClassVar[str] = "Silence"
    axis: ClassVar[str] = "level of the loud parts, dB of full scale"
    decibels: Annotated[float, Setting(ge=_FLOOR, le=0)] = -65.0

    @property
    def threshold(self) -> float:
        return self.decibels

    def reason(self, figure: float) -> str | None:
        return f"hardly any sound: {figure:.0f} dB where it is loud" if figure < self.decibels else None


def figure(sound: NDArray[np.float32], rate: int) -> float:
    """The level, in dB of full scale, that a twentieth of the windows of sound (N,) reaches."""
    length = max(1, min(len(sound), round(rate * _WINDOW)))
    windows = sound[: len(sound) // length * length].reshape(-1, length)
    power = np.square(windows, dtype=np.float64).mean(axis=1)
    return max(_FLOOR, float(10 * np.log10(np.percentile(power, 95) + 1e-30)))
