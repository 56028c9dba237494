"""The pictures of a clip written anew: as H.264 that is cheap to decode, as single pictures, or its own packets.

The same packets, settings and versions give the same bytes: one thread, and nothing that says when.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from pride_mm.media.container import MediaError
from pride_mm.media.settings import VideoPacking
from pride_mm.media.track import Track, shown_at, spaced

_MP4 = {"fflags": "+bitexact", "use_editlist": "0"}
# No frame waits for a later one, and none is filtered or packed more tightly than a reader wants to undo: a third
# to a half of the decoder's time for a tenth more bytes.
# x264's macroblock tree gives other bytes, now and then, for the same pictures: up to one small clip in ten, wherever
# memory isn't fresh. Without it, 200 of 200 were the same.
_X264 = {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "threads": "1", "x264-params": "threads=1:mbtree=0"}
_PARTS = 1000
_SLACK = Fraction(1, 1000)  # seconds; a frame that is rounded to just after its tick is shown at it


@dataclass(frozen=True)
class _Shape:
    """What a picture becomes: ``width`` and ``height`` as stored, then ``turns`` quarters counter-clockwise."""

    width: int
    height: int
    turns: int

    def draw(self, frame: Any, format: str) -> Any:
        if not self.turns:
            return frame.reformat(self.width, self.height, format, interpolation="BICUBIC")
        flat = frame.reformat(self.width, self.height, "rgb24", interpolation="BICUBIC").to_ndarray()
        turned = np.ascontiguousarray(np.rot90(flat, self.turns))
        return av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format=format)


def _shape(frame: Any, track: Track, short_side: int | None) -> _Shape:
    """Square pixels, even sides, no side enlarged."""
    wide = frame.width * float(track.stream.sample_aspect_ratio or 1)
    share = min(1.0, short_side / min(wide, frame.height)) if short_side else 1.0
    if wide > frame.width:  # pixels are made square by shrinking
        share, wide = min(share, 1.0), wide
    width, height = (max(2, round(side * share / 2) * 2) for side in (wide, frame.height))
    return _Shape(width, min(height, max(2, frame.height // 2 * 2)), round(frame.rotation / 90) % 4)


def to_mp4(track: Track, settings: VideoPacking, pictures: int) -> tuple[bytes, float, int]:
    """An mp4 with H.264 from time 0 without an edit list; its seconds, and how many frames.

    The ``pictures`` frames that a student looks at are key frames: they are decoded without any other.
    """
    plan, tick = _plan(track, settings.fps)
    lengths = dict(place for places in plan.values() for place in places)
    shown = sorted(lengths)
    keys = {shown[index] for index in spaced(len(shown), pictures)}
    buffer = io.BytesIO()
    written = 0
    with av.open(buffer, "w", format="mp4", container_options=_MP4) as made:
        stream: Any = None
        shape: _Shape | None = None
        for frame in track.frames(plan):
            if shape is None:
                shape = _shape(frame, track, settings.short_side)
                stream = _stream(made, track, shape, settings, tick)
            ready = shape.draw(frame, "yuv420p")
            for time, _ in plan[frame.pts]:
                ready.pts, ready.time_base = time, tick
                ready.pict_type = PictureType.I if time in keys else PictureType.NONE
                written += _mux(made, stream, ready, lengths)
        written += _mux(made, stream, None, lengths)
    if written != len(lengths):
        raise MediaError(f"is damaged: {written} of {len(lengths)} frames could be encoded")
    return buffer.getvalue(), float(max(time + length for time, length in lengths.items()) * tick), written


def _mux(made: Any, stream: Any, frame: Any, lengths: dict[int, int]) -> int:
    packets = stream.encode(frame)
    for packet in packets:
        packet.duration = lengths[packet.pts]
    made.mux(packets)
    return len(packets)


def _plan(track: Track, fps: float | None) -> tuple[dict[int, list[tuple[int, int]]], Fraction]:
    """For each tick to decode, when it is shown in the new clip and how long; and the new clip's tick."""
    times, origin = track.times, track.origin
    if fps is None or len(times) <= fps * track.seconds * 1.001:
        starts = [0, *(time - origin for time in times[1:])]
        end = max(round(track.seconds / track.tick), starts[-1] + 1)
        ends = [*starts[1:], end]
        return {t: [(b, e - b)] for t, b, e in zip(times, starts, ends, strict=True)}, track.tick
    rate = Fraction(fps).limit_denominator(1001)
    tick = 1 / (rate * _PARTS)  # the last frame may be shown for a part of a frame's time
    end = round(track.seconds / tick)
    begins = range(0, max(end - round(_SLACK / tick), 1), _PARTS)
    shown = shown_at(times, [origin + float(start * tick / track.tick) for start in begins], _SLACK / track.tick)
    plan: dict[int, list[tuple[int, int]]] = {}
    for time, start in zip(shown, begins, strict=True):
        plan.setdefault(time, []).append((start, min(_PARTS, max(end - start, 1))))
    return plan, tick


def _stream(made: Any, track: Track, shape: _Shape, settings: VideoPacking, tick: Fraction) -> Any:
    rate = Fraction(len(track.times) / track.seconds if settings.fps is None else settings.fps)
    options = _X264 | {"crf": str(settings.crf), "g": str(settings.gop)}
    stream = made.add_stream("libx264", rate=rate.limit_denominator(1001), options=options)
    width, height = (shape.height, shape.width) if shape.turns % 2 else (shape.width, shape.height)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context, given = stream.codec_context, track.stream.codec_context
    if not shape.turns:  # what was turned went through RGB, and has the defaults now
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(context, name, getattr(given, name))
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact
    stream.time_base = context.time_base = tick
    return stream


def to_pictures(track: Track, settings: VideoPacking, ticks: list[int]) -> tuple[bytes, ...]:
    """The frames at ``ticks`` as JPEG or WebP."""

    def draw(frame: Any) -> bytes:
        from PIL import Image

        shape = _shape(frame, track, settings.short_side)
        file = io.BytesIO()
        picture = Image.fromarray(shape.draw(frame, "rgb24").to_ndarray())
        picture.save(file, format=settings.image, quality=settings.quality)
        return file.getvalue()

    drawn = track.pictures(ticks, draw)
    return tuple(drawn[tick] for tick in ticks)


def to_packets(track: Track) -> bytes:
    """The packets as they are, in an mp4 from time 0 without an edit list."""
    buffer = io.BytesIO()
    options = _MP4 | {"movflags": "+negative_cts_offsets"}
    base = track.packets[0].pts
    with av.open(buffer, "w", format="mp4", container_options=options) as made:
        stream = made.add_stream_from_template(track.stream)
        for packet in track.packets:
            packet.pts -= base
            packet.dts -= base
            packet.stream = stream
            made.mux(packet)
    return buffer.getvalue()
