"""Clips and sound, decoded, checked and converted behind a few functions.

This room is the only place that knows decord and PyAV. decord decodes the pictures of plain
clips; PyAV does everything else. Sources are bytes or paths; everything a backend throws at bad
bytes comes out as ``MediaError`` with a short reason and no path.
"""

from pride_mm.media.container import AudioInfo, MediaError, MediaInfo, Source, VideoInfo, probe, verify
from pride_mm.media.convert import Clip, convert_audio, convert_video
from pride_mm.media.frames import read_frames
from pride_mm.media.sound import encode_flac, read_audio

__all__ = [
    "AudioInfo",
    "Clip",
    "MediaError",
    "MediaInfo",
    "Source",
    "VideoInfo",
    "convert_audio",
    "convert_video",
    "encode_flac",
    "probe",
    "read_audio",
    "read_frames",
    "verify",
]
