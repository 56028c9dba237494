"""Windows of a transcript, as properties: nothing of an answer is ever in what is seen of it."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.corpus import Recording
from pipelines.sources.transcripts import Cue
from pipelines.sources.windows import windows
from pride_mm.errors import BadSamples


def cue(speaker: str, start: float, end: float, text: str = "words") -> Cue:
    return Cue(speaker, text, start, end)


def cut(cues: list[Cue], max_bad: int = 0, **settings: object) -> list:
    return list(windows(cues, Recording.model_validate(settings), "x.wav", BadSamples(max_bad)))


cues_of_people = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3000), st.integers(1, 200)), min_size=1, max_size=40
).map(
    lambda parts: [
        cue(who, at / 10, (at + length) / 10, str(number))
        for number, (who, at, length) in enumerate(sorted(parts, key=lambda part: part[1:]))
    ]
)


@given(cues=cues_of_people, turns=st.integers(1, 6), seconds=st.integers(5, 60), pause=st.integers(1, 20))
def test_what_is_seen_ends_before_the_answer_begins(cues: list[Cue], turns: int, seconds: int, pause: int) -> None:
    found = cut(cues, 10**6, max_turns=turns, max_seconds=seconds, pause=pause)
    alone = len({c.speaker for c in cues}) == 1
    for window in found:
        assert 1 <= len(window.turns) <= turns
        assert 0 < window.end - window.start <= seconds + 1e-6
        assert (window.answer is None) == alone
        for turn in window.turns:
            assert 0 <= turn.start <= window.end - window.start
            assert turn.end <= window.end - window.start + 1e-6
        if window.answer is not None:
            assert window.end <= window.answer.start
            assert window.answer.speaker != window.turns[-1].speaker
    if alone:  # each word once, in order
        said = [int(word) for window in found for turn in window.turns for word in turn.text.split()]
        assert said == sorted(set(said))


def test_a_talk_is_cut_before_each_answer_of_the_responder() -> None:
    cues = [
        cue("client", 1, 3, "I left."),
        cue("client", 3.4, 5, "For good."),
        cue("client", 4.9, 9, "He was"),
        cue("helper", 5.2, 6, "Why?"),
        cue("helper", 8.5, 10, "Go on."),
        cue("client", 30, 31, "Bye"),
        cue("helper", 31.2, 32, "Bye."),
    ]
    first, second = cut(cues, responder="helper", join=1, pause=8)
    assert [(turn.speaker, turn.text) for turn in first.turns] == [("client", "I left. For good. He was")]
    assert (first.start, first.end) == (1, 5.2)  # the client goes on while the helper asks: what is heard ends before
    assert first.turns[0].end == 4.2
    assert first.answer == cue("helper", 5.2, 6, "Why?")
    assert second.start == 30  # a long pause before: another talk
    assert second.answer == cue("helper", 31.2, 32, "Bye.")


def test_what_does_not_fit_is_named() -> None:
    bad = BadSamples(5)
    talk = [cue("a", 0, 50), cue("b", 51, 52), cue("a", 53, 54), cue("b", 53.05, 55)]
    found = list(windows(talk, Recording(max_seconds=30, pause=8), "x.wav", bad))
    assert [window.answer.start for window in found if window.answer] == [53]
    assert [str(error) for error in bad] == [
        "x.wav at 51.0 s: a turn of 50 s; recording.max_seconds allows 30",
        "x.wav at 53.0 s: an answer that begins together with what it answers",
    ]
    bad = BadSamples(5)
    assert not list(windows(talk, Recording(responder=("Helper",)), "x.wav", bad))
    assert "nobody called 'Helper' speaks in it (there are: a, b)" in str(next(iter(bad)))


def test_one_voice_alone_is_parted_without_an_answer() -> None:
    found = cut([cue("a", n * 4, n * 4 + 2) for n in range(10)], max_turns=4, max_seconds=11, join=1, pause=8)
    assert [len(window.turns) for window in found] == [3, 3, 3, 1]
    assert [window.answer for window in found] == [None] * 4
    assert [window.start for window in found] == [0, 12, 24, 36]
