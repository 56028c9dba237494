"""Clips as every browser plays them: what is so already is left alone, the rest is encoded anew.

The rule is Label Studio's own advice: mp4 with H.264, 8 bits a colour, upright, and AAC; sound by itself
in a container that browsers know. Second ``t`` of the copy is second ``t`` of the original, counted
from the start of its container, however late its sound or its pictures begin.
"""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pride_mm.media.container import MediaError, MediaInfo, audio_stream, opened, probe, video_stream
from pride_mm.media.convert import is_plain
from pride_mm.media.recording import encode_flac
from pride_mm.media.sound import read_part
from pride_mm.media.track import check_cut

_SOUNDS = ("aac", "mp3", "mp3float", "flac", "opus", "vorbis")
_RAW_SOUNDS = ("pcm_s16le", "pcm_u8", "pcm_s24le", "pcm_f32le")
_SOUND_FILES = ("mp3", "wav", "flac", "ogg", "mp4")
_LATE = 0.03  # seconds; a browser draws the waveform of sound that starts later from its first sample on
_LONG = 120.0  # seconds; of a longer clip the page loads the sound alone
_SLACK = 2  # frames; AVI counts packets that hold no picture
_HIGHEST = 720  # pixels; the page shows no more
_RATE = 48000


def video_plays(source: Path) -> bool:
    """Whether every browser plays a clip as it is; raises MediaError where it is broken or has no pictures."""
    info = probe(source)
    if info.video is None:
        raise MediaError("holds no video")
    if info.container == "mp4" and info.video.stored > info.video.frames + info.video.hidden:
        raise MediaError(f"is truncated or damaged: {info.video.frames} of {info.video.stored} frames are there")
    with opened(source) as container:
        quicktime = str(container.metadata.get("major_brand", "")).startswith("qt")
    return is_plain(info) and not quicktime and _pages_sound(info)


def _pages_sound(info: MediaInfo) -> bool:
    return info.audio is None or info.audio.codec in ("aac", "mp3", "mp3float")


def sound_plays(source: Path) -> bool:
    """Whether every browser plays a file's sound as it is, and draws its waveform in the right place.

    Raises:
        MediaError: it is broken, or has no sound.
    """
    info = probe(source)
    if info.audio is None:
        raise MediaError("holds no audio")
    if info.audio.duration <= 0:
        raise MediaError("has no sound in it: it is empty")
    known = _SOUNDS + (_RAW_SOUNDS if info.container == "wav" else ())
    if info.container not in _SOUND_FILES or info.audio.codec not in known:
        return False
    if info.video is not None and (info.video.duration > _LONG or not video_plays(source)):
        return False
    return _late(source) < _LATE


def _late(source: Path) -> float:
    """By how many seconds the sound starts after its container."""
    with opened(source) as container:
        stream = audio_stream(container)
        packet = next((p for p in container.demux(stream) if p.size and p.pts is not None), None)
        if packet is None:
            return 0.0
        return float(packet.pts * packet.time_base) - (container.start_time or 0) / av.time_base


def write_sound(source: Path, target: Path, rate: int, start: float | None, end: float | None) -> None:
    """Write a file's sound as mono FLAC at ``rate`` Hz, whole or from ``start`` to ``end`` seconds."""
    info = probe(source)
    if info.audio is None:
        raise MediaError("holds no audio")
    length = max(info.audio.duration, info.video.duration if info.video else 0.0) + max(_late(source), 0.0)
    begin, stop = check_cut(start, end, length)
    target.write_bytes(encode_flac(read_part(source, rate, begin, stop), rate))


def write_video(source: Path, target: Path, start: float | None, end: float | None) -> None:
    """Write a clip as mp4 with H.264 and AAC, whole or from ``start`` to ``end`` seconds, frame by frame.

    Raises:
        MediaError: it has no pictures, does not decode, or the cut lies outside.
    """
    info = probe(source)
    if info.video is None:
        raise MediaError("holds no video")
    begin, stop = check_cut(start, end, max(info.video.duration, info.audio.duration if info.audio else 0.0))
    with opened(source) as given:
        origin = (given.start_time or 0) / av.time_base + begin
        length = None if stop is None else stop - begin
        with av.open(os.fspath(target), "w", format="mp4", options={"movflags": "+faststart"}) as made:
            pictures, sound = video_stream(given), audio_stream(given)
            assert pictures is not None
            seen = _Pictures(made, pictures, origin, length)
            writers: dict[int, _Pictures | _Sound] = {pictures.index: seen}
            if sound is not None:
                writers[sound.index] = _Sound(made, sound, origin, length)
            if begin > 0:
                given.seek(int(origin * av.time_base), backward=True)
            for packet in given.demux([stream for stream in (pictures, sound) if stream is not None]):
                for frame in packet.decode():
                    writers[packet.stream.index].write(frame)
            for writer in writers.values():
                writer.close()
            if not seen.count:
                raise MediaError("has no frame in it")
            _require_all(info, seen.count, cut=start is not None or end is not None)


