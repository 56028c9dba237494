import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pride_mm.media import MediaError, probe, verify


def wav(samples: int, promised: int | None = None) -> bytes:
    size = 2 * (samples if promised is None else promised)
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", size
    )
    return header + bytes(2 * samples)


def test_probe_tells_pictures_and_sound_apart(clip: Path, data_dir: Path) -> None:
    info = probe(clip)
    assert info == probe(clip.read_bytes())
    assert info.video is not None
    assert info.audio is not None
    assert (info.container, info.video.codec, info.video.width, info.video.height) == ("mp4", "h264", 426, 240)
    assert (info.video.frames, round(info.video.fps), info.audio.rate, info.audio.channels) == (50, 15, 16000, 1)
    assert info.video.duration == pytest.approx(50 / 15, abs=0.01)
    assert info.audio.duration == pytest.approx(3.3, abs=0.1)
    sound = probe(sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[0])
    assert sound.video is None
    assert sound.container == "flac"


def test_every_mosi_clip_has_the_frames_its_manifest_says(data_dir: Path) -> None:
    import csv

    with (data_dir / "mosi_mini" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))[::10]
    for row in rows:
        video = probe(data_dir / "mosi_mini" / row["file"]).video
        assert video is not None
        assert (video.frames, video.width) == (int(row["frames"]), int(row["width"]))


def test_half_of_a_clip_is_found_out_by_its_frames(remux: Callable[..., Path]) -> None:
    whole = remux(movflags="+faststart").read_bytes()
    assert verify(whole, video=True, audio=True).video is not None
    half = whole[: len(whole) // 2]
    assert probe(half).video is not None  # FFmpeg sees nothing wrong
    with pytest.raises(MediaError, match=r"truncated or damaged: \d+ of 50 frames"):
        verify(half, video=True)
    with pytest.raises(MediaError, match=r"truncated or damaged: \d\.\d\d of 3\.\d\d s of sound"):
        verify(half, audio=True)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_clip_without_its_end_is_refused(clip: Path, kept: float) -> None:
    data = clip.read_bytes()
    with pytest.raises(MediaError):
        verify(data[: int(len(data) * kept)], video=True)


@pytest.mark.parametrize(
    "junk", [b"", b"just text\n" * 4000, bytes(5000), wav(0)], ids=["empty", "text", "zeros", "wav"]
)
def test_junk_is_refused_shortly_and_silently(junk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MediaError) as caught:
        verify(junk, audio=True)
    assert len(str(caught.value)) < 120
    assert capfd.readouterr() == ("", "")


def test_broken_bytes_anywhere_are_media_errors_or_nothing(clip: Path) -> None:
    data = clip.read_bytes()
    moov = data.index(b"moov")
    refused = 0
    for place in range(moov, moov + 1200, 40):
        broken = data[:place] + b"\xff\xfe\x80" + data[place + 3 :]
        try:
            verify(broken, video=True)
        except MediaError:
            refused += 1
    assert refused


def test_a_missing_stream_and_a_missing_file_are_named(remux: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has no sound"):
        verify(remux(streams="v"), audio=True)
    with pytest.raises(MediaError, match="has no pictures"):
        verify(remux(streams="a"), video=True)
    with pytest.raises(MediaError, match="no such file") as caught:
        probe(tmp_path / "absent.mp4")
    assert str(tmp_path) not in str(caught.value)


def test_a_short_wav_is_found_out(data_dir: Path) -> None:
    assert verify(wav(8000), audio=True).audio is not None
    flac = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[0].read_bytes()
    with pytest.raises(MediaError):
        verify(flac[: len(flac) // 2], audio=True)


def test_an_edit_list_hides_frames(edited: Path) -> None:
    info = probe(edited)
    assert info.video is not None
    assert (info.video.frames, info.video.hidden, info.video.stored) == (38, 12, 50)
    assert verify(edited, video=True) == info


def test_rotation_turns_the_shape(rotated: Path) -> None:
    video = probe(rotated).video
    assert video is not None
    assert (video.width, video.height) == (240, 426)
    assert video.rotation in (90, 270)
