"""What is said in a recording that nobody wrote down: voice activity, then Whisper, stretch by stretch.

Memory holds one stretch of speech and one piece of the recording, however long that is. Who speaks is not told apart.
The same model on the same machine gives the same words: nothing is sampled.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sources.transcripts import Cue
from pride_mm.errors import UserError
from pride_mm.files import write_text
from pride_mm.progress import Progress, silent

RATE = 16000
_STEP = 512  # samples that the voice detector looks at
_LONGEST = 28 * RATE  # Whisper hears half a minute
_QUIET = RATE // 10
_SILENCE, _PAD = 300, 100  # milliseconds between two stretches, and kept around each
Sound = NDArray[np.float32]


def transcribe(
    recording: Path, out: Path, model: str, language: str | None = None, progress: Progress = silent
) -> Path:
    """Write down a recording as WebVTT, whole or not at all; what was written before is left as it is.

    Args:
        recording: video or sound.
        out: the file; if it is there and of this recording and model, nothing is done, so that it can be mended.
        model: a folder with a Whisper model of CTranslate2, or a name that faster-whisper knows.
        language: what is spoken, as ``en``; None lets the model find out.
        progress: told of the seconds heard.

    Raises:
        UserError: the extra isn't installed, or there is no such model.
        MediaError: the recording has no sound, or it doesn't decode.
    """
    note = f"NOTE {Path(model).name} heard {recording.name}, {recording.stat().st_size} bytes"
    if out.is_file() and note in out.read_text(encoding="utf-8", errors="replace").splitlines():
        return out
    cues = hear(recording, model, language, progress)
    lines = ["WEBVTT", "", note, ""]
    for cue in cues:
        words = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        lines += [f"{_clock(cue.start)} --> {_clock(cue.end)}", words, ""]
    write_text(out, "\n".join(lines))
    return out


def hear(recording: Path, model: str, language: str | None = None, progress: Progress = silent) -> Iterator[Cue]:
    """The words of a recording, a cue for each stretch of speech; nobody is named as their speaker."""
    from pride_mm.media.pieces import read_header, read_pieces

    recogniser, total = _recogniser(model), round(read_header(recording).seconds)
    for first, sound in stretches(read_pieces(recording, RATE)):
        heard, _ = recogniser.transcribe(
            sound, language=language, temperature=0.0, condition_on_previous_text=False, without_timestamps=True
        )
        text = " ".join(segment.text.strip() for segment in heard).strip()
        progress(min(round((first + len(sound)) / RATE), total), total, f"s of {recording.name}")
        if text:
            yield Cue("", text, first / RATE, (first + len(sound)) / RATE)


def stretches(pieces: Iterable[Sound]) -> Iterator[tuple[int, Sound]]:
    """The stretches of speech in mono sound of 16 kHz as (first sample, sound), none longer than 28 s.

    A longer one is cut where it is quietest.
    """
    detector, torch = _detector()
    held: Sound = np.zeros(0, np.float32)
    base = at = 0  # the number of the first sample that is held, and of the next to look at
    begin: int | None = None
    last = 0  # where the stretch before ended
    for piece in pieces:
        held = np.concatenate([held, piece])
        while at + _STEP <= base + len(held):
            found = detector(torch.from_numpy(held[at - base : at - base + _STEP].copy())) or {}
            at += _STEP
            if "start" in found:
                begin = max(found["start"], last)
            if begin is not None and ("end" in found or at - begin >= _LONGEST):
                cut = found["end"] if "end" in found else begin + _quietest(held[begin - base : at - base])
                yield begin, held[begin - base : cut - base]
                begin, last = (None if "end" in found else cut), cut
        keep = begin if begin is not None else max(at - RATE, last)
        held, base = held[keep - base :], keep
    if begin is not None:
        yield begin, held[begin - base :]


def _quietest(sound: Sound) -> int:
    """Where the quietest tenth of a second in the last five seconds has its middle."""
    tail = sound[-5 * RATE :]
    power = np.square(tail[: len(tail) // _QUIET * _QUIET]).reshape(-1, _QUIET).mean(axis=1)
    return len(sound) - len(tail) + int(power.argmin()) * _QUIET + _QUIET // 2


def _detector() -> tuple[Any, Any]:
    try:
        import torch
        from silero_vad import VADIterator, load_silero_vad
    except ImportError:
        raise UserError(_MISSING) from None
    return VADIterator(
        load_silero_vad(), sampling_rate=RATE, min_silence_duration_ms=_SILENCE, speech_pad_ms=_PAD
    ), torch


def _recogniser(model: str) -> Any:
    try:
        import ctranslate2
        from faster_whisper import WhisperModel
    except ImportError:
        raise UserError(_MISSING) from None
    ctranslate2.set_log_level(logging.ERROR)  # else it tells of each number format that a machine lacks
    try:
        return WhisperModel(model, local_files_only=Path(model).exists())
    except Exception as error:  # noqa: BLE001  (CTranslate2 and the hub each have their own)
        raise UserError(
            f"No speech recogniser '{model}' ({type(error).__name__}). Give recording.model the folder of a Whisper "
            "model in the form of CTranslate2, or a name that faster-whisper fetches, as tiny.en."
        ) from None


def _clock(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    return f"{thousandths // 3600000:02d}:{thousandths // 60000 % 60:02d}:{thousandths % 60000 / 1000:06.3f}"


_MISSING = "Recordings without a transcript need the extra 'speech': pip install 'pride-mm[speech]'."
