"""The pictures of a clip or of a part of it, still compressed: what is shown when, and how to decode little.

Packets are read once and kept. From the frames that are wanted follows which packets have to be
decoded: from the key frame before each to the frame itself, without those that no other needs.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any, TypeVar

import av

from pride_mm.media.container import LIMITS, MediaError, check_seconds, container_name, promised_frames, video_stream
from pride_mm.media.settings import MediaLimits

Drawn = TypeVar("Drawn")
# A transcript's end may lie a little behind the recording's.
END_SLACK = 1.0
# A time that was rounded in JSON still means its frame.
_ROUNDING = 1e-3
_AVI_SLACK = 2  # AVI counts packets that hold no picture
_REORDERED = ("h264", "hevc")
# Where a seek lands behind the start, as by a late key frame, it goes back so many seconds more.
_STEPS_BACK = (0.0, 1.0, 10.0)


def check_cut(start: float | None, end: float | None, duration: float) -> tuple[float, float | None]:
    """The cut in seconds; refuses one that lies outside of ``duration``."""
    begin = start or 0.0
    if end is not None and end <= begin:
        raise MediaError(f"the cut ends at {end:g} s, before its start at {begin:g} s")
    if begin >= duration or (end is not None and end > duration + END_SLACK):
        last = f"{end:g}" if end is not None else "the end"
        raise MediaError(f"the cut from {begin:g} to {last} s lies outside: it is {duration:.2f} s long")
    return begin, end


class Track:
    """The packets of the pictures shown from ``start`` to ``end`` seconds of a container.

    Attributes:
        stream: PyAV's.
        packets: in the order of decoding, from a key frame on.
        times: when each frame of the part is shown, in ticks of the stream, ascending.
        origin: the tick at which the part begins; second 0 is the container's start, not the first frame's.
        seconds: how long the part is.

    Raises:
        MediaError: there are no pictures, the part lies outside or is too long, or its packets end too early.
    """

    def __init__(
        self, container: Any, start: float | None = None, end: float | None = None, limits: MediaLimits = LIMITS
    ) -> None:
        stream = video_stream(container)
        if stream is None:
            raise MediaError("has no pictures")
        context = stream.codec_context
        if container_name(container) == "avi" and context.name in _REORDERED and context.has_b_frames:
            raise MediaError(
                "is H.264 or H.265 with B-frames in an AVI, which has no times for them: make an mp4 of it"
            )
        self.container, self.stream = container, stream
        self.tick = stream.time_base
        zero = (container.start_time or 0) / av.time_base
        whole = _header_seconds(container, stream)
        self.whole = start is None and end is None
        begin, stop = check_cut(start, end, whole) if whole else (start or 0.0, end)
        check_seconds((whole if stop is None else stop) - begin, limits)
        self.origin = round((zero + begin) / self.tick)
        self.read = 0
        self.packets = self._read(begin, None if stop is None else zero + stop, limits)
        low = self.origin - _ROUNDING / self.tick if begin else float("-inf")
        high = float("inf") if stop is None else (zero + stop - _ROUNDING) / self.tick
        self.times = sorted(p.pts for p in self.packets if not p.is_discard and low <= p.pts < high)
        if not self.times:
            raise MediaError("has no frame in it" if self.whole else f"has no frame in the cut from {begin:g} s on")
        self._refuse_truncated(begin, stop)
        self.origin = min(self.origin, self.times[0])
        seconds = float((self.times[-1] + self._length(self.times[-1]) - self.origin) * self.tick)
        self.seconds = seconds if stop is None else min(seconds, stop - begin)

    def _read(self, begin: float, stop: float | None, limits: MediaLimits) -> list[Any]:
        packets: list[Any] = []
        for back in (*_STEPS_BACK, begin) if begin else (None,):
            if back is not None:
                self.container.seek(self.origin - int(min(back, begin) / self.tick), stream=self.stream, backward=True)
            packets = self._until(stop, limits)
            if packets and packets[0].pts <= self.origin:
                break
        return packets

    def _until(self, stop: float | None, limits: MediaLimits) -> list[Any]:
        """From the first key frame on, up to the packet that is decoded no earlier than ``stop`` is shown."""
        packets: list[Any] = []
        self.read = 0
        last = float("inf") if stop is None else stop / self.tick
        longest = limits.max_seconds / self.tick
        for packet in self.container.demux(self.stream):
            if packet.size == 0:
                continue
            self.read += 1
            if packet.pts is None:
                raise MediaError("has frames without a time")
            if not packets and not packet.is_keyframe:
                continue
            if (packet.pts if packet.dts is None else packet.dts) >= last:
                break
            if packets and packet.pts < packets[0].pts and not packet.is_discard:
                continue  # leads a key frame, but needs the frames before it
            if packet.pts - self.origin > longest + 1 / self.tick:
                check_seconds(float((packet.pts - self.origin) * self.tick), limits)
            packets.append(packet)
        return packets

    def _length(self, time: int) -> int:
        found = next(p.duration for p in self.packets if p.pts == time) or 0
        rate = self.stream.average_rate
        return int(found or (1 / rate / self.tick if rate else 0))

    def _refuse_truncated(self, begin: float, stop: float | None) -> None:
        if self.whole:
            promised = promised_frames(self.container, self.stream)
            if self.read + (0 if container_name(self.container) == "mp4" else _AVI_SLACK) < promised:
                raise MediaError(f"is truncated or damaged: {self.read} of {promised} frames are there")
        elif self.stream.duration:
            ends = float(((self.stream.start_time or 0) + self.stream.duration - self.origin) * self.tick)
            wanted = ends if stop is None else min(ends, stop - begin)
            reached = float((self.times[-1] - self.origin) * self.tick)
            gaps = (later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False))
            if reached + END_SLACK + float(max(gaps, default=0) * self.tick) < wanted:
                raise MediaError(f"is truncated or damaged: its pictures end {reached:.2f} s into {wanted:.2f} s")

    def frames(self, wanted: Iterable[int]) -> Iterator[Any]:
        """Decode the frames shown at ``wanted`` ticks, in their order.

        Raises:
            MediaError: one of them doesn't decode.
        """
        context = self.stream.codec_context
        skips = context.name == "h264"  # others may need a frame that says nobody does
        missing = set(wanted)
        count = len(missing)
        for needed, packets in self._runs(missing.copy()):
            for packet in packets:
                if skips:
                    context.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
                yield from _taken(packet.decode(), missing)
            yield from _taken(context.decode(None), missing)
            context.flush_buffers()
        if missing:
            raise MediaError(f"is truncated or damaged: {count - len(missing)} of {count} wanted frames decode")

    def pictures(self, wanted: Iterable[int], draw: Callable[[Any], Drawn]) -> dict[int, Drawn]:
        """A few frames, drawn, by their ticks; where jumping to key frames fails, everything is decoded once."""
        ticks = set(wanted)
        try:
            return {frame.pts: draw(frame) for frame in self.frames(ticks)}
        except MediaError:
            self.stream.codec_context.flush_buffers()
            every = [time for time in self.times if time <= max(ticks)]
            with suppress(MediaError):
                return {frame.pts: draw(frame) for frame in self.frames(every) if frame.pts in ticks}
            raise

    def _runs(self, wanted: set[int]) -> Iterator[tuple[set[int], list[Any]]]:
        """The wanted ticks and the packets of each stretch that has to be decoded, from a key frame on."""
        begin: int | None = None
        last = 0
        ticks: set[int] = set()
        for key, stop in self._groups():
            here = [place for place in range(key, stop) if self.packets[place].pts in wanted]
            if not here:
                if begin is not None:
                    yield ticks, self.packets[begin : last + 1]
                    begin, ticks = None, set()
                continue
            # a frame that is decoded behind a key frame and shown before it needs the group before
            if begin is None:
                open_end = any(self.packets[place].pts < self.packets[key].pts for place in here)
                begin = self._key_before(key) if open_end else key
            last = here[-1]
            ticks |= {self.packets[place].pts for place in here}
        if begin is not None:
            yield ticks, self.packets[begin : last + 1]

    def _groups(self) -> Iterator[tuple[int, int]]:
        keys = [place for place, packet in enumerate(self.packets) if packet.is_keyframe]
        yield from zip(keys, [*keys[1:], len(self.packets)], strict=True)

    def _key_before(self, place: int) -> int:
        return max((p for p in range(place) if self.packets[p].is_keyframe), default=0)


def _taken(frames: Iterable[Any], missing: set[int]) -> Iterator[Any]:
    for frame in frames:
        if frame.pts in missing:
            missing.discard(frame.pts)
            yield frame


def _header_seconds(container: Any, stream: Any) -> float:
    """How long the clip is by its header, 0 where it doesn't say."""
    if container.duration:
        return float(container.duration / av.time_base)
    return float(stream.duration * stream.time_base) if stream.duration else 0.0


def shown_at(times: list[int], ticks: Iterable[float], slack: float | Fraction = 0) -> list[int]:
    """The frame that is on the screen at each tick: the last one no later, or the first of all."""
    return [times[max(bisect_right(times, tick + slack) - 1, 0)] for tick in ticks]


def spaced(frames: int, count: int) -> list[int]:
    """The middle frame of each of ``count`` equal parts of a clip of ``frames`` frames."""
    return [int((part + 0.5) * frames / count) for part in range(count)]