def _require_all(info: MediaInfo, frames: int, cut: bool) -> None:
    assert info.video is not None
    promised = info.video.stored - info.video.hidden if info.video.stored else info.video.frames
    if not cut and frames < promised - _SLACK:
        raise MediaError(f"is truncated or damaged: {frames} of {promised} frames decode")


class _Pictures:
    """The pictures of a copy: upright, 8 bits, at most ``_HIGHEST`` pixels high, at the times they had."""

    def __init__(self, made: Any, given: Any, origin: float, length: float | None) -> None:
        rate = min(float(given.average_rate or 25), 120.0)
        self.made, self.origin, self.length, self.count = made, origin, length, 0
        options = {"preset": "veryfast", "crf": "23", "g": str(max(1, round(rate)) * 2)}
        self.stream = made.add_stream("libx264", rate=Fraction(round(rate * 1000), 1000), options=options)
        self.stream.pix_fmt = "yuv420p"
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, 90000)
        self.last = -1

    def write(self, frame: Any) -> None:
        time = float(frame.time or 0.0) - self.origin
        # half a millisecond, so that a time which was rounded in JSON still means its frame
        if time < -5e-4 or (self.length is not None and time >= self.length - 5e-4):
            return
        picture = upright(frame)
        if not self.count:
            share = min(1.0, _HIGHEST / picture.height)
            self.stream.width = max(2, round(picture.width * share) // 2 * 2)
            self.stream.height = max(2, round(picture.height * share) // 2 * 2)
        ready = picture.reformat(width=self.stream.width, height=self.stream.height, format="yuv420p")
        ready.time_base = self.stream.time_base
        self.last = ready.pts = max(round(time * 90000), self.last + 1)
        ready.pict_type = 0
        self.count += 1
        self.made.mux(self.stream.encode(ready))

    def close(self) -> None:
        if self.count:
            self.made.mux(self.stream.encode(None))


class _Sound:
    """The sound of a copy. Silence stands where the original has none: before it starts, and in its gaps."""

    def __init__(self, made: Any, given: Any, origin: float, length: float | None) -> None:
        layout = "mono" if given.codec_context.channels == 1 else "stereo"
        self.made, self.origin, self.samples = made, origin, 0
        self.length = None if length is None else round(length * _RATE)
        self.stream = made.add_stream("aac", rate=_RATE, layout=layout)
        self.resampler = av.AudioResampler(format="fltp", layout=layout, rate=_RATE)
        self.channels = 1 if layout == "mono" else 2
        self.layout = layout

    def write(self, frame: Any) -> None:
        time = float(frame.time or 0.0) - self.origin
        frame.pts = None
        for piece in self.resampler.resample(frame):
            sound = piece.to_ndarray()
            gap = round(time * _RATE) - self.samples
            if gap < 0 and self.samples == 0:
                sound = sound[:, -gap:]
            elif gap > _RATE // 20:  # less than that is rounding
                self._put(np.zeros((self.channels, gap), np.float32))
            self._put(sound)
            time += piece.samples / _RATE

    def _put(self, sound: Any) -> None:
        if self.length is not None:
            sound = sound[:, : max(0, self.length - self.samples)]
        for piece in _pieces(sound):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=self.layout)
            frame.rate, frame.pts, frame.time_base = _RATE, self.samples, Fraction(1, _RATE)
            self.samples += piece.shape[1]
            self.made.mux(self.stream.encode(frame))

    def close(self) -> None:
        for piece in self.resampler.resample(None):
            self._put(piece.to_ndarray())
        if self.samples:
            self.made.mux(self.stream.encode(None))


def _pieces(sound: Any, size: int = 1024) -> Iterator[Any]:
    for begin in range(0, sound.shape[1], size):
        yield sound[:, begin : begin + size]


def upright(frame: Any) -> Any:
    """A frame turned as its container says."""
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    picture = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def frames_a_second(source: Path) -> float:
    """The rate at which the page counts frames; times are what they are whatever it is."""
    with opened(source) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaError("holds no video")
        if not stream.average_rate:
            raise MediaError("does not say its frames a second")
        return round(min(float(stream.average_rate), 120.0), 6)
