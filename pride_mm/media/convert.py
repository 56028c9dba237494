"""Media as they lie in a shard: mp4 with H.264 from time 0 without an edit list, and mono FLAC.

The same input and the same version of PyAV give the same bytes: one thread, and nothing in them
that says when they were made.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

from pride_mm.media.container import MediaError, MediaInfo, Source, opened, verify, video_stream
from pride_mm.media.frames import suits_decord
from pride_mm.media.sound import END_SLACK, encode_flac, read_part

_PIXELS = ("yuv420p", "yuvj420p")
# A key frame at least every 48 frames: a reader that wants a few frames decodes a third less.
_X264 = {"preset": "veryfast", "crf": "23", "g": "48", "bf": "0", "threads": "1", "x264-params": "threads=1"}


@dataclass(frozen=True)
class Clip:
    """Converted media: the bytes, seconds, and frames (0 for sound)."""

    data: bytes
    seconds: float
    frames: int


def convert_video(source: Source, start: float | None = None, end: float | None = None) -> Clip:
    """A clip as mp4 with H.264, whole or from ``start`` to ``end`` seconds.

    A plain mp4 that isn't cut is copied byte for byte, with its sound. Anything else is encoded anew
    and holds pictures only: the sound is a field of its own. Every source is decoded to its end once.

    Raises:
        MediaError: no pictures, not whole, or the cut lies outside.
    """
    info = verify(source, video=True)
    assert info.video is not None
    if start is None and end is None and is_plain(info):
        data = source if isinstance(source, bytes) else source.read_bytes()
        return Clip(data, info.video.duration, info.video.frames)
    begin, stop = check_cut(start, end, info.video.duration)
    clip = _encode(source, begin, stop)
    made = verify(clip, video=True).video
    assert made is not None
    return Clip(clip, made.duration, made.frames)


def is_plain(info: MediaInfo) -> bool:
    """Whether a clip can lie in a shard as it is: every reader sees the same frames."""
    video = info.video
    return (
        video is not None
        and info.container == "mp4"
        and suits_decord(info.container, video)
        and video.pixels in _PIXELS
        and video.rotation == 0
    )


def check_cut(start: float | None, end: float | None, duration: float) -> tuple[float, float | None]:
    """The cut in seconds; refuses one that lies outside of ``duration``."""
    begin = start or 0.0
    if end is not None and end <= begin:
        raise MediaError(f"the cut ends at {end:g} s, before its start at {begin:g} s")
    if begin >= duration or (end is not None and end > duration + END_SLACK):
        last = f"{end:g}" if end is not None else "the end"
        raise MediaError(f"the cut from {begin:g} to {last} s lies outside: it is {duration:.2f} s long")
    return begin, end


def _encode(source: Source, start: float, end: float | None) -> bytes:
    buffer = io.BytesIO()
    options = {"fflags": "+bitexact", "use_editlist": "0"}
    with opened(source) as given, av.open(buffer, "w", format="mp4", container_options=options) as made:
        pictures = video_stream(given)
        assert pictures is not None
        rate = pictures.average_rate or Fraction(25)
        stream = made.add_stream("libx264", rate=rate, options=_X264)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.time_base = stream.codec_context.time_base = pictures.time_base
        _copy_frames(given, pictures, made, stream, start, end)
        made.mux(stream.encode(None))
    return buffer.getvalue()


def _copy_frames(given: Any, pictures: Any, made: Any, stream: Any, start: float, end: float | None) -> None:
    """Encode the frames shown from ``start`` to ``end``; the first one gets time 0."""
    origin = float((pictures.start_time or 0) * pictures.time_base)
    if start > 0:
        given.seek(int((origin + start) / pictures.time_base), stream=pictures, backward=True)
    base: int | None = None
    # half a tick, so that a time which was rounded in JSON still means its frame
    slack = 1e-3
    for frame in given.decode(pictures):
        time = float(frame.pts * pictures.time_base) - origin
        if time < start - slack:
            continue
        if end is not None and time >= end - slack:
            break
        picture = _upright(frame)
        if base is None:
            base = frame.pts
            stream.width, stream.height = picture.width // 2 * 2, picture.height // 2 * 2
        ready = picture.reformat(width=stream.width, height=stream.height, format="yuv420p")
        ready.pts, ready.time_base, ready.pict_type = frame.pts - base, pictures.time_base, 0
        made.mux(stream.encode(ready))
    if base is None:
        raise MediaError(f"has no frame between {start:g} s and the end of the cut")


def _upright(frame: Any) -> Any:
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    picture = torch.rot90(torch.from_numpy(frame.to_ndarray(format="rgb24")), turns, dims=(0, 1))
    return av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")


def convert_audio(source: Source, rate: int, start: float | None = None, end: float | None = None) -> Clip:
    """The sound of a file or clip as mono FLAC at ``rate`` Hz, whole or from ``start`` to ``end`` seconds.

    Raises:
        MediaError: no sound, not whole, or the cut lies outside.
    """
    info = verify(source, audio=True)
    assert info.audio is not None
    whole = max(info.audio.duration, info.video.duration if info.video is not None else 0.0)
    begin, stop = check_cut(start, end, whole)
    sound = read_part(source, rate, begin, stop)
    return Clip(encode_flac(torch.from_numpy(sound), rate), len(sound) / rate, 0)


def read_source(path: Path) -> bytes:
    """The bytes of a media file; raises MediaError where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError("no such file" if isinstance(error, FileNotFoundError) else "cannot be read") from None
