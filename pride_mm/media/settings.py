"""How media are written into shards, and what is too large to be touched at all."""

from typing import Annotated, Literal

from pydantic import Field as Setting

from pride_mm.fields import Frozen

Positive = Annotated[int, Setting(ge=1)]


class VideoPacking(Frozen):
    """How a clip is written.

    Attributes:
        mode: ``copy`` keeps the stream as it is wherever every reader sees the same frames, cut on key frames;
            ``reencode`` makes a proxy that is cheap to decode; ``frames`` keeps only the frames a student sees.
        short_side: pixels, never enlarged; None keeps the size.
        fps: frames a second, never more than there are; None keeps them all.
        gop: at most so many frames from key frame to key frame: what a reader that jumps has to decode. Where the
            student's own frames fall there are key frames, too.
        crf: x264's constant rate factor; lower is better and larger.
        image: what a frame is kept as in mode ``frames``.
        quality: of such an image, 1 to 100.
    """

    mode: Literal["copy", "reencode", "frames"] = "reencode"
    short_side: Annotated[int, Setting(ge=16, le=4320)] | None = None
    fps: Annotated[float, Setting(gt=0, le=240)] | None = None
    gop: Positive = 8
    crf: Annotated[int, Setting(ge=0, le=51)] = 23
    image: Literal["jpeg", "webp"] = "jpeg"
    quality: Annotated[int, Setting(ge=1, le=100)] = 85


class AudioPacking(Frozen):
    """How sound is written; always one channel at the rate that the schema's field asks for.

    Attributes:
        codec: ``flac`` keeps every sample, ``opus`` is a seventh of its size.
        channel: all channels mixed, or one side of a stereo recording that has a speaker on each.
        loudness: the integrated loudness it is brought to, in LUFS (ITU-R BS.1770); None leaves it.
    """

    codec: Literal["flac", "opus"] = "flac"
    channel: Literal["mix", "left", "right"] = "mix"
    loudness: Annotated[float, Setting(ge=-70, le=0)] | None = None


class MediaLimits(Frozen):
    """What is refused before it is decoded: pixels of a frame, seconds of a cut, bytes of a file."""

    max_pixels: Positive = 4096 * 2304
    max_seconds: Annotated[float, Setting(gt=0)] = 600.0
    max_bytes: Positive = 4 * 1024**3
