"""Pictures and sound by torchcodec: the fastest, where the system has FFmpeg's libraries.

One decoder a clip, for one that is shared by threads or inherited by a fork hangs or crashes; one thread;
exact seek mode, for the approximate one gives wrong frames where the rate varies. In transport streams and
AVI most of its frames are wrong; more than 8 bits each version of FFmpeg rounds in its own way.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jaxtyping import Float32, UInt8
from torch import Tensor

from pride_mm.media.container import LIMITS, MediaError, Source, VideoInfo, check_pixels
from pride_mm.media.settings import MediaLimits

_CONTAINERS = ("mp4", "matroska")


@cache
def is_available() -> bool:
    """Whether torchcodec finds libraries of FFmpeg that it can work with."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def suits(container: str, video: VideoInfo) -> bool:
    """Whether torchcodec gives the frames that a player shows."""
    return container in _CONTAINERS and video.hidden == 0 and not video.is_deep


def decode(source: Source, indices: list[int], frames: int, limits: MediaLimits = LIMITS) -> UInt8[Tensor, "F 3 h w"]:
    """The frames at ``indices``; raises MediaError where the clip has not ``frames`` of them."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(_file(source), num_ffmpeg_threads=1, seek_mode="exact")
    if len(decoder) != frames:
        raise MediaError(f"is truncated or damaged: {len(decoder)} of {frames} frames are there")
    check_pixels(decoder.metadata.width or 0, decoder.metadata.height or 0, limits)
    pictures: Tensor = decoder.get_frames_at(indices).data
    return pictures


def decode_sound(source: bytes, rate: int, seconds: float | None) -> Float32[Tensor, " N"]:
    """Sound as mono at ``rate`` Hz from its first sample on, at most ``seconds`` of it."""
    from torchcodec.decoders import AudioDecoder

    decoder = AudioDecoder(source, sample_rate=rate)
    if decoder.metadata.num_channels != 1:
        raise MediaError("has several channels, which are not mixed here")
    if seconds is None:
        samples: Any = decoder.get_all_samples()
    else:
        samples = decoder.get_samples_played_in_range(0.0, seconds)
    sound: Tensor = samples.data[0]
    return sound


def _file(source: Source) -> bytes | str:
    return str(source) if isinstance(source, Path) else source
