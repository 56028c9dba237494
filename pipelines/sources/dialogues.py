"""Dialogues as text or with a clip a turn: every answer in them becomes an item with the turns before it.

A row is a dialogue, with its turns as a list, or it is a turn; ``[turns]`` in the corpus's description says which. What
a field may be fed from, beside the dialogue's own columns:

    ``turns``            the turns before the answer           ``turns.X``   a column of all of those, as a list
    ``answer``           the words to learn                    ``answer.X``  a column of the answering turn
    ``turn``             the answer's number, from 00          ``last.X``    a column of the last turn before it

A dialogue in which nobody answers gives none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from pipelines.sources import Request
from pipelines.sources.corpus import LINE, TABLE, BadColumn, Corpus, Turns
from pipelines.sources.mapping import Entry, Mapper
from pipelines.sources.rows import Part, Row
from pipelines.sources.seen import Seen
from pipelines.sources.tables import find_parts, shares
from pride_mm.errors import BadSamples, SampleError, UserError

_TURNS, _SPEAKER, _TEXT = "turns", "speaker", "text"
_TIMES = ("start", "end")


@dataclass(frozen=True)
class Talk:
    """One dialogue: its place, its own columns, and its turns with all that the corpus knows of each."""

    place: str
    line: int
    columns: dict[str, Any]
    turns: list[dict[str, Any]]


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry an answer; ``limit`` counts dialogues, shared among the files by their size."""
    parts = find_parts(request.path, request.corpus.table)
    done = 0
    for part, share in zip(parts, shares(parts, request.limit), strict=True):
        mapper = Mapper(request, bad, part.folder)
        for talk in islice(_talks(part, request.corpus, bad), share):
            done += 1
            request.progress(done, request.limit)
            for row in answers(talk, request.corpus.turns):
                entry = mapper.mapped(row)
                if entry is not None:
                    yield entry


def answers(talk: Talk, settings: Turns) -> Iterator[Row]:
    """The rows of a dialogue: one for each answer, or, where the settings say so, for each turn."""
    turns = talk.turns
    found = [number for number in range(1, len(turns)) if _answers(turns, number, settings)]
    every = range(1, len(turns) + 1)
    numbers = {"first": found[:1], "last": found[-1:], "turns": every, "whole": every[-1:]}.get(settings.items, found)
    for number in numbers:
        before, last = turns[:number], turns[number - 1]
        answer = turns[number] if number < len(turns) and _answers(turns, number, settings) else {}
        columns = {
            **talk.columns,
            "turn": f"{number:02d}",
            _TURNS: [{name: turn.get(name) for name in (_SPEAKER, _TEXT, *_TIMES)} for turn in before],
            "answer": answer.get(_TEXT),
            **{f"answer.{name}": value for name, value in answer.items()},
            **{f"last.{name}": value for name, value in last.items()},
            **{
                f"{_TURNS}.{name}": [None if turn.get(name) == "" else turn.get(name) for turn in before]
                for name in {*last, *answer}
            },
        }
        yield Row(talk.place, talk.line, columns)


def _answers(turns: list[dict[str, Any]], number: int, settings: Turns) -> bool:
    """Whether a turn answers the one before it."""
    speaker = turns[number][_SPEAKER]
    if settings.answering:
        return speaker in settings.answering
    return bool(speaker != turns[number - 1][_SPEAKER])


def _talks(part: Part, corpus: Corpus, bad: BadSamples) -> Iterator[Talk]:
    """The dialogues of a table; rows of one dialogue that lie apart are torn, and all but the first lot is bad."""
    settings, seen = corpus.turns, Seen()
    rows = _named(part, corpus, bad)
    first = next(rows, None)
    if first is None:
        return
    if _TURNS in first.columns:
        for row in _chain(first, rows):
            talk = _from_row(row, corpus, bad)
            if talk is not None:
                yield talk
        return
    _check(part, first, settings)
    for key, together in groupby(_chain(first, rows), key=lambda row: [row.columns.get(name) for name in settings.by]):
        lines = list(together)
        before = seen.add(str(key), lines[0].place)
        if before is not None:
            torn = f"more turns of a dialogue that began at {before}: put its rows next to each other"
            bad.add(SampleError(lines[0].place, None, torn))
            continue
        talk = _from_rows(lines, settings, bad)
        if talk is not None:
            yield talk


def _named(part: Part, corpus: Corpus, bad: BadSamples) -> Iterator[Row]:
    """The rows with the corpus's own names for their columns."""
    for row in part.rows(bad):
        try:
            yield row._replace(columns=corpus.named({TABLE: part.name, LINE: row.line, **row.columns}))
        except BadColumn as error:
            bad.add(SampleError(row.place, error.column, error.reason))


def _check(part: Part, first: Row, settings: Turns) -> None:
    needed = {*settings.by, _TEXT} | ({settings.order} if settings.order else set())
    needed |= set() if settings.speakers else {_SPEAKER}
    missing = sorted(needed - first.columns.keys())
    if not settings.by or missing:
        lacks = f"the columns {', '.join(missing)}" if settings.by else f"a column '{_TURNS}'"
        raise UserError(
            f"{part.name} holds no dialogues of this corpus: it lacks {lacks} (it has: {', '.join(first.columns)}). "
            "Give the folder of its files, or name the columns in a TOML like those in configs/corpus."
        )


def _from_row(row: Row, corpus: Corpus, bad: BadSamples) -> Talk | None:
    columns = {name: value for name, value in row.columns.items() if name != _TURNS}
    try:
        turns = [corpus.named(turn) for turn in row.columns[_TURNS]]
    except BadColumn as error:
        bad.add(SampleError(row.place, error.column, error.reason))
        return None
    except (TypeError, KeyError, AttributeError):
        turns = [{}]
    return _talk(row, columns, turns, corpus.turns, bad)


def _from_rows(lines: list[Row], settings: Turns, bad: BadSamples) -> Talk | None:
    if settings.order is not None:
        try:
            lines.sort(key=lambda row: int(row.columns[settings.order or ""]))
        except (ValueError, TypeError, KeyError):
            bad.add(SampleError(lines[0].place, settings.order, "not a number, which a turn's place has to be"))
            return None
    if settings.speakers:
        for number, row in enumerate(lines):
            row.columns[_SPEAKER] = settings.speakers[number % len(settings.speakers)]
    return _talk(lines[0], lines[0].columns, [row.columns for row in lines], settings, bad)


def _talk(
    row: Row, columns: dict[str, Any], turns: list[dict[str, Any]], settings: Turns, bad: BadSamples
) -> Talk | None:
    said = []
    for turn in turns:
        if not isinstance(turn.get(_SPEAKER), str) or not isinstance(turn.get(_TEXT), str):
            bad.add(SampleError(row.place, None, f'turns are not a list of {{"{_SPEAKER}": ..., "{_TEXT}": ...}}'))
            return None
        if words := turn[_TEXT].strip():
            said.append({**turn, _TEXT: words})
    return Talk(row.place, row.line, columns, _merged(said) if settings.merge else said)


def _merged(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns of one speaker that follow each other as one; of its other columns, what was last said of any."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and merged[-1][_SPEAKER] == turn[_SPEAKER]:
            before, known = merged[-1], {name: value for name, value in turn.items() if value is not None}
            begun = {"start": before["start"]} if before.get("start") is not None else {}
            merged[-1] = {**before, **known, **begun, _TEXT: f"{before[_TEXT]} {turn[_TEXT]}"}
        else:
            merged.append(turn)
    return merged


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest
