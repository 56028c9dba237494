import tracemalloc

import numpy as np

from pipelines.sources.speech import _LONGEST, RATE, stretches


def pieces_of(sound: np.ndarray, size: int) -> list[np.ndarray]:
    return [sound[at : at + size] for at in range(0, len(sound), size)]


def test_stretches_do_not_depend_on_how_the_sound_is_cut_into_pieces(recorded) -> None:
    whole = [(first, len(sound)) for first, sound in stretches([recorded.sound])]
    assert len(whole) == 4
    for size in (700, 16000, 100_001):
        found = list(stretches(pieces_of(recorded.sound, size)))
        assert [(first, len(sound)) for first, sound in found] == whole
        for first, sound in found:
            assert np.array_equal(sound, recorded.sound[first : first + len(sound)])


def test_long_speech_is_cut_where_it_is_quiet_and_memory_stays(recorded) -> None:
    said = recorded.said[0]
    speech = recorded.sound[round((said.start + 1) * RATE) : round((said.start + 2.4) * RATE)]
    one = [speech] * 25

    def endless(times: int):
        for _ in range(times):
            yield from one

    found = [(first, len(sound)) for first, sound in stretches(endless(2))]
    assert max(length for _, length in found) <= _LONGEST
    assert sum(length for _, length in found) > 0.9 * 50 * len(speech)
    ends = [first + length for first, length in found]
    assert all(end <= start for end, (start, _) in zip(ends, found[1:], strict=False))

    tracemalloc.start()
    for _ in stretches(endless(5)):
        pass
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 5 * 25 * speech.nbytes > 11_000_000
    assert held < 8_000_000  # a stretch of 28 s, in a few copies
