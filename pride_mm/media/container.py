"""What a media file holds, and whether all of it is there.

``probe`` reads the container and its packets, but decodes no more than one frame: about 2 ms for a
clip of a few seconds. ``verify`` decodes everything once: FFmpeg plays half a file without a
word, so a truncated clip shows only in what is missing of what the container promises.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from pride_mm.media.settings import MediaLimits

Source = Path | bytes
LIMITS = MediaLimits()
# A play list or a concatenation would open other files, or addresses, in the name of whoever sent it.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,h264,hevc,ivf,"
    "wav,w64,flac,ogg,mp3,aac,ac3,aiff,amr,au,caf"
)

# Containers whose header says how long the sound is; others only estimate it.
_EXACT_SOUND = ("mp4", "flac", "wav")
# Sound may fall short of its container by one codec frame, and by rounding.
SOUND_SLACK = 0.1


class MediaError(ValueError):
    """A media file that cannot be used; the message is a short reason without the file's path."""


@dataclass(frozen=True)
class VideoInfo:
    """The pictures of a clip.

    ``frames`` are those that a player shows, ``stored`` those that the container promises (0 where
    it doesn't say); an edit list hides frames that are stored. ``width`` and ``height`` in pixels, as
    shown: after ``rotation`` (degrees counter-clockwise). ``fps`` on average, ``duration`` in seconds.
    """

    width: int
    height: int
    frames: int
    fps: float
    duration: float
    codec: str
    pixels: str
    rotation: int
    stored: int
    hidden: int

    @property
    def is_deep(self) -> bool:
        """Whether its samples have more than 8 bits; FFmpeg's names of such formats end in their byte order."""
        return self.pixels.endswith(("le", "be"))

    @property
    def is_whole(self) -> bool:
        """Whether every frame that is stored is shown."""
        return self.hidden == 0 and self.stored in (0, self.frames)


@dataclass(frozen=True)
class AudioInfo:
    """The sound of a clip: ``rate`` in Hz, ``duration`` in seconds, without a late start."""

    rate: int
    channels: int
    duration: float
    codec: str


@dataclass(frozen=True)
class MediaInfo:
    """What is in a media file; ``container`` is ``mp4``, ``matroska``, ``flac``, ..."""

    container: str
    video: VideoInfo | None
    audio: AudioInfo | None


def check_bytes(source: Source, limits: MediaLimits = LIMITS) -> int:
    """The size of a source; refuses one that is missing, empty, or larger than allowed."""
    if isinstance(source, Path) and not source.is_file():
        raise MediaError("no such file")
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise MediaError("the file is empty")
    if size > limits.max_bytes:
        raise MediaError(f"has {size:,} bytes; {limits.max_bytes:,} are allowed")
    return size


@contextmanager
def opened(source: Source, limits: MediaLimits = LIMITS) -> Iterator[Any]:
    """Open a container with PyAV; whatever goes wrong inside the block becomes a MediaError.

    What is too large is refused before any of it is decoded.
    """
    check_bytes(source, limits)
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "fflags": "+genpts"}
    try:
        file = str(source.absolute()) if isinstance(source, Path) else io.BytesIO(source)
        with av.open(file, "r", options=options) as container:
            for stream in container.streams.video:
                check_pixels(stream.codec_context.width, stream.codec_context.height, limits)
            yield container
    except (MediaError, MemoryError):
        raise
    # PyAV throws InvalidDataError, ValueError, IndexError, even UnicodeDecodeError at broken bytes.
    except Exception as error:
        raise MediaError(f"cannot be read as a clip or sound ({_reason(error)})") from error


def check_pixels(width: int, height: int, limits: MediaLimits = LIMITS) -> None:
    """Refuse pictures that are larger than allowed."""
    if width * height > limits.max_pixels:
        raise MediaError(f"has {width}x{height} pixels; {limits.max_pixels:,} in all are allowed")


def check_seconds(seconds: float, limits: MediaLimits = LIMITS) -> None:
    """Refuse what lasts longer than allowed."""
    if seconds > limits.max_seconds:
        raise MediaError(f"lasts {seconds:.0f} s; {limits.max_seconds:g} s are allowed: cut it")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or type(error).__name__)


def container_name(container: Any) -> str:
    """``mp4`` for FFmpeg's ``mov,mp4,m4a,...``, else FFmpeg's first name."""
    names = container.format.name.split(",")
    return "mp4" if "mp4" in names else str(names[0])


def video_stream(container: Any) -> Any | None:
    """The first stream of moving pictures, on one thread; None where there is none (a cover is none)."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return _single(stream)
    return None


def audio_stream(container: Any) -> Any | None:
    """The first stream of sound, on one thread; None where there is none."""
    return _single(container.streams.audio[0]) if container.streams.audio else None


def promised_sound(container: Any, stream: Any) -> float:
    """The seconds of sound that the header promises, 0 where it only estimates them."""
    exact = container_name(container) in _EXACT_SOUND and stream.duration
    return float(stream.duration * stream.time_base) if exact else 0.0


def promised_frames(container: Any, stream: Any) -> int:
    """How many frames the header promises, those hidden by an edit list too; 0 where it doesn't say."""
    name = container_name(container)
    # an edit list may leave out whole stretches, of which an mp4's tables, as FFmpeg has mended them, know; an AVI
    # counts ticks, of which a frame may take several, and where it was cut short FFmpeg guesses its length by its size
    indexed = stream.frames and (name == "mp4" or (name == "avi" and (stream.duration or 0) >= stream.frames))
    return len(stream.index_entries) if indexed else int(stream.frames)


