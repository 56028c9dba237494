"""Pictures by PyAV, which brings its own FFmpeg: what the others get wrong, and where they are not there."""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from pride_mm.media.container import LIMITS, MediaError, Source, VideoInfo, opened
from pride_mm.media.settings import MediaLimits
from pride_mm.media.track import Track


def suits(container: str, video: VideoInfo) -> bool:
    """Always."""
    return True


def decode(source: Source, indices: list[int], frames: int, limits: MediaLimits = LIMITS) -> UInt8[Tensor, "F 3 h w"]:
    """The frames at ``indices``, turned as the container says.

    Raises:
        MediaError: the clip has not ``frames`` of them, or they don't decode.
    """
    with opened(source, limits) as container:
        track = Track(container, limits=limits)
        if len(track.times) != frames:
            raise MediaError(f"is truncated or damaged: {len(track.times)} of {frames} frames are there")
        ticks = [track.times[index] for index in indices]
        found = track.pictures(ticks, _upright)
    return torch.stack([found[tick] for tick in ticks])


def _upright(frame: Any) -> UInt8[Tensor, "3 h w"]:
    picture = torch.from_numpy(_whole(frame).to_ndarray(format="rgb24")).permute(2, 0, 1)
    turns = round(frame.rotation / 90) % 4
    return torch.rot90(picture, turns, dims=(1, 2)) if turns else picture


def _whole(frame: Any) -> Any:
    """Two fields are converted as one picture, as a player and the other decoders do."""
    if not frame.interlaced_frame:
        return frame
    import av

    made = av.VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    return made
