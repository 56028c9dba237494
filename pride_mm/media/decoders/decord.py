"""Pictures by decord: only for plain clips, and only where it is asked for.

It shows what an edit list hides, gives a transport stream wrongly, and doesn't know AV1; each file that it
fails to open leaks 80 KB, and its reader of sound leaks more: it is given nothing that wasn't probed.
"""

import io
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pride_mm.media.container import LIMITS, MediaError, Source, VideoInfo
from pride_mm.media.settings import MediaLimits

_CONTAINERS = ("mp4", "matroska")


def suits(container: str, video: VideoInfo) -> bool:
    """Whether decord gives the frames that a player shows."""
    return container in _CONTAINERS and video.codec == "h264" and video.is_whole and not video.is_deep


def decode(source: Source, indices: list[int], frames: int, limits: MediaLimits = LIMITS) -> UInt8[Tensor, "F 3 h w"]:
    """The frames at ``indices``; raises MediaError where the clip has not ``frames`` of them."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    file = str(source) if isinstance(source, Path) else io.BytesIO(source)
    reader = decord.VideoReader(file, ctx=decord.cpu(0), num_threads=1)
    if len(reader) != frames:
        raise MediaError(f"is truncated or damaged: {len(reader)} of {frames} frames are there")
    return torch.from_numpy(reader.get_batch(indices).asnumpy()).permute(0, 3, 1, 2)
