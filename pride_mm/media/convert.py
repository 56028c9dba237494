"""Media as they lie in a shard, by the settings of a pack.

``copy`` decodes nothing where nothing has to be: a plain mp4 is taken byte for byte after a look at its
tables. Whether every frame decodes is for ``verify``, which ``pride check`` asks.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pride_mm.fields import MediaData, StoredFile
from pride_mm.media import encode
from pride_mm.media.boxes import read_plain
from pride_mm.media.container import (
    LIMITS,
    MediaError,
    MediaInfo,
    Source,
    check_bytes,
    opened,
    video_stream,
)
from pride_mm.media.loudness import to_loudness
from pride_mm.media.recording import encode_flac, encode_opus
from pride_mm.media.settings import AudioPacking, MediaLimits, VideoPacking
from pride_mm.media.sound import read_part
from pride_mm.media.track import Track, spaced

_PIXELS = ("yuv420p", "yuvj420p")
# A cut on a key frame may begin earlier, or end later, than asked by so many seconds: from there on people see that
# lips and voice don't fit (ITU-R BT.1359).
KEY_SLACK = 0.045
# From here on, handing bytes from process to process costs more than opening the file twice.
_LARGE = 256 << 10
_VIDEO, _AUDIO = VideoPacking(), AudioPacking()


@dataclass(frozen=True)
class Clip:
    """Converted media: the bytes, what its member ends in, seconds, and frames (0 for sound).

    A tuple of bytes is a clip as single pictures, in order. ``made`` says how: ``copied`` byte for byte,
    ``remuxed`` from its own packets, or ``encoded`` anew.
    """

    data: MediaData | StoredFile
    extension: str
    seconds: float
    frames: int
    made: Literal["copied", "remuxed", "encoded"] = "encoded"

    @property
    def loaded(self) -> MediaData:
        """The data themselves, where they are given by reference, too."""
        return Path(self.data.path).read_bytes() if isinstance(self.data, StoredFile) else self.data


def convert_video(
    source: Source,
    settings: VideoPacking = _VIDEO,
    limits: MediaLimits = LIMITS,
    start: float | None = None,
    end: float | None = None,
    pictures: int = 8,
    by_reference: bool = False,
) -> Clip:
    """A clip, whole or from ``start`` to ``end`` seconds of its container, without sound unless it is copied.

    Args:
        source: the file.
        settings: how it is written.
        limits: what is refused before it is decoded.
        start, end: of the cut; the first frame is the first one no earlier than ``start``.
        pictures: how many frames a student looks at: ``frames`` keeps these, ``reencode`` makes them key frames.
        by_reference: give a large file that would be copied byte for byte as a `StoredFile`.

    Raises:
        MediaError: no pictures, not whole, too large, or the cut lies outside.
    """
    check_bytes(source, limits)
    if settings.mode == "copy":
        clip = _copied(source, limits, by_reference) if start is None and end is None else None
        if clip := clip or _remuxed(source, limits, start, end):
            return clip
    with opened(source, limits) as container:
        track = Track(container, start, end, limits)
        if settings.mode == "frames":
            ticks = [track.times[index] for index in spaced(len(track.times), pictures)]
            drawn = encode.to_pictures(track, settings, ticks)
            return Clip(drawn, "jpg" if settings.image == "jpeg" else "webp", track.seconds, len(drawn))
        data, seconds, frames = encode.to_mp4(track, settings, pictures)
        return Clip(data, "mp4", seconds, frames)


def _copied(source: Source, limits: MediaLimits, by_reference: bool) -> Clip | None:
    """The very bytes of a plain mp4; None where it is none, or FFmpeg has to say what is wrong with it."""
    data: bytes | mmap.mmap
    kept: bytes | StoredFile
    if by_reference and isinstance(source, Path) and (about := source.stat()).st_size >= _LARGE:
        with source.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        kept = StoredFile(str(source), about.st_size, about.st_mtime_ns)
    else:
        data = kept = read_source(source)
    found = read_plain(data, limits)
    if found is None or found.late > KEY_SLACK:
        return None
    return Clip(kept, "mp4", found.seconds, found.frames, "copied")


def _remuxed(source: Source, limits: MediaLimits, start: float | None, end: float | None) -> Clip | None:
    """The packets of a cut, where it falls on key frames nearly enough; None where they have to be encoded anew."""
    with opened(source, limits) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaError("has no pictures")
        if stream.codec_context.name != "h264" or stream.codec_context.pix_fmt not in _PIXELS:
            return None
        track = Track(container, start, end, limits)
        times, slack = track.times, KEY_SLACK / track.tick
        stored = sorted(packet.pts for packet in track.packets)
        late = times[0] - track.origin
        if times[0] - stored[0] > slack or stored[-1] - times[-1] > slack or late > slack:
            return None
        if any(packet.is_discard or packet.dts is None for packet in track.packets) or _is_turned(track):
            return None
        return Clip(encode.to_packets(track), "mp4", track.seconds, len(stored), "remuxed")


def _is_turned(track: Track) -> bool:
    first = track.packets[0].pts
    return any(frame.rotation for frame in track.frames([first]))


def is_plain(info: MediaInfo) -> bool:
    """Whether a clip can lie in a shard as it is: every reader sees the same frames."""
    video = info.video
    return (
        video is not None
        and info.container == "mp4"
        and video.codec == "h264"
        and video.is_whole
        and video.pixels in _PIXELS
        and video.rotation == 0
    )


def convert_audio(
    source: Source,
    rate: int,
    settings: AudioPacking = _AUDIO,
    limits: MediaLimits = LIMITS,
    start: float | None = None,
    end: float | None = None,
) -> Clip:
    """The sound of a file or clip, mono at ``rate`` Hz, whole or from ``start`` to ``end`` seconds.

    Raises:
        MediaError: no sound, not whole, too long, not a number, or the cut lies outside.
    """
    sound = read_part(source, rate, start or 0.0, end, settings.channel, limits)
    if settings.loudness is not None:
        sound = to_loudness(sound, rate, settings.loudness)
    encoded = encode_opus(sound, rate) if settings.codec == "opus" else encode_flac(sound, rate)
    return Clip(encoded, settings.codec, len(sound) / rate, 0)


def read_source(source: Source) -> bytes:
    """The bytes of a media file; raises MediaError where there is none."""
    try:
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise MediaError("no such file" if isinstance(error, FileNotFoundError) else "cannot be read") from None
