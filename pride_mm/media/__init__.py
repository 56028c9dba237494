"""Clips and sound, decoded, checked and converted behind a few functions.

This room is the only place that knows torchcodec, decord and PyAV. Sources are bytes or paths; everything a backend
throws at bad bytes comes out as ``MediaError`` with a short reason and no path. What reads into tensors imports torch,
what converts does not: names are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pride_mm.media.container import AudioInfo, MediaError, MediaInfo, Source, VideoInfo, probe, verify
    from pride_mm.media.convert import Clip, convert_audio, convert_video
    from pride_mm.media.frames import read_frames
    from pride_mm.media.recording import encode_flac, encode_opus
    from pride_mm.media.settings import AudioPacking, MediaLimits, VideoPacking
    from pride_mm.media.waveform import read_audio

_HOMES = {
    "container": ("AudioInfo", "MediaError", "MediaInfo", "Source", "VideoInfo", "probe", "verify"),
    "convert": ("Clip", "convert_audio", "convert_video"),
    "frames": ("read_frames",),
    "recording": ("encode_flac", "encode_opus"),
    "settings": ("AudioPacking", "MediaLimits", "VideoPacking"),
    "waveform": ("read_audio",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AudioInfo",
    "AudioPacking",
    "Clip",
    "MediaError",
    "MediaInfo",
    "MediaLimits",
    "Source",
    "VideoInfo",
    "VideoPacking",
    "convert_audio",
    "convert_video",
    "encode_flac",
    "encode_opus",
    "probe",
    "read_audio",
    "read_frames",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
