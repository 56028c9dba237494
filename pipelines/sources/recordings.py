"""Long recordings, video or sound, cut into dialogues that end in the answer to learn.

The transcript lies beside a recording under the same name, else a speech recogniser writes one down. Items name a part
of the recording; nothing is cut before it is packed. What a field may be fed from:

    ``recording``, ``at``     the recording's name, and where the answer (or, without one, the part) begins and ends, in
                              hundredths of a second: it stays as it is when other turns are mended
    ``pictures``, ``sound``   the part of the recording, where it has pictures or sound
    ``turns``                 those before the answer, timed from the part's start
    ``answer``, ``speaker``   what is said next, and who says it
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources import Request
from pipelines.sources.mapping import Entry, Mapper
from pipelines.sources.rows import Row
from pipelines.sources.transcripts import READERS, Cue, find_transcript, read_transcript
from pipelines.sources.windows import Window, windows
from pride_mm.errors import BadSamples, SampleError, UserError

TRANSCRIPTS = "transcripts"  # in the folder of the items
_SOUND = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".aiff")
_VIDEO = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".3gp")
_SPEAKER = "speaker"
_SLACK = 1.0  # seconds that a transcript may go on behind its recording


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry a window; ``limit`` counts those. A recording that cannot be read is bad."""
    mapper, count = Mapper(request, bad), 0
    for path in _recordings(request.path):
        for row in _rows(path, request, bad):
            if count == request.limit:
                return
            entry = mapper.entry(row)
            if entry is not None:
                count += 1
                request.progress(count, request.limit, path.name)
                yield entry


def _recordings(given: str | None) -> list[Path]:
    path = Path(given or "")
    if given is not None and path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*") if p.suffix.lower() in _VIDEO + _SOUND) if given and path.is_dir() else []
    if not found:
        raise UserError(
            f"No recording at {given or 'no path'}: give a video or sound file, or a folder of them. Their transcripts "
            f"({', '.join(READERS)}) lie beside them under the same names."
        )
    return found


def _rows(path: Path, request: Request, bad: BadSamples) -> Iterator[Row]:
    from pride_mm.media.container import MediaError
    from pride_mm.media.pieces import read_header

    settings = request.corpus.recording
    try:
        header = read_header(path)
        cues = _cues(path, request, bad)
    except (MediaError, ValueError) as error:
        bad.add(SampleError(path.name, None, str(error)))
        return
    for window in windows(cues, settings, path.name, bad):
        place = f"{path.name} at {window.start:.1f} s"
        if header.seconds and window.end > header.seconds + _SLACK:
            reason = f"its transcript goes on to {cues[-1].end:.1f} s, the recording ends at {header.seconds:.1f} s"
            bad.add(SampleError(place, None, reason))
            return
        yield Row(place, round(window.start * 100), _columns(path, window, header.video, header.audio))


def _cues(path: Path, request: Request, bad: BadSamples) -> list[Cue]:
    """The transcript beside a recording, or one that a recogniser writes down."""
    found = find_transcript(path)
    if found is None:
        settings = request.corpus.recording
        if settings.model is None:
            raise UserError(
                f"{path.name} has no transcript beside it ({', '.join(READERS)}). Put one there, or let one be "
                "written: --set recording.model=MODEL (a folder with a Whisper model, or a name such as tiny.en)."
            )
        from pipelines.sources.speech import transcribe

        out = request.out / TRANSCRIPTS / f"{path.stem}.vtt"
        found = transcribe(path, out, settings.model, settings.language, request.progress)
    return read_transcript(found, _SPEAKER, bad)


def _columns(path: Path, window: Window, pictures: bool, sound: bool) -> dict[str, Any]:
    part = {"path": str(path.absolute()), "start": window.start, "end": window.end}
    answer = window.answer
    return {
        "recording": path.stem,
        "at": f"{round((window.end if answer is None else answer.start) * 100):06d}",
        "pictures": part if pictures else None,
        "sound": part if sound else None,
        "turns": [turn._asdict() for turn in window.turns],
        "answer": None if answer is None else answer.text,
        "speaker": None if answer is None else answer.speaker,
    }
