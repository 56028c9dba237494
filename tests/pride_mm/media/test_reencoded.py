"""Clips written anew, beside what the ffmpeg program shows of their sources: the same pictures at the same times."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from pride_mm.media import AudioPacking, VideoPacking, convert_audio, convert_video, probe, read_audio

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg program")

FINE = VideoPacking(short_side=120, fps=8, gop=8, crf=10)
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "20")
RAW = ("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
VARYING = ("-vf", "select='not(mod(n\\,3))+lt(n\\,10)'", "-fps_mode", "vfr")
ODD = {
    "varying rate.mp4": (*VARYING, *X264),
    "b frames.mp4": (*X264, "-bf", "3", "-b_strategy", "0"),
    "ten bits.mp4": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:pools=1",
        "-pix_fmt",
        "yuv420p10le",
    ),
    "full range.mp4": (*X264, "-pix_fmt", "yuvj420p"),
    "444 with odd sides.mp4": (*X264, "-vf", "scale=321:239", "-pix_fmt", "yuv444p"),
    "bt709 wide pixels.mp4": (*X264, "-vf", "scale=320:240,setsar=4/3", "-colorspace", "bt709"),
    "narrow pixels.mp4": (*X264, "-vf", "scale=426:240,setsar=3/4"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1"),
}


def run(*arguments: str | Path) -> bytes:
    return subprocess.run([str(FFMPEG), "-v", "error", *map(str, arguments)], capture_output=True, check=True).stdout


def shown(source: Path, width: int, height: int, *filters: str) -> torch.Tensor:
    """What the ffmpeg program shows, (T, height, width, 3); sound, covers and rates of its own left out."""
    chain = ",".join([*filters, f"scale={width}:{height}:flags=bicubic"])
    raw = run("-i", source, "-map", "0:V:0", "-fps_mode", "passthrough", "-vf", chain, *RAW)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, height, width, 3)


def the_same_is_shown(source: Path, tmp_path: Path) -> tuple[int, int]:
    """Ours beside ffmpeg's, at 8 frames a second; the width and height of ours."""
    made = convert_video(source, FINE)
    assert isinstance(made.data, bytes)
    (tmp_path / "made.mp4").write_bytes(made.data)
    video = probe(made.data).video
    assert video is not None
    # what is shown at each tick: where there are fewer frames than ticks, proxies keep them at their times
    ours, theirs = (
        shown(one, video.width, video.height, "fps=8:start_time=0:round=up") for one in (tmp_path / "made.mp4", source)
    )
    assert abs(len(ours) - len(theirs)) <= 1  # how long the last frame is shown, containers say in two ways
    frames = min(len(ours), len(theirs))
    error = (ours[:frames].float() - theirs[:frames].float()).square().mean((1, 2, 3))
    signal = 10 * torch.log10(255**2 / error)
    assert signal.min() > 32, signal
    return video.width, video.height


@pytest.mark.parametrize("name", ODD)
def test_a_proxy_shows_what_ffmpeg_shows(clip: Path, tmp_path: Path, name: str) -> None:
    run("-i", clip, "-an", *ODD[name], tmp_path / name)
    width, height = the_same_is_shown(tmp_path / name, tmp_path)
    wide = {"bt709 wide pixels.mp4": 16 / 9, "narrow pixels.mp4": 4 / 3, "444 with odd sides.mp4": 321 / 239}
    assert (min(width, height), width / height) == (120, pytest.approx(wide.get(name, 426 / 240), rel=0.01))


def test_turned_clips_whose_rate_varies(clip: Path, tmp_path: Path, turn: Callable[[Path], Path]) -> None:
    run("-i", clip, "-an", *VARYING, *X264, tmp_path / "varying.mp4")
    width, height = the_same_is_shown(turn(tmp_path / "varying.mp4"), tmp_path)
    assert (width, height) == (120, 212)


def test_a_cover_is_not_the_clip(clip: Path, tmp_path: Path) -> None:
    run("-f", "lavfi", "-i", "color=red:size=600x600", "-frames:v", "1", tmp_path / "cover.png")
    both = ("-i", clip, "-i", tmp_path / "cover.png", "-map", "0", "-map", "1", "-c", "copy")
    run(*both, "-disposition:v:1", "attached_pic", tmp_path / "covered.mp4")
    with av.open(str(tmp_path / "covered.mp4")) as container:
        assert len(container.streams.video) == 2
    the_same_is_shown(tmp_path / "covered.mp4", tmp_path)


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_sound_that_starts_late_keeps_its_time(clip: Path, tmp_path: Path, codec: str) -> None:
    run("-i", clip, "-itsoffset", "0.7", "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "late.mp4")
    made = convert_audio(tmp_path / "late.mp4", 16000, AudioPacking.model_validate({"codec": codec}))
    assert isinstance(made.data, bytes)
    heard = ("-vn", "-af", "aresample=16000:async=1:first_pts=0,pan=mono|c0=c0", "-f", "f32le", "pipe:1")
    theirs = torch.frombuffer(bytearray(run("-i", tmp_path / "late.mp4", *heard)), dtype=torch.float32)
    ours = read_audio(made.data, 16000)
    assert ours[: int(0.65 * 16000)].abs().max() < 1e-3
    spectrum = [torch.fft.rfft(sound, 2 * 65536) for sound in (ours[:65536], theirs[:65536])]
    lag = torch.fft.irfft(spectrum[0] * spectrum[1].conj()).argmax().item()
    assert min(lag, 2 * 65536 - lag) <= 32  # 2 ms
