import subprocess

import numpy as np
import pytest

from pride_mm.media import MediaError, probe, read_audio
from pride_mm.media.pieces import read_header, read_pieces


@pytest.mark.parametrize("seconds", [0.37, 1.0, 30.0])
def test_pieces_are_the_sound(data_dir, seconds) -> None:
    for path in sorted((data_dir / "mosi_mini" / "clips").glob("*.mp4"))[:2]:
        pieces = list(read_pieces(path, 16000, seconds))
        assert {len(piece) for piece in pieces[:-1]} <= {round(seconds * 16000)}
        whole, read = read_audio(path, 16000).numpy(), np.concatenate(pieces)
        assert np.array_equal(read, whole)


def test_stereo_of_float_samples_is_no_louder_than_its_channels(tmp_path) -> None:
    path = tmp_path / "stereo.wav"
    tone = "aevalsrc=0.9*sin(440*2*PI*t)|0.9*sin(440*2*PI*t):s=16000:d=1"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", tone, "-c:a", "pcm_f32le", path], check=True)
    read = np.concatenate(list(read_pieces(path, 16000)))
    assert np.abs(read).max() == pytest.approx(0.9, abs=0.01)
    assert np.array_equal(read, read_audio(path, 16000).numpy())


def test_the_header_tells_what_probing_finds(data_dir) -> None:
    path = next((data_dir / "mosi_mini" / "clips").glob("*.mp4"))
    header, info = read_header(path), probe(path)
    assert (header.video, header.audio) == (True, True)
    assert info.video is not None
    assert abs(header.seconds - info.video.duration) < 0.2
    sound = read_header(next((data_dir / "ravdess" / "audio16k").glob("*.flac")))
    assert (sound.video, sound.audio) == (False, True)


def test_bad_files_are_refused(tmp_path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"not media at all")
    with pytest.raises(MediaError, match="cannot be read"):
        next(read_pieces(tmp_path / "x.mp4", 16000))
    with pytest.raises(MediaError, match="no such file"):
        read_header(tmp_path / "y.mp4")
