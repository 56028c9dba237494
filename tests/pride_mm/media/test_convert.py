from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pride_mm.media import MediaError, VideoPacking, convert_audio, convert_video, probe, read_audio, read_frames
from pride_mm.media.convert import is_plain
from pride_mm.media.decoders import pyav

COPY = VideoPacking(mode="copy")


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.float() - other.float()).abs().mean().item()


def test_a_plain_clip_is_copied(clip: Path) -> None:
    made = convert_video(clip, COPY)
    assert made.data == clip.read_bytes()
    assert (made.frames, round(made.seconds, 2)) == (50, 3.33)


def test_a_cut_begins_at_its_frame_and_is_plain(clip: Path) -> None:
    made = convert_video(clip, COPY, start=1.0, end=2.0)
    assert made.frames == 15
    assert is_plain(probe(made.data))
    assert far(pyav.decode(made.data, [0, 14], 15), pyav.decode(clip, [15, 29], 50)) < 4
    assert far(pyav.decode(made.data, [0], 15), pyav.decode(clip, [18], 50)) > far(
        pyav.decode(made.data, [0], 15), pyav.decode(clip, [15], 50)
    )
    assert made == convert_video(clip, COPY, start=1.0, end=2.0)


def test_what_is_not_plain_becomes_plain(
    remux: Callable[..., Path], edited: Path, rotated: Path, av1: bytes, clip: Path
) -> None:
    for source, frames in ((remux(".mkv"), 50), (remux(".ts"), 50), (edited, 38), (rotated, 50), (av1, 12)):
        made = convert_video(source, COPY)
        info = probe(made.data)
        assert is_plain(info)
        assert made.frames == frames
        assert far(read_frames(made.data, 4, 96), read_frames(source, 4, 96)) < 6


def test_sound_is_cut_to_the_sample(clip: Path, remux: Callable[..., Path]) -> None:
    made = convert_audio(clip, 16000, start=1.0, end=2.5)
    sound = read_audio(made.data, 16000)
    assert len(sound) == 24000
    assert (sound - read_audio(clip, 16000)[16000:40000]).abs().max() < 0.02
    assert made == convert_audio(clip, 16000, start=1.0, end=2.5)
    assert probe(made.data).container == "flac"


def test_a_cut_that_lies_outside_is_refused(clip: Path) -> None:
    with pytest.raises(MediaError, match=r"lies outside: it is 3\.39 s long"):
        convert_video(clip, COPY, start=5.0, end=6.0)
    with pytest.raises(MediaError, match="lies outside"):
        convert_audio(clip, 16000, start=0.0, end=60.0)
    with pytest.raises(MediaError, match="before its start"):
        convert_video(clip, COPY, start=2.0, end=1.0)
