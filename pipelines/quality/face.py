"""Faces, found by the cascade that comes inside OpenCV.

It finds faces that look at the camera, not those in profile, so a clip is taken for one without a face only where no
frame shows any. Letters: ``F`` frames, ``H`` height, ``W`` width.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from pipelines.quality.rule import Rule

# a face is at least so much of the picture's short side
_SMALLEST = 0.125


class Face(Rule):
    """A clip of which fewer than ``share`` of the frames looked at show a face."""

    title: ClassVar[str] = "Faces"
    axis: ClassVar[str] = "share of frames that show a face"
    share: Annotated[float, Setting(gt=0, le=1)] = 0.2

    @property
    def threshold(self) -> float:
        return self.share

    def reason(self, figure: float) -> str | None:
        if figure >= self.share:
            return None
        return f"a face in only {figure:.0%} of the frames" if figure else "no frame shows a face"


def figure(frames: NDArray[np.uint8]) -> float:
    """The share of grey frames (F, H, W) in which a face is found."""
    return sum(_found(frame) for frame in frames) / len(frames)


def _found(frame: NDArray[np.uint8]) -> bool:
    side = round(min(frame.shape) * _SMALLEST)
    return len(_cascade().detectMultiScale(frame, 1.2, 3, minSize=(side, side))) > 0


@cache
def _cascade() -> Any:
    import cv2

    cv2.setNumThreads(1)
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))
    assert not cascade.empty()
    return cascade
