"""Each measure on arrays whose figure is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality import black, clipping, face, frozen, language, overlap, silence
from pipelines.quality.settings import QualitySettings

RATE = 16000
SECOND = np.sin(np.arange(RATE) * 2 * np.pi * 220 / RATE).astype(np.float32)


def noise(frames: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 96, 128), dtype=np.uint8)


def test_black_counts_the_dark_frames() -> None:
    frames = noise()
    frames[:6] = 16
    assert black.figure(frames) == 0.75
    assert black.figure(np.full((4, 90, 120), 20, np.uint8)) == 1


def test_a_mouth_that_moves_in_a_still_room_is_not_frozen() -> None:
    room = np.repeat(noise(1), 8, axis=0)
    assert frozen.figure(room) == 1
    noisy = room.astype(np.int16) + np.random.default_rng(1).integers(-1, 2, room.shape)
    assert frozen.figure(noisy.clip(0, 255).astype(np.uint8)) == 1
    room[::2, 40:52, 60:76] //= 2
    assert frozen.figure(room) == 0
    assert frozen.figure(room[:1]) == 0


def test_noise_shows_no_face() -> None:
    assert face.figure(noise(4)) == 0


@given(st.floats(-60, -1))
def test_silence_is_the_level_of_the_loud_parts(decibels: float) -> None:
    loud = SECOND * np.float32(10 ** (decibels / 20))
    mostly_still = np.concatenate([loud, np.zeros(4 * RATE, np.float32)])
    assert silence.figure(mostly_still, RATE) == pytest.approx(decibels - 3.01, abs=0.2)


def test_nothing_at_all_is_silent() -> None:
    rule = QualitySettings().silence
    assert rule.reason(silence.figure(np.zeros(RATE, np.float32), RATE))
    assert rule.reason(silence.figure(np.zeros(3, np.float32), RATE))
    assert not rule.reason(silence.figure(SECOND, RATE))


@given(st.floats(1.5, 50), st.floats(0.01, 1))
def test_clipping_is_found_however_loud_it_is_now(gain: float, volume: float) -> None:
    speech = SECOND * np.random.default_rng(0).uniform(0.02, 1, RATE).astype(np.float32)
    cut = (speech * np.float32(gain)).clip(-1, 1)
    assert clipping.figure(cut * np.float32(volume)) == pytest.approx(clipping.figure(cut), abs=1e-3)
    assert clipping.figure(cut) > clipping.figure(speech)


def test_no_sound_is_not_clipped() -> None:
    assert clipping.figure(np.zeros(100, np.float32)) == 0


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("I lost my job today, and I don't know how to tell my family.", True),
        ("THIS IS HOW SOME TRANSCRIPTS LOOK, ALL IN CAPITALS.", True),
        ("J'ai perdu mon travail aujourd'hui, je ne sais pas quoi faire.", False),
        ("我今天失去了工作，不知道怎么告诉家人。", False),
    ],
)
def test_language(text: str, english: bool) -> None:
    rule = QualitySettings().language
    probability = language.figure(text, rule.allowed)
    assert probability is not None
    assert (rule.reason(probability) is None) == english


def test_a_text_too_short_to_tell_has_no_language() -> None:
    assert language.figure("Oh, ja.", ("en",)) is None


def test_overlap_is_by_runs_of_words() -> None:
    answer = "I am so sorry that you lost the job you loved."
    assert overlap.figure(answer, ["He said: I am so sorry, that you lost the job you loved!"]) == 1
    assert overlap.figure(answer, ["you loved the job so sorry that I am lost"]) == 0
    assert overlap.figure("I am so sorry to hear.", ["I am so sorry to hear."]) is None


def test_a_rule_speaks_beyond_its_threshold_only() -> None:
    for rule in QualitySettings().rules().values():
        if rule.threshold is None:
            continue
        width = 0.5 * (abs(rule.threshold) or 1) if rule.threshold < 0 else 0.04 * rule.threshold
        spoken = [rule.reason(rule.threshold + width) is not None, rule.reason(rule.threshold - width) is not None]
        assert sorted(spoken) == [False, True], rule.title
