import numpy as np
import pytest

from pride_mm.media.loudness import loudness, to_loudness

RATE = 16000


def tone(level: float, seconds: float = 3.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 997 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_the_standards_tone_measures_what_the_standard_says(level: float) -> None:
    assert loudness(tone(level), RATE) == pytest.approx(20 * np.log10(level) - 3.01, abs=0.1)


def test_it_is_brought_to_its_target_but_never_clips() -> None:
    assert loudness(to_loudness(tone(0.05), RATE, -23), RATE) == pytest.approx(-23, abs=0.1)
    assert np.abs(to_loudness(tone(0.05), RATE, 0)).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)


def test_silence_and_less_than_a_block_stay_as_they_are() -> None:
    for sound in (np.zeros(RATE, np.float32), tone(0.5, 0.1)):
        assert loudness(sound, RATE) == -np.inf
        assert np.array_equal(to_loudness(sound, RATE, -23), sound)
