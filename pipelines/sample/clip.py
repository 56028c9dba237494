"""From a dialogue to a clip: the speaker's turns are spoken, and the face follows voice and mood.

The microphone and the camera are the speaker's: the listener's words are a pause in the clip and
have no times. The same script gives the same bytes on the same machine and library versions.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sample.face import Expression, Moment, draw_face
from pipelines.sample.script import Dialogue, Script
from pipelines.sample.voice import Voice, Wave
from pride_mm.files import PARTIAL

FPS, SIZE = 12, 192
_LEAD, _PAUSE, _TAIL = 0.35, 0.9, 0.45  # seconds
_TURNING = 0.4  # seconds that a change of mood takes


@dataclass(frozen=True)
class Take:
    """A dialogue as it is played: the sound, and (start, end) in seconds of each of the speaker's turns."""

    sound: Wave
    rate: int
    times: dict[int, tuple[float, float]]

    @property
    def seconds(self) -> float:
        """The length of the clip, a whole number of frames."""
        return int(np.ceil(len(self.sound) / self.rate * FPS)) / FPS


def speak(script: Script, dialogue: Dialogue, voice: Voice) -> Take:
    """Speak the speaker's turns, with pauses where the listener talks."""
    speaker, rate = script.speaker[dialogue.speaker], voice.rate
    parts: list[Wave] = [np.zeros(int(_LEAD * rate), np.float32)]
    times: dict[int, tuple[float, float]] = {}
    for number, words in enumerate(dialogue.say):
        if number % 2:
            parts.append(np.zeros(int(_PAUSE * rate), np.float32))
            continue
        begin = sum(map(len, parts)) / rate
        parts.append(voice.say(words, speaker.voice, speaker.pitch, script.mood[dialogue.mood(number)].voice))
        times[number] = (round(begin, 3), round(begin + len(parts[-1]) / rate, 3))
    parts.append(np.zeros(int(_TAIL * rate), np.float32))
    return Take(np.concatenate(parts), rate, times)


def draw(script: Script, dialogue: Dialogue, take: Take) -> list[NDArray[np.uint8]]:
    """Draw the frames of a take, (SIZE, SIZE, 3) RGB each."""
    look, count = script.speaker[dialogue.speaker].look, round(take.seconds * FPS)
    loudness, blinks = _loudness(take, count), _blinks(dialogue.id, count)
    frames = []
    for number in range(count):
        time = number / FPS
        mood = _expression(script, dialogue, take, time)
        # a feeling shows more while one speaks of it
        mood = script.mood[script.rest].face.mixed(mood, 0.8 + 0.2 * float(loudness[number]))
        moment = Moment(time=time, loudness=float(loudness[number]), blink=float(blinks[number]))
        frames.append(draw_face(look, mood, moment, SIZE))
    return frames


def _expression(script: Script, dialogue: Dialogue, take: Take, time: float) -> Expression:
    """The mood of the turn that is spoken or comes next; it changes in the pause before a turn."""
    turns = sorted(take.times)
    shown = script.mood[dialogue.mood(turns[0])].face
    for turn in turns[1:]:
        share = (time - (take.times[turn][0] - _TURNING)) / _TURNING
        shown = shown.mixed(script.mood[dialogue.mood(turn)].face, min(1.0, max(0.0, share)))
    return shown


def _loudness(take: Take, count: int) -> NDArray[np.float64]:
    """Loudness around each frame, from 0 to 1."""
    half = take.rate // FPS // 2
    padded = np.pad(take.sound, (half, take.rate))
    begins = (np.arange(count) / FPS * take.rate).astype(int)
    power = np.array([np.mean(np.square(padded[begin : begin + 2 * half])) for begin in begins])
    level = np.sqrt(power)
    full = float(np.percentile(level[level > 0], 90)) if (level > 0).any() else 1.0
    return np.asarray(np.clip(level / full, 0, 1) ** 0.7)


def _blinks(name: str, count: int) -> NDArray[np.float64]:
    """How far the eyes are shut in each frame; the rhythm is the dialogue's own."""
    chance, shut = random.Random(name), np.zeros(count)
    at = chance.uniform(0.5, 1.6)
    while at < count / FPS:
        first = int(at * FPS)
        shut[first : first + 2] = (1.0, 0.6)[: max(0, min(2, count - first))]
        at += chance.uniform(1.7, 3.2)
    return shut


def write_clip(path: Path, frames: list[NDArray[np.uint8]], take: Take) -> None:
    """Write an MP4 that browsers play (H.264 and AAC, moov first), whole or not at all."""
    import av
    from av.codec.context import Flags

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        options = {"fflags": "+bitexact", "movflags": "+faststart"}
        with av.open(str(partial), "w", format="mp4", container_options=options) as container:
            picture = container.add_stream("libx264", rate=FPS)
            picture.width = picture.height = SIZE
            picture.pix_fmt = "yuv420p"
            # one thread and no B-frames: the same bytes each time, and no edit list for decoders to trip over
            picture.options = {
                "crf": "25",
                "preset": "medium",
                "bf": "0",
                "g": str(2 * FPS),
                "x264-params": "threads=1",
            }
            sound = container.add_stream("aac", rate=take.rate, layout="mono")
            sound.bit_rate = 48_000
            for stream in (picture, sound):
                stream.codec_context.flags |= Flags.bitexact
                stream.codec_context.thread_count = 1
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
            for packet in _sound_packets(sound, take, len(frames)):
                container.mux(packet)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _sound_packets(sound: Any, take: Take, frames: int) -> Iterator[Any]:
    """The encoded sound, filled up with silence to the length of the picture."""
    import av

    wave = np.zeros(frames * take.rate // FPS, np.float32)
    spoken = take.sound[: len(wave)]
    wave[: len(spoken)] = spoken
    size = sound.codec_context.frame_size or 1024
    for begin in range(0, len(wave), size):
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + size], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = take.rate, begin, Fraction(1, take.rate)
        yield sound.encode(frame)
    yield sound.encode(None)
