"""A long transcript as dialogues that end in an answer: which turns are seen, and which part of the recording.

The part ends where the last turn before the answer does, or where the answer begins if that is earlier: nothing of the
answer's own sound is ever in it. Pure functions of the cues, so the same transcript gives the same windows.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipelines.sources.corpus import Recording
from pipelines.sources.transcripts import Cue
from pride_mm.errors import BadSamples, SampleError

_SHORTEST = 0.1  # seconds of a clip


class Window(NamedTuple):
    """``turns`` with times from ``start``; ``start`` and ``end`` in seconds of the recording; the answer, if any."""

    turns: list[Cue]
    start: float
    end: float
    answer: Cue | None


def windows(cues: list[Cue], settings: Recording, place: str, bad: BadSamples) -> Iterator[Window]:
    """The windows of a transcript, in the order of time.

    Where only one person speaks, nobody answers: the talk is parted into windows without an answer.

    Args:
        cues: in the order of time.
        settings: how large a window may be, what parts two dialogues, and who answers.
        place: the recording's name, for messages.
        bad: counts turns that are too long, and answers that begin with what they answer.
    """
    speakers = sorted({cue.speaker for cue in cues})
    missing = not set(settings.responder) & set(speakers)
    if settings.responder and missing:
        given, there = "' or '".join(settings.responder), ", ".join(speakers)
        bad.add(SampleError(place, None, f"nobody called '{given}' speaks in it (there are: {there})"))
        return
    for talk in _talks(_turns(cues, settings), settings.pause):
        yield from _alone(talk, settings, place, bad) if len(speakers) == 1 else _answered(talk, settings, place, bad)


def _turns(cues: list[Cue], settings: Recording) -> list[Cue]:
    """Cues of one speaker that follow each other closely as one turn, as long as it fits into a window."""
    turns: list[Cue] = []
    for cue in cues:
        last = turns[-1] if turns else None
        if (
            last is not None
            and last.speaker == cue.speaker
            and cue.start - last.end <= settings.join
            and max(cue.end, last.end) - last.start <= settings.max_seconds
        ):
            turns[-1] = last._replace(text=f"{last.text} {cue.text}", end=max(cue.end, last.end))
        else:
            turns.append(cue)
    return turns


def _talks(turns: list[Cue], pause: float) -> Iterator[list[Cue]]:
    talk: list[Cue] = []
    for turn in turns:
        if talk and turn.start - max(before.end for before in talk) > pause:
            yield talk
            talk = []
        talk.append(turn)
    if talk:
        yield talk


def _answered(talk: list[Cue], settings: Recording, place: str, bad: BadSamples) -> Iterator[Window]:
    for number in range(1, len(talk)):
        answer, last = talk[number], talk[number - 1]
        if answer.speaker == last.speaker or (settings.responder and answer.speaker not in settings.responder):
            continue
        at = f"{place} at {answer.start:.1f} s"
        if answer.start - last.start < _SHORTEST:
            bad.add(SampleError(at, None, "an answer that begins together with what it answers"))
            continue
        first = number
        while first > 0 and number - first < settings.max_turns:
            if _span(talk[first - 1 : number], answer)[1] > settings.max_seconds:
                break
            first -= 1
        if first == number:
            bad.add(SampleError(at, None, _too_long(last, settings)))
            continue
        yield _window(talk[first:number], answer)


def _alone(talk: list[Cue], settings: Recording, place: str, bad: BadSamples) -> Iterator[Window]:
    held: list[Cue] = []
    for turn in talk:
        if turn.end - turn.start > settings.max_seconds:
            bad.add(SampleError(f"{place} at {turn.start:.1f} s", None, _too_long(turn, settings)))
            continue
        if held and (len(held) == settings.max_turns or _span([*held, turn], None)[1] > settings.max_seconds):
            yield _window(held, None)
            held = []
        held.append(turn)
    if held:
        yield _window(held, None)


def _span(turns: list[Cue], answer: Cue | None) -> tuple[float, float]:
    """Where the turns begin, and how many seconds they last before the answer."""
    end = max(turn.end for turn in turns)
    return turns[0].start, (end if answer is None else min(end, answer.start)) - turns[0].start


def _window(turns: list[Cue], answer: Cue | None) -> Window:
    start, length = _span(turns, answer)
    moved = [
        turn._replace(start=round(turn.start - start, 3), end=round(min(turn.end - start, length), 3)) for turn in turns
    ]
    return Window(moved, round(start, 3), round(start + length, 3), answer)


def _too_long(turn: Cue, settings: Recording) -> str:
    return f"a turn of {turn.end - turn.start:.0f} s; recording.max_seconds allows {settings.max_seconds:g}"
