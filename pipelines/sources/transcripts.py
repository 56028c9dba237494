"""Who said what when: WebVTT, SubRip, a table with times, ELAN's tiers, Praat's TextGrids.

A transcript is text, a megabyte for ten hours, and is read whole. A cue that cannot be read is counted by file and
line, without its words. Who speaks is the voice tag of WebVTT (``<v Ann>``), a column, a tier's participant or name, or
a name and a colon at the beginning of a cue, where that name begins two cues at least.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pride_mm.errors import BadSamples, SampleError

_CLOCK = re.compile(r"^\s*(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)\s*$")
_ARROW = "-->"
_VOICE = re.compile(r"<v(?:\.[^ >\t]*)?[ \t]+([^>]+)>")
_TAG = re.compile(r"</?[a-zA-Z0-9.:]*(?:[ \t][^>]*)?>|\{\\[^}]*\}")
_NAMED = re.compile(r"^[-–—]?\s*([^\W\d_][\w .'’-]{0,29}?):\s+(?=\S)")
_STARTS, _ENDS = (
    ("start", "begin", "start_time", "starttime", "onset"),
    ("end", "stop", "end_time", "endtime", "offset"),
)
_SAYS, _SPEAKS = ("text", "transcript", "utterance", "words"), ("speaker", "name", "participant")


class Cue(NamedTuple):
    """What one speaker said, from ``start`` to ``end`` seconds of the recording."""

    speaker: str
    text: str
    start: float
    end: float


def find_transcript(recording: Path) -> Path | None:
    """The transcript that lies beside a recording under the same name, if one does."""
    beside = {path.suffix.lower(): path for path in recording.parent.glob(f"{_escaped(recording.stem)}.*")}
    return next((beside[suffix] for suffix in READERS if suffix in beside), None)


def read_transcript(path: Path, speaker: str, bad: BadSamples) -> list[Cue]:
    """The cues of a transcript in the order of time.

    Args:
        path: the file; its suffix says what it is.
        speaker: who says what has no speaker.
        bad: counts cues without times or words, by file and line.

    Raises:
        ValueError: it is no transcript, or damaged.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"no transcript: {path.name} (allowed: {', '.join(READERS)})")
    cues = []
    for place, given in reader(path, bad):
        if given.end <= given.start or given.start < 0:
            bad.add(SampleError(place, None, f"a cue from {given.start:g} to {given.end:g} s"))
        elif given.text.strip():
            cues.append(given._replace(text=" ".join(given.text.split())))
    cues.sort(key=lambda cue: (cue.start, cue.end))
    return _spoken(cues, speaker)


def seconds_of(text: Any) -> float:
    """Seconds, from a number of them or from a clock such as ``00:20:57,256``; raises ValueError."""
    clock = _CLOCK.match(str(text))
    if clock is None:
        return float(text)
    return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3].replace(",", "."))


def _escaped(stem: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", stem)


def _spoken(cues: list[Cue], speaker: str) -> list[Cue]:
    """Cues with a speaker each: their own, the one that their text begins with, or the given one."""
    begins = [_NAMED.match(cue.text) if not cue.speaker else None for cue in cues]
    known = Counter(found[1] for found in begins if found)
    said = []
    for cue, found in zip(cues, begins, strict=True):
        if found and known[found[1]] > 1:
            said.append(cue._replace(speaker=found[1], text=cue.text[found.end() :]))
        else:
            said.append(cue if cue.speaker else cue._replace(speaker=speaker))
    return said


Found = Iterator[tuple[str, Cue]]


def _subtitles(path: Path, bad: BadSamples) -> Found:
    """WebVTT and SubRip: a line of times, then lines of words up to an empty one."""
    lines = _text(path).splitlines()
    number = 0
    while number < len(lines):
        line, place = lines[number], f"{path.name}:{number + 1}"
        number += 1
        if _ARROW not in line:
            continue
        words = []
        while number < len(lines) and lines[number].strip() and _ARROW not in lines[number]:
            words.append(lines[number])
            number += 1
        begin, _, rest = line.partition(_ARROW)
        try:
            start, end = seconds_of(begin), seconds_of((rest.split() or [""])[0])
        except ValueError:
            bad.add(SampleError(place, None, "a cue without times such as 00:00:01.000 --> 00:00:02.500"))
            continue
        if number < len(lines) and _ARROW in lines[number] and words and words[-1].strip().isdigit():
            words.pop()  # the number of the next cue, where no empty line stands before it
        text = "\n".join(words)
        voice = _VOICE.search(text)
        yield place, Cue(voice[1].strip() if voice else "", html.unescape(_TAG.sub("", text)), start, end)


def _table(path: Path, bad: BadSamples) -> Found:
    from pipelines.sources.rows import read_rows

    for row in read_rows(path, bad):
        columns = {str(name).strip().lower(): value for name, value in row.columns.items()}

        def first(names: tuple[str, ...], columns: dict[str, Any] = columns) -> Any:
            return next((columns[name] for name in names if columns.get(name) not in (None, "")), "")

        try:
            start, end = seconds_of(first(_STARTS)), seconds_of(first(_ENDS))
        except ValueError:
            bad.add(SampleError(row.place, None, "no times: it needs columns start and end, in seconds or as a clock"))
            continue
        yield row.place, Cue(str(first(_SPEAKS)).strip(), str(first(_SAYS)), start, end)


def _elan(path: Path, bad: BadSamples) -> Found:
    """The tiers with times, but for those that are a note's (``FIELD@ANNOTATOR``); a tier is a speaker."""
    from annotate.elan.read import parse_elan
    from annotate.elan.write import TIER

    try:
        document = parse_elan(path)
    except SampleError as error:
        raise ValueError(error.reason) from None
    for name, (aligned, _, attributes, *_rest) in document.tiers.items():
        if TIER.match(name):
            continue
        for begin, until, text, *_ignored in aligned.values():
            start, end = document.timeslots.get(begin), document.timeslots.get(until)
            if start is None or end is None:
                bad.add(SampleError(f"{path.name}: tier '{name[:60]}'", None, "an annotation without a time"))
                continue
            yield (
                f"{path.name}: tier '{name[:60]}'",
                Cue(_speaker(attributes, name), text or "", start / 1e3, end / 1e3),
            )


def _speaker(attributes: dict[str, Any], tier: str) -> str:
    return str(attributes.get("PARTICIPANT") or "").strip() or tier.strip()


def _textgrid(path: Path, bad: BadSamples) -> Found:
    """The interval tiers; each is a speaker."""
    from pympi.Praat import TextGrid

    data = path.read_bytes()[:3]
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        tiers = [tier for tier in TextGrid(str(path), codec=encoding).get_tiers() if tier.tier_type == "IntervalTier"]
        found = [(tier.name, list(tier.get_intervals(sort=True))) for tier in tiers]
    except Exception as error:  # noqa: BLE001  (its parser fails in many ways at what is no TextGrid)
        raise ValueError(f"not a TextGrid: {path.name} ({type(error).__name__})") from None
    for name, intervals in found:
        for start, end, text in intervals:
            yield f"{path.name}: tier '{str(name)[:60]}'", Cue(str(name).strip(), text or "", start, end)


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"not UTF-8: {path.name}:{line}") from None


READERS: dict[str, Callable[[Path, BadSamples], Found]] = {
    ".vtt": _subtitles,
    ".srt": _subtitles,
    ".eaf": _elan,
    ".textgrid": _textgrid,
    ".csv": _table,
    ".tsv": _table,
    ".jsonl": _table,
}
