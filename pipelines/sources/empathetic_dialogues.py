"""EmpatheticDialogues (Rashkin et al., ACL 2019): text dialogues about a situation.

Read from JSON lines (one dialogue a line), from the original CSV (one utterance a line, commas
written as ``_comma_``, no quoting) or through ``datasets``. Each answer of the listener gives one
row: the dialogue's own columns, and ``turn``, ``turns`` (those before) and ``answer``. A dialogue
that ends before the listener has said a word (three in 25,000) gives none.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.sources import Request
from pipelines.sources.mapping import Entry, Mapper
from pipelines.sources.rows import LINES, TABLES, Row, read_rows
from pride_mm.errors import BadSamples, SampleError, UserError

ASKED, ANSWERING = "speaker", "listener"
_COMMA = "_comma_"
_ORDER = {"train": 0, "valid": 1, "validation": 1, "test": 2}


class Talk(NamedTuple):
    """One dialogue: its place, its columns, and its turns as (who, words)."""

    place: str
    line: int
    columns: dict[str, Any]
    turns: list[tuple[str, str]]


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry an answer; ``limit`` counts dialogues, shared among the files by their size."""
    parts = _parts(request.path)
    mapper = Mapper(request.corpus, request.schema, bad)
    done = 0
    for part, share in zip(parts, _shares(parts, request.limit), strict=True):
        for talk in islice(_talks(part, bad), share):
            done += 1
            request.progress(done, request.limit)
            for row in _answers(talk, request.corpus.answers):
                entry = mapper.entry(row)
                if entry is not None:
                    yield entry


Part = Path | tuple[str, Any]


def _parts(given: str | None) -> list[Part]:
    if given is None:
        raise UserError("EmpatheticDialogues needs a path (.jsonl, .csv or their folder), or a name for `datasets`.")
    path = Path(given)
    if path.is_file():
        return [path]
    for suffixes in (LINES, TABLES):
        found = [p for p in path.glob("*") if p.suffix.lower() in suffixes] if path.is_dir() else []
        if found:
            return [*sorted(found, key=lambda p: (_ORDER.get(p.stem, 3), p.name))]
    return list(_through_datasets(given))


def _through_datasets(name: str) -> Iterable[Part]:
    from datasets import load_dataset

    try:
        splits = load_dataset(name)
    except Exception as error:  # noqa: BLE001  (datasets raises what its many readers raise)
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"No EmpatheticDialogues at '{name}': neither .jsonl or .csv files nor a data set that `datasets` opens "
            f"({type(error).__name__}: {reason}). Give the folder of train, valid and test files."
        ) from None
    return [(split, splits[split]) for split in sorted(splits, key=lambda s: (_ORDER.get(s, 3), s))]


def _shares(parts: list[Part], limit: int | None) -> list[int | None]:
    """How many dialogues each part gives: in proportion to its size, and one at least where there are enough."""
    if limit is None:
        return [None] * len(parts)
    sizes = [sum(1 for _ in _talks(part, BadSamples(10**9))) for part in parts]
    left, total, shares = limit, sum(sizes), list[int | None]()
    for size in reversed(sizes):
        least = 1 if limit >= len(parts) else 0
        share = min(size, max(least, round(left * size / total))) if size else 0
        shares.append(share)
        left, total = left - share, total - size
    return shares[::-1]


def _talks(part: Part, bad: BadSamples) -> Iterator[Talk]:
    if isinstance(part, Path) and part.suffix.lower() in LINES:
        return _from_lines(part, bad)
    return _from_utterances(part, bad)


def _from_lines(path: Path, bad: BadSamples) -> Iterator[Talk]:
    for place, line, record in read_rows(path, bad):
        columns = dict(record)
        given = columns.pop("turns", None)
        try:
            turns = [(str(turn["speaker"]), str(turn["text"])) for turn in given]  # type: ignore[union-attr]
        except (TypeError, KeyError):
            bad.add(SampleError(place, None, 'turns are not a list of {"speaker": ..., "text": ...}'))
            continue
        yield Talk(place, line, columns, turns)


def _utterances(part: Part, bad: BadSamples) -> Iterator[Row]:
    if isinstance(part, Path):
        for row in read_rows(part, bad, quoted=False):
            yield row._replace(columns={"split": part.stem, **row.columns})
    else:
        split, table = part
        for number, columns in enumerate(table, 1):
            yield Row(f"{split}:{number}", number, {"split": split, **columns})


def _from_utterances(part: Part, bad: BadSamples) -> Iterator[Talk]:
    """Lines of one dialogue follow each other; odd utterances are the speaker's, even ones the listener's."""
    needed = {"conv_id", "utterance_idx", "utterance"}
    rows = _utterances(part, bad)
    first = next(rows, None)
    if first is not None and not needed <= first.columns.keys():
        raise UserError(
            f"{first.place.rpartition(':')[0]} is not EmpatheticDialogues: it lacks the columns "
            f"{', '.join(sorted(needed - first.columns.keys()))} (it has: {', '.join(first.columns)})."
        )
    everything = rows if first is None else _chain(first, rows)
    for _, together in groupby(everything, key=lambda row: row.columns["conv_id"]):
        lines = [row._replace(columns={k: _unescape(v) for k, v in row.columns.items()}) for row in together]
        try:
            lines.sort(key=lambda row: int(row.columns["utterance_idx"]))
            turns = [(_who(int(row.columns["utterance_idx"])), str(row.columns["utterance"])) for row in lines]
        except ValueError:
            bad.add(SampleError(lines[0].place, None, "an utterance_idx that is no number"))
            continue
        yield Talk(lines[0].place, lines[0].line, lines[0].columns, turns)


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _who(index: int) -> str:
    return ASKED if index % 2 else ANSWERING


def _unescape(value: Any) -> Any:
    return value.replace(_COMMA, ",") if isinstance(value, str) else value


def _answers(talk: Talk, which: str) -> Iterator[Row]:
    """The rows of a dialogue: one for each turn of the listener that answers something."""
    answers = [number for number, (who, _) in enumerate(talk.turns) if who == ANSWERING and number > 0]
    chosen = {"all": answers, "first": answers[:1], "last": answers[-1:]}[which]
    turns = [{"speaker": who, "text": words} for who, words in talk.turns]
    for number in chosen:
        columns = {**talk.columns, "turn": f"{number:02d}", "turns": turns[:number], "answer": talk.turns[number][1]}
        yield Row(talk.place, talk.line, columns)
