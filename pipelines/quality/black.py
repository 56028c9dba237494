"""Black pictures: nothing to see in them, however they got there.

Letters: ``F`` frames, ``H`` height, ``W`` width.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.rule import Rule

# of 255: video black is 16 before it is stretched, and a compressed one is a little noisy
_DARK = 24


class Black(Rule):
    """A clip of which at least ``share`` of the frames looked at are black."""

    title: ClassVar[str] = "Black pictures"
    axis: ClassVar[str] = "share of frames that are black"
    share: Annotated[float, Setting(gt=0, le=1)] = 0.9

    @property
    def threshold(self) -> float:
        return self.share

    def reason(self, figure: float) -> str | None:
        return f"{figure:.0%} of the frames are black" if figure >= self.share else None


def figure(frames: NDArray[np.uint8]) -> float:
    """The share of grey frames (F, H, W) that have hardly a bright spot in them."""
    brightest = np.percentile(frames.reshape(len(frames), -1), 99, axis=1)
    return float((brightest < _DARK).mean())
