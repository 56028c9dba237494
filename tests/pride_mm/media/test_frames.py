from collections.abc import Callable
from pathlib import Path

import decord
import pytest
import torch
from torch import Tensor

from pride_mm.media import MediaError, probe, read_frames
from pride_mm.media.decoders import decord as by_decord
from pride_mm.media.decoders import pyav
from pride_mm.media.track import spaced


def far(one: Tensor, other: Tensor) -> float:
    return (one.float() - other.float()).abs().mean().item()


def test_shape_and_the_same_from_bytes_and_file(clip: Path) -> None:
    frames = read_frames(clip, 8, 96)
    assert (frames.shape, frames.dtype) == ((8, 3, 96, 96), torch.uint8)
    assert torch.equal(frames, read_frames(clip.read_bytes(), 8, 96))
    assert far(frames[0], frames[-1]) > 0.5  # a face that speaks, not one frame eight times


def test_spaced_takes_the_middle_of_equal_parts() -> None:
    assert spaced(8, 4) == [1, 3, 5, 7]
    assert spaced(2, 4) == [0, 0, 1, 1]
    assert spaced(1, 3) == [0, 0, 0]


def test_an_edit_list_goes_past_decord(edited: Path, clip: Path) -> None:
    info = probe(edited)
    assert info.video is not None
    assert not by_decord.suits(info.container, info.video)
    shown = pyav.decode(edited, [0, 37], 38)
    assert torch.equal(shown, pyav.decode(clip, [12, 49], 50))
    assert len(decord.VideoReader(str(edited))) == 50  # why it is kept away from decord


def test_other_containers_give_the_same_pictures(remux: Callable[..., Path], clip: Path) -> None:
    expected = read_frames(clip, 8, 96)
    for suffix in (".mkv", ".ts"):
        assert far(read_frames(remux(suffix), 8, 96), expected) < 1.0


def test_av1_which_decord_does_not_know(av1: bytes, clip: Path) -> None:
    frames = read_frames(av1, 4, 96)
    assert frames.shape == (4, 3, 96, 96)


def test_rotation_is_applied_by_both(rotated: Path, clip: Path) -> None:
    upright = pyav.decode(rotated, [5], 50)
    assert upright.shape == (1, 3, 426, 240)
    assert torch.equal(upright, by_decord.decode(rotated, [5], 50))


def test_what_cannot_be_decoded(remux: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MediaError, match="no pictures"):
        read_frames(remux(streams="a"), 8, 96)
    whole = remux(movflags="+faststart").read_bytes()
    with pytest.raises(MediaError):
        read_frames(whole[: len(whole) // 2], 8, 96)
    with pytest.raises(MediaError, match="cannot be read"):
        read_frames(b"a text file\n" * 1000, 8, 96)
    assert "text file" not in capfd.readouterr().err
