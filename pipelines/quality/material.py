"""What of an item's media is looked at: few grey frames of a clip, and all of its sound.

Letters: ``F`` frames, ``H`` height, ``W`` width, ``N`` samples.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pride_mm.media.glance import glance
from pride_mm.media.settings import MediaLimits
from pride_mm.media.sound import read_part
from pride_mm.schema import Media

# A face of an eighth of it has 20 pixels, as many as the finder needs.
_SIDE = 160


def read_pictures(media: Media, count: int, limits: MediaLimits) -> NDArray[np.uint8]:
    """``count`` grey frames (F, H, W) of a clip, evenly spaced over its cut; raises MediaError."""
    return glance(Path(media.path), count, _SIDE, media.start, media.end, limits)


def read_sound(media: Media, rate: int, limits: MediaLimits) -> NDArray[np.float32]:
    """The sound (N,) of a cut, mono at ``rate`` Hz; raises MediaError."""
    return read_part(Path(media.path), rate, media.start or 0.0, media.end, limits=limits)
