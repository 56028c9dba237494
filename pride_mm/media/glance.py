"""A few small grey frames of a clip or of a part of it: enough to judge it by, at little cost.

Letters: ``F`` frames, ``H`` height, ``W`` width.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pride_mm.media.container import LIMITS, Source, opened
from pride_mm.media.settings import MediaLimits
from pride_mm.media.track import Track, spaced


def glance(
    source: Source,
    count: int,
    side: int,
    start: float | None = None,
    end: float | None = None,
    limits: MediaLimits = LIMITS,
) -> NDArray[np.uint8]:
    """``count`` grey frames (F, H, W), evenly spaced from ``start`` to ``end`` seconds, turned as a player does.

    The short side has at most ``side`` pixels; a frame is repeated where the clip has fewer.

    Raises:
        MediaError: there are no pictures, they don't decode, or they are beyond the limits.
    """
    with opened(source, limits) as container:
        track = Track(container, start, end, limits)
        wanted = [track.times[place] for place in spaced(len(track.times), count)]
        drawn = track.pictures(wanted, lambda frame: _grey(frame, side))
        return np.stack([drawn[time] for time in wanted])


def _grey(frame: Any, side: int) -> NDArray[np.uint8]:
    scale = min(1.0, side / min(frame.width, frame.height))
    size = (max(1, round(length * scale)) for length in (frame.width, frame.height))
    small = frame.reformat(*size, format="gray", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4))
