"""Frozen pictures: the sound goes on, the face doesn't.

Letters: ``F`` frames, ``H`` height, ``W`` width.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.rule import Rule

# A frame is compared in so many parts a side: a mouth that moves is a small part of a still room.
_PARTS = 8
# of 255: what encoding a still picture leaves
_STILL = 2.0


class Frozen(Rule):
    """A clip of which at least ``share`` of the frames looked at are the frame before them."""

    title: ClassVar[str] = "Frozen pictures"
    axis: ClassVar[str] = "share of frames that are the one before"
    share: Annotated[float, Setting(gt=0, le=1)] = 0.9

    @property
    def threshold(self) -> float:
        return self.share

    def reason(self, figure: float) -> str | None:
        return f"{figure:.0%} of the pictures don't move" if figure >= self.share else None


def figure(frames: NDArray[np.uint8]) -> float:
    """The share of grey frames (F, H, W) behind the first in which no part differs from the one before."""
    if len(frames) < 2:
        return 0.0
    differences = np.abs(np.diff(frames.astype(np.int16), axis=0))
    rows = np.array_split(differences, _PARTS, axis=1)
    parts = [part.mean(axis=(1, 2)) for row in rows for part in np.array_split(row, _PARTS, axis=2)]
    return float((np.max(parts, axis=0) < _STILL).mean())