def _single(stream: Any) -> Any:
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def probe(source: Source) -> MediaInfo:
    """Say what is in a media file.

    Raises:
        MediaError: it is missing, empty, or nothing that FFmpeg reads, or holds neither pictures nor sound.
    """
    with opened(source) as container:
        video, audio = video_stream(container), audio_stream(container)
        if video is None and audio is None:
            raise MediaError("holds neither pictures nor sound")
        packets = _Packets(container, video, audio)
        sound = _audio_info(audio, packets) if audio is not None else None
        pictures = _video_info(container, video, packets, _rotation(container, video)) if video is not None else None
        return MediaInfo(container_name(container), pictures, sound)


def probe_pictures(source: Source, limits: MediaLimits = LIMITS) -> tuple[str, VideoInfo]:
    """The container and the pictures as they are stored, unturned: half the work of ``probe``.

    Raises:
        MediaError: there are none, or nothing that FFmpeg reads.
    """
    with opened(source, limits) as container:
        video = video_stream(container)
        if video is None:
            raise MediaError("has no pictures")
        check_seconds((container.duration or 0) / av.time_base, limits)
        info = _video_info(container, video, _Packets(container, video), rotation=0)
        if info.frames == 0:
            raise MediaError("has no frame in it")
        return container_name(container), info


class _Packets:
    """How many packets are shown and hidden, and from when to when (seconds) each stream runs."""

    def __init__(self, container: Any, video: Any | None, audio: Any | None = None) -> None:
        self.shown, self.hidden = 0, 0
        self.video_times: list[float] = []
        self.audio_start, self.audio_end = float("inf"), 0.0
        for packet in container.demux([stream for stream in (video, audio) if stream is not None]):
            self._add(packet, packet.stream is video)

    def _add(self, packet: Any, is_video: bool) -> None:
        if packet.size == 0:
            return
        time = float((packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base)
        length = float((packet.duration or 0) * packet.time_base)
        if not is_video:
            self.audio_start, self.audio_end = min(self.audio_start, time), max(self.audio_end, time + length)
        elif packet.is_discard:
            self.hidden += 1
        elif not (self.shown or self.hidden or packet.is_keyframe):
            pass  # a broadcast that was cut anywhere begins with frames that nobody can decode
        else:
            self.shown += 1
            self.video_times += [time, time + length]


def _rotation(container: Any, stream: Any) -> int:
    container.seek(0)
    frame = next(iter(container.decode(stream)), None)
    return int(frame.rotation) % 360 if frame is not None else 0


def _video_info(container: Any, stream: Any, packets: _Packets, rotation: int) -> VideoInfo:
    width, height = stream.codec_context.width, stream.codec_context.height
    if rotation % 180:
        width, height = height, width
    duration = max(packets.video_times, default=0.0) - min(packets.video_times, default=0.0)
    if duration <= 0:
        duration = float((stream.duration or 0) * stream.time_base)
    return VideoInfo(
        width=width,
        height=height,
        frames=packets.shown,
        fps=packets.shown / duration if duration > 0 else float(stream.average_rate or 0),
        duration=duration,
        codec=stream.codec_context.name,
        pixels=str(stream.codec_context.pix_fmt),
        rotation=rotation,
        stored=promised_frames(container, stream),
        hidden=packets.hidden,
    )


def _audio_info(stream: Any, packets: _Packets) -> AudioInfo:
    context = stream.codec_context
    duration = max(packets.audio_end - max(packets.audio_start, 0.0), 0.0) if packets.audio_end else 0.0
    return AudioInfo(context.rate, context.channels, duration, context.name)


def verify(source: Source, *, video: bool = False, audio: bool = False) -> MediaInfo:
    """Decode all pictures, all sound, or both, and compare them with what the container promises.

    Raises:
        MediaError: what is asked for isn't there, doesn't decode, or ends early.
    """
    info = probe(source)
    if video:
        if info.video is None:
            raise MediaError("has no pictures")
        frames = _decoded_frames(source)
        promised = info.video.stored - info.video.hidden if info.video.stored else info.video.frames
        if frames < promised:
            raise MediaError(f"is truncated or damaged: {frames} of {promised} frames decode")
        if frames == 0:
            raise MediaError("has no frame in it")
    if audio:
        if info.audio is None:
            raise MediaError("has no sound")
        _verify_sound(source, info)
    return info


def _decoded_frames(source: Source) -> int:
    with opened(source) as container:
        return sum(1 for _ in _until_broken(container.decode(video_stream(container))))


def _until_broken(frames: Iterator[Any]) -> Iterator[Any]:
    """The frames before the first one that doesn't decode: the caller sees what is missing."""
    with suppress(av.FFmpegError):
        yield from frames


def _verify_sound(source: Source, info: MediaInfo) -> None:
    with opened(source) as container:
        stream = audio_stream(container)
        assert stream is not None
        rate = stream.codec_context.rate
        decoded = sum(frame.samples for frame in _until_broken(container.decode(stream))) / rate if rate else 0.0
        promised = promised_sound(container, stream)
    if decoded == 0:
        raise MediaError("has no sound in it: it is empty")
    if decoded < promised - SOUND_SLACK:
        raise MediaError(f"is truncated or damaged: {decoded:.2f} of {promised:.2f} s of sound decode")
