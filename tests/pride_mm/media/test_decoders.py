"""The three decoders against each other and against the ffmpeg program, which shares no code of ours."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pride_mm.media import MediaError, VideoPacking, convert_video, probe
from pride_mm.media.decoders import decord, pyav, torchcodec
from pride_mm.media.frames import decode

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg program")


def by_ffmpeg(source: Path, height: int, width: int) -> torch.Tensor:
    command = [FFMPEG, "-v", "error", "-i", str(source), "-fps_mode", "passthrough", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, height, width, 3).permute(0, 3, 1, 2)


def agree(source: Path) -> None:
    video = probe(source).video
    assert video is not None
    theirs = by_ffmpeg(source, video.height, video.width)
    assert len(theirs) == video.frames
    places = [int((part + 0.5) * video.frames / 6) for part in range(6)]
    for backend in ("torchcodec", "decord", "pyav"):
        for given in (source, source.read_bytes()):
            assert torch.equal(decode(given, 6, backend=backend), theirs[places]), backend


@needs_ffmpeg
def test_frames_of_real_clips_are_those_of_ffmpeg_by_bit(data_dir: Path) -> None:
    assert torchcodec.is_available()  # where there is ffmpeg, there are its libraries
    for folder in ("mosi_mini/clips", "ravdess/face20", "ravdess/av"):
        clips = sorted((data_dir / folder).glob("*.mp4"))
        for source in (clips[0], clips[len(clips) // 2]):
            agree(source)


@needs_ffmpeg
def test_frames_of_what_we_write_and_of_odd_containers_are_those_of_ffmpeg(
    clip: Path, edited: Path, rotated: Path, remux: Callable[..., Path], av1: bytes, tmp_path: Path
) -> None:
    made = {"proxy": VideoPacking(short_side=224, fps=8, gop=8), "small": VideoPacking(short_side=50)}
    sources = [edited, rotated, remux(".ts"), remux(".mkv")]
    for name, settings in made.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(convert_video(clip, settings).data)
        sources.append(path)
    (tmp_path / "av1.mp4").write_bytes(av1)
    for source in [*sources, tmp_path / "av1.mp4"]:
        agree(source)


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "20")
ODD = {  # by what the decoders were seen to get wrong, of each other's or of ffmpeg's frames
    "varying rate.mp4": ("-vf", "select='not(mod(n\\,3))+lt(n\\,10)'", "-fps_mode", "vfr", *X264),
    "vp9.webm": ("-t", "1", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1"),
    "mpeg4 with b frames.avi": ("-c:v", "mpeg4", "-bf", "2", "-threads", "1"),
    "h264.avi": (*X264, "-bf", "0"),
    "b frames.mp4": (*X264, "-bf", "3", "-b_strategy", "0"),
    "interlaced.mp4": (*X264, "-flags", "+ilme+ildct"),
    "full range.mp4": (*X264, "-pix_fmt", "yuvj420p"),
    "444 with odd sides.mp4": (*X264, "-vf", "scale=321:239", "-pix_fmt", "yuv444p"),
    "bt709 not square.mp4": (*X264, "-vf", "setsar=4/3", "-colorspace", "bt709"),
}


@needs_ffmpeg
@pytest.mark.parametrize("name", ODD)
def test_forms_that_decoders_get_wrong(clip: Path, tmp_path: Path, name: str) -> None:
    agree(by_program(clip, tmp_path / name, *ODD[name]))


def by_program(clip: Path, path: Path, *options: str) -> Path:
    subprocess.run([str(FFMPEG), "-v", "error", "-i", str(clip), "-an", *options, str(path)], check=True)
    return path


@needs_ffmpeg
def test_a_broadcast_that_begins_anywhere_and_a_file_that_was_piped(clip: Path, tmp_path: Path) -> None:
    stream = by_program(clip, tmp_path / "whole.ts", *X264).read_bytes()
    (tmp_path / "cut.ts").write_bytes(stream[188 * (len(stream) // 188 // 3) :])
    agree(tmp_path / "cut.ts")
    command = [str(FFMPEG), "-v", "error", "-i", str(clip), "-an", "-c", "copy", "-f", "matroska", "pipe:1"]
    (tmp_path / "no duration.mkv").write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    agree(tmp_path / "no duration.mkv")


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), [("h264", X264), ("h265", ("-c:v", "libx265", "-preset", "ultrafast"))])
def test_ten_bits_are_the_same_from_each_and_ffmpegs_but_for_rounding(
    clip: Path, tmp_path: Path, name: str, codec: tuple[str, ...]
) -> None:
    quiet = () if name == "h264" else ("-x265-params", "log-level=none:pools=1")
    source = by_program(clip, tmp_path / "deep.mp4", "-t", "1", *codec, *quiet, "-pix_fmt", "yuv420p10le")
    ours = [decode(source, 15, backend=backend) for backend in ("torchcodec", "decord", "pyav")]  # type: ignore[arg-type]
    assert torch.equal(ours[0], ours[1])
    assert torch.equal(ours[0], ours[2])
    apart = (ours[0].float() - by_ffmpeg(source, 240, 426).float()).abs()
    assert (apart.mean() < 0.5, apart.max() <= 10) == (True, True)


@needs_ffmpeg
def test_an_avi_whose_frames_have_no_order_is_refused_and_half_a_one_is_found_out(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="B-frames in an AVI"):
        decode(by_program(clip, tmp_path / "b.avi", "-c", "copy"), 4)
    half = by_program(clip, tmp_path / "whole.avi", *ODD["h264.avi"]).read_bytes()
    with pytest.raises(MediaError, match=r"truncated or damaged: \d+ of 50 frames"):
        decode(half[: len(half) // 2], 4)


def test_what_one_gets_wrong_is_not_given_to_it(edited: Path, remux: Callable[..., Path], av1: bytes) -> None:
    right = {}
    for name, source in {"edited": edited, "ts": remux(".ts"), "av1": av1, "mp4": remux()}.items():
        info = probe(source)
        assert info.video is not None
        right[name] = [d.suits(info.container, info.video) for d in (torchcodec, decord, pyav)]
    assert right == {
        "edited": [False, False, True],
        "ts": [False, False, True],
        "av1": [True, False, True],
        "mp4": [True, True, True],
    }


def test_jumping_to_a_frame_gives_the_frame_that_playing_gives(clip: Path) -> None:
    proxy = convert_video(clip, VideoPacking(gop=5)).data
    for source in (clip.read_bytes(), proxy):
        played = pyav.decode(source, list(range(50)), 50)
        for places in ([49], [3, 31], [0, 12, 13, 44], [7]):
            assert torch.equal(pyav.decode(source, places, 50), played[places])


@pytest.mark.parametrize("backend", ["torchcodec", "decord", "pyav"])
def test_a_clip_with_fewer_frames_than_were_packed_is_damaged(clip: Path, backend: str) -> None:
    with pytest.raises(MediaError, match=r"50 of 51 frames"):
        decode(clip.read_bytes(), 4, frames=51, backend=backend)  # type: ignore[arg-type]
