from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.media import MediaError, encode_flac, probe, read_audio


def test_reads_mono_at_the_rate_and_no_longer_than_asked(clip: Path) -> None:
    sound = read_audio(clip, 16000)
    assert sound.dtype == torch.float32
    assert len(sound) / 16000 == pytest.approx(3.39, abs=0.1)
    assert 0.01 < sound.abs().max() <= 1
    assert len(read_audio(clip, 8000)) == pytest.approx(len(sound) / 2, abs=40)
    assert torch.equal(read_audio(clip, 16000, 1.0), sound[:16000])


def test_a_sine_keeps_its_frequency_and_level() -> None:
    time = torch.arange(48000) / 48000
    flac = encode_flac((0.5 * torch.sin(2 * torch.pi * 440 * time)).numpy(), 48000)
    sound = read_audio(flac, 16000)
    assert len(sound) == pytest.approx(16000, abs=32)
    assert torch.fft.rfft(sound[:16000]).abs().argmax().item() == pytest.approx(440, abs=1)
    assert sound[2000:14000].abs().max().item() == pytest.approx(0.5, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=9000))
def test_flac_keeps_sixteen_bits(samples: list[int]) -> None:
    waveform = torch.tensor(samples, dtype=torch.float32) / 32768
    data = encode_flac(waveform.numpy(), 16000)
    assert torch.equal(read_audio(data, 16000), waveform)
    assert data == encode_flac(waveform.numpy(), 16000)


def test_a_late_start_is_padded_with_silence(remux: Callable[..., Path], clip: Path) -> None:
    late, plain = read_audio(remux(late=0.5), 16000), read_audio(clip, 16000)
    assert late[:7800].abs().max() == 0
    lag = len(late) - len(plain)
    assert lag == pytest.approx(8000, abs=200)
    assert (late[8000 + 2000 : 30000] - plain[2000:22000]).abs().mean() < 0.05 * plain.abs().max()


def test_no_sound_is_said(remux: Callable[..., Path]) -> None:
    with pytest.raises(MediaError, match="has no sound"):
        read_audio(remux(streams="v"), 16000)
    with pytest.raises(MediaError, match="empty"):
        encode_flac(np.zeros(0, np.float32), 16000)
    assert probe(encode_flac(np.zeros(100, np.float32), 16000)).audio is not None
