from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.media import MediaLimits, VideoPacking, convert_video, probe
from pride_mm.media.boxes import read_plain
from pride_mm.media.convert import is_plain

LIMITS = MediaLimits()


def test_it_says_what_ffmpeg_says_of_real_clips(data_dir: Path) -> None:
    sources = sorted((data_dir / "mosi_mini" / "clips").glob("*.mp4"))[::12]
    for source in [*sources, *sorted((data_dir / "ravdess").glob("*/*.mp4"))[::12]]:
        found, info = read_plain(source.read_bytes(), LIMITS), probe(source)
        assert is_plain(info) == (found is not None)
        if found is not None:
            assert info.video is not None
            assert (found.frames, found.width, found.height) == (
                info.video.frames,
                info.video.width,
                info.video.height,
            )
            assert found.seconds == pytest.approx(info.video.duration, abs=1e-3)


def test_what_readers_read_differently_is_not_plain(
    clip: Path, edited: Path, rotated: Path, av1: bytes, remux: Callable[..., Path]
) -> None:
    assert read_plain(remux().read_bytes(), LIMITS) is not None
    assert read_plain(convert_video(clip, VideoPacking()).data, LIMITS) is not None  # type: ignore[arg-type]
    fragmented = remux(movflags="frag_keyframe+empty_moov").read_bytes()
    for odd in (edited.read_bytes(), rotated.read_bytes(), av1, fragmented, remux(".mkv").read_bytes(), b"", b"text"):
        assert read_plain(odd, LIMITS) is None


def test_limits_hold_before_anything_is_decoded(clip: Path) -> None:
    data = clip.read_bytes()
    assert read_plain(data, MediaLimits(max_pixels=426 * 240 - 1)) is None
    assert read_plain(data, MediaLimits(max_seconds=3)) is None


def test_a_truncated_clip_is_not_plain_wherever_it_ends(clip: Path, remux: Callable[..., Path]) -> None:
    for data in (clip.read_bytes(), remux(movflags="+faststart").read_bytes()):
        for kept in range(0, 1000, 37):
            assert read_plain(data[: len(data) * kept // 1000], LIMITS) is None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_broken_tables_are_refused_or_still_bounded(data: st.DataObject, clip: Path) -> None:
    given_bytes = bytearray(clip.read_bytes())
    moov = given_bytes.index(b"moov")
    place = data.draw(st.integers(moov, min(moov + 1500, len(given_bytes) - 4)))
    given_bytes[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    found = read_plain(bytes(given_bytes), LIMITS)
    assert found is None or (0 < found.frames <= len(given_bytes) and found.seconds <= LIMITS.max_seconds)
