"""Clipping: sound that was recorded too loud has its peaks cut off flat.

Letters: ``N`` samples.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.rule import Rule

# Near the peak, not at full scale: what was cut off may have been turned down since, and a codec rounds it off again,
# so that a few samples stand out. Of speech 0.5 % comes so near at most (117 real recordings), of clipped 1 to 13 %.
_PEAK, _NEAR = 99.9, 0.9


class Clipping(Rule):
    """Sound of which more than ``share`` of the samples lie at its peak."""

    title: ClassVar[str] = "Clipping"
    axis: ClassVar[str] = "share of samples at the peak"
    share: Annotated[float, Setting(gt=0, le=1)] = 0.01

    @property
    def threshold(self) -> float:
        return self.share

    def reason(self, figure: float) -> str | None:
        return f"clipped: {figure:.1%} of the samples lie at the peak" if figure > self.share else None


def figure(sound: NDArray[np.float32]) -> float:
    """The share of the samples (N,) that come near the loudest; speech that isn't clipped seldom does."""
    loudness = np.abs(sound)
    peak = float(np.percentile(loudness, _PEAK)) if len(sound) else 0.0
    return float((loudness > _NEAR * peak).mean()) if peak > 0 else 0.0
