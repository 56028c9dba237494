"""Clips on their way to the page: playable there, at the times they had, the original untouched."""

import hashlib
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from annotate.exchange.project import Project
from annotate.page.clips import Clips, frames_a_second
from annotate.page.playable import sound_plays, video_plays
from annotate.server.local import LocalServer, ask
from annotate.studio import Studio
from pride_mm.errors import SampleError, UserError
from pride_mm.media import read_audio
from pride_mm.records import Item
from pride_mm.schema import Field, Media, Schema

SECONDS, RATE = 3.0, 44100
FLASH = (1.2, 1.8)  # white pictures and a tone from here to there

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a clip of 3 s, black and still but for a flash with a tone."""

    def write(
        name: str = "clip.mp4", video: str | None = "libx264", audio: str | None = "aac", pixels: str = "yuv420p",
        fps: int = 25, skip: int = 0, late: float = 0.0, format: str | None = None,
    ) -> Path:  # fmt: skip
        path = tmp_path / name
        with av.open(str(path), "w", format=format) as made:
            pictures = made.add_stream(video, rate=fps) if video else None
            sound = made.add_stream(audio, rate=RATE, layout="mono") if audio else None
            if pictures is not None:
                pictures.width, pictures.height, pictures.pix_fmt = 96, 64, pixels
                for number in range(round(SECONDS * fps)):
                    if skip and number % skip == skip - 1:
                        continue
                    white = FLASH[0] <= number / fps < FLASH[1]
                    frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 255 * white, np.uint8), format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, fps)
                    made.mux(pictures.encode(frame.reformat(format=pixels)))
                made.mux(pictures.encode(None))
            if sound is not None:
                _tone(made, sound, late)
        return path

    return write


def _tone(made: Any, sound: Any, late: float) -> None:
    times = np.arange(round(late * RATE), round(SECONDS * RATE)) / RATE
    wave = (0.8 * np.sin(2 * np.pi * 880 * times) * ((times >= FLASH[0]) & (times < FLASH[1]))).astype(np.float32)
    kind = sound.codec_context.format.name
    for begin in range(0, len(wave), 1024):
        piece = wave[None, begin : begin + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, begin + round(late * RATE), Fraction(1, RATE)
        ready = av.AudioResampler(format=kind, layout="mono", rate=RATE).resample(frame) if kind != "fltp" else [frame]
        for one in ready:
            one.pts = frame.pts
            made.mux(sound.encode(one))
    made.mux(sound.encode(None))


def flash(path: Path) -> tuple[float, float]:
    """When the pictures turn white and black again, seconds from the start of the container."""
    with av.open(str(path)) as container:
        origin = (container.start_time or 0) / av.time_base
        lit = [(float(f.time) - origin, f.to_ndarray(format="gray").mean() > 128) for f in container.decode(video=0)]
    white = [time for time, on in lit if on]
    after = [time for time, on in lit if not on and time > white[-1]]
    return white[0], after[0]


def tone(path: Path) -> tuple[float, float]:
    """When the tone starts and ends, seconds."""
    loud = np.flatnonzero(np.abs(read_audio(path, 16000).numpy()) > 0.2)
    return float(loud[0]) / 16000, float(loud[-1]) / 16000


@pytest.fixture
def video(pride: Schema) -> Field:
    return pride.get("video")


@pytest.fixture
def audio(pride: Schema) -> Field:
    return pride.get("audio")


def placed(clips: Clips, field: Field, path: Path, **cut: float) -> Path:
    url = clips.place("i", field, Media(path=str(path), **cut))
    return clips.root / url.partition("?d=")[2]


NOT_PLAYABLE: dict[str, dict[str, Any]] = {
    "HEVC": {"video": "libx265"},
    "MPEG-4 part 2": {"video": "mpeg4"},
    "QuickTime": {"name": "clip.mov"},
    "AVI": {"name": "clip.avi", "video": "mpeg4", "audio": "mp3"},
    "10 bits": {"pixels": "yuv420p10le"},
    "Matroska": {"name": "clip.mkv"},
    "raw sound in mp4": {"name": "clip.mov", "audio": "pcm_s16le"},
}


@pytest.mark.parametrize("name", NOT_PLAYABLE)
def test_what_no_browser_plays_is_made_playable_at_the_same_times(
    make: Make, tmp_path: Path, video: Field, audio: Field, name: str
) -> None:
    path = make(**NOT_PLAYABLE[name])
    before = hashlib.sha256(path.read_bytes()).digest()
    clips = Clips(tmp_path / "root", 1)
    assert not video_plays(path)
    seen, heard = placed(clips, video, path), placed(clips, audio, path)
    assert video_plays(seen)
    assert sound_plays(seen), "the sound stays with the pictures"
    assert sound_plays(heard)
    assert flash(seen) == pytest.approx(FLASH, abs=0.041)
    assert tone(seen) == pytest.approx(FLASH, abs=0.05)
    assert tone(heard) == pytest.approx(FLASH, abs=0.05)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert not seen.samefile(path)
    made = seen.stat().st_ino
    assert placed(clips, video, path).stat().st_ino == made, "made once"
    path.touch()
    assert placed(clips, video, path).stat().st_ino != made, "made anew when the original is another"
    assert not [p for p in clips.root.rglob("*") if p.is_symlink() or p.name.endswith(".partial")]


def test_what_plays_is_left_alone(make: Make, tmp_path: Path, video: Field, audio: Field, data_dir: Path) -> None:
    clips = Clips(tmp_path / "root", 1)
    real = data_dir / "mosi_mini/clips/03bSnISJMiM_1.mp4"
    for path in (make(), make("still.mp4", audio=None), make("uneven.mp4", skip=3), real):
        seen = placed(clips, video, path)
        assert seen.read_bytes() == path.read_bytes()
    assert flash(placed(clips, video, tmp_path / "uneven.mp4")) == pytest.approx(FLASH, abs=0.081)
    for path in (make("a.mp3", None, "mp3"), make("a.wav", None, "pcm_s16le"), make("a.flac", None, "flac"), real):
        assert placed(clips, audio, path).read_bytes() == path.read_bytes()


def test_sound_that_starts_late_keeps_its_place(make: Make, tmp_path: Path, video: Field, audio: Field) -> None:
    path = make(late=0.7)
    clips = Clips(tmp_path / "root", 1)
    assert not sound_plays(path)
    assert tone(placed(clips, audio, path)) == pytest.approx(FLASH, abs=0.03)
    other = make("late.avi", "mpeg4", "mp3", late=0.0)
    assert tone(placed(clips, video, other)) == pytest.approx(FLASH, abs=0.06)


def test_a_part_has_its_own_times(make: Make, tmp_path: Path, video: Field, audio: Field) -> None:
    path = make()
    clips = Clips(tmp_path / "root", 1)
    seen, heard = (placed(clips, field, path, start=1.0, end=2.5) for field in (video, audio))
    for times in (flash(seen), tone(seen), tone(heard)):
        assert times == pytest.approx((FLASH[0] - 1.0, FLASH[1] - 1.0), abs=0.05)
    assert placed(clips, video, path, start=1.0, end=2.0) != seen
    with pytest.raises(SampleError, match=r"i: video: clip.mp4 the cut from 50 to 60 s lies outside"):
        placed(clips, video, path, start=50.0, end=60.0)


def test_a_turned_clip_stands_upright(make: Make, tmp_path: Path, video: Field) -> None:
    path = make(audio=None)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = [0, 0x10000, 0, -0x10000 & 0xFFFFFFFF, 0, 0, 0, 0, 0x40000000]
    data[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big") for number in quarter)
    path.write_bytes(data)
    seen = placed(Clips(tmp_path / "root", 1), video, path)
    with av.open(str(seen)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 96)
    assert flash(seen) == pytest.approx(FLASH, abs=0.041)


def test_broken_clips_are_named(make: Make, tmp_path: Path, video: Field, audio: Field) -> None:
    clips = Clips(tmp_path / "root", 1)
    cut, mute = make("cut.mp4"), make("mute.wav", None, "pcm_s16le")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for path, reason in ((cut, "truncated|cannot be read"), (mute, "holds no video")):
        with pytest.raises(SampleError, match=rf"i: video: {path.name}.*({reason})"):
            placed(clips, video, path)
    half = make("half.avi", "mpeg4", "mp3")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    with pytest.raises(SampleError, match=r"i: video: half\.avi"):
        placed(clips, video, half)
    with pytest.raises(SampleError, match=r"i: audio: still.mp4 holds no audio"):
        placed(clips, audio, make("still.mp4", audio=None))
    with pytest.raises(SampleError, match=r"no file none\.mp4"):
        placed(clips, video, tmp_path / "none.mp4")
    with pytest.raises(SampleError, match="is not a file"):
        frames_a_second("i", video, Media(path=str(tmp_path)))
    assert not list(clips.folder.glob("*.partial"))


def test_a_link_is_never_put_there(make: Make, tmp_path: Path, video: Field) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(make())
    clips = Clips(tmp_path / "root", 1)
    seen = placed(clips, video, link)
    assert not seen.is_symlink()
    assert seen.is_file()
    (clips.folder / "by-hand.mp4").symlink_to(link)
    with pytest.raises(UserError, match=r"by-hand\.mp4 is a link.*put a copy there"):
        Clips(tmp_path / "root", 2)


@pytest.mark.label_studio
def test_nothing_outside_the_folder_is_served(
    server: LocalServer, studio: Studio, pride: Schema, items: list[Item]
) -> None:
    """By real requests with the owner's token: what is in the folder comes, whatever else is asked for doesn't."""
    title = f"M {uuid.uuid4().hex[:8]}"
    project = Project(studio, pride, title)
    project.push(items[:1], server.media_root)
    folder = next(path for path in server.media_root.rglob("both.*")).parent
    inside = folder.relative_to(server.media_root).as_posix()
    secret = b"not for anybody"
    for path in (server.data_dir / "secret.mp4", server.media_root / "top.mp4", folder.parent / "beside.mp4"):
        path.write_bytes(secret)
    token = server.credentials.token
    served = next(folder.glob("both.video*"))
    assert ask(server.port, f"/data/local-files/?d={inside}/{served.name}", token)[0] == 200
    assert ask(server.port, f"/data/local-files/?d={inside}/{served.name}")[0] in (401, 403)
    up = "../" * (inside.count("/") + 2)
    for asked in (
        f"{inside}/{up}secret.mp4",
        f"{inside}/{up}secret.mp4".replace(".", "%2e"),
        f"{inside}/{up}secret.mp4".replace("/", "%2f"),
        f"{inside}/{up}secret.mp4".replace(".", "%252e"),
        f"{server.data_dir}/secret.mp4",
        f"/{server.data_dir}/secret.mp4",
        f"file://{server.data_dir}/secret.mp4",
        "../secret.mp4",
        f"{inside}/../../../../credentials.json",
        "top.mp4",
        f"{inside}/../beside.mp4",
        f"{inside}-other/../../../secret.mp4",
        f"{inside}/{served.name}/../../../../secret.mp4",
    ):
        status, body = ask(server.port, f"/data/local-files/?d={asked}", token)
        assert status not in (200, 206), asked
        assert secret not in body
        assert token.encode() not in body


@pytest.mark.label_studio
def test_the_server_does_not_start_on_links(copied: Path, tmp_path: Path) -> None:
    (copied / "media").mkdir(exist_ok=True)
    (copied / "media" / "out").symlink_to(tmp_path)
    running = LocalServer(copied, port=0)
    with pytest.raises(UserError, match=r"media/out is a link"):
        running.start()
    assert running.pid is None
