"""Clips and sounds that come with a request: bytes that nobody vouches for, read in a process of their own.

Promise: nothing is fetched, an address is refused; what is not what it is said to be, is a document or an archive
besides, or is too large or too long, is refused with one line before its frames are decoded. Nothing of it is kept.
"""

import base64
import binascii
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pride_mm.errors import UserError
from pride_mm.media import MediaError, MediaInfo, MediaLimits, convert_audio, probe, read_audio, read_frames
from pride_mm.schema import AudioField, Kind, VideoField

CONTAINERS = {
    "mp4": "mp4", "m4a": "mp4", "quicktime": "mp4", "mov": "mp4", "webm": "matroska", "x-matroska": "matroska",
    "ogg": "ogg", "opus": "ogg", "wav": "wav", "x-wav": "wav", "wave": "wav", "mp3": "mp3", "mpeg": "mp3",
    "flac": "flac", "x-flac": "flac", "aac": "aac", "x-msvideo": "avi", "avi": "avi",
}  # fmt: skip
"""What may be sent, by the name it goes by in a request: FFmpeg's name of the container."""
_SOUND_ONLY = ("mp3", "flac", "wav", "aac")
_SOUNDS = ("m4a", "oga", "ogg", "opus", "weba")
_ENDINGS = {"mkv": "x-matroska", "m4v": "mp4", "oga": "ogg", "weba": "webm"}  # whose formats go by another name
ENDINGS = (
    *("mp4", "m4v", "mov", "webm", "mkv", "avi"),
    *("wav", "mp3", "flac", "aac", *_SOUNDS),
)
"""How the names of files end that ``of_file`` takes."""
_DATA_URL = re.compile(r"data:(video|audio)/([a-z0-9.+-]+)((?:;[a-z0-9=.,+\"' -]+)*);base64,", re.IGNORECASE)
_OTHER_THINGS = (b"%pdf-", b"<html", b"<script", b"<!doctype", b"<svg", b"#!/", b"#extm3u")
_LOOKED_AT = 1024  # bytes within which readers of documents look for their beginning


@dataclass(frozen=True)
class Upload:
    """What came: the bytes, and the container they are said to be."""

    data: bytes
    container: str

    def __repr__(self) -> str:  # nothing of it gets into a log
        return f"Upload({len(self.data)} bytes, {self.container})"


def of_data_url(url: str, kind: Kind) -> Upload:
    """The upload in a ``data:`` URL.

    Raises:
        UserError: another kind of URL, or no base64.
    """
    found = _DATA_URL.match(url[:200])
    if found is None:
        raise UserError(f"{kind.value}_url takes data:{kind.value}/mp4;base64,... and the like: nothing is fetched.")
    return of_base64(url[found.end() :], found[2].lower(), kind)


def of_base64(text: str, name: str, kind: Kind) -> Upload:
    """The upload in base64 that is said to be ``name``, such as ``wav``.

    Raises:
        UserError: a format that is not taken, no base64, or nothing in it.
    """
    container = CONTAINERS.get(name.lower())
    if container is None or (kind is Kind.VIDEO and container in _SOUND_ONLY):
        known = [one for one, there in CONTAINERS.items() if kind is Kind.AUDIO or there not in _SOUND_ONLY]
        raise UserError(f"'{name[:20]}' is no format of {kind.value} that is taken: {', '.join(known)}.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"The {kind.value} is no base64.") from None
    if not data:
        raise UserError(f"The {kind.value} is empty.")
    return Upload(data, container)


def of_file(path: Path) -> tuple[Kind, Upload]:
    """The upload in a file that a browser has sent or recorded, and what it most likely is, by the end of its name.

    Raises:
        UserError: a format that is not taken, or nothing in it.
    """
    name = path.suffix.removeprefix(".").lower()
    container = CONTAINERS.get(_ENDINGS.get(name, name))
    if container is None:
        known = ", ".join(sorted(ENDINGS))
        raise UserError(f"'{path.suffix[:20]}' is no clip and no sound that is taken: {known}.")
    try:
        data = path.read_bytes()
    except OSError:  # another has sent the very same file, and with that line it went
        raise UserError("The file is gone: attach it again.") from None
    if not data:
        raise UserError("The file is empty.")
    kind = Kind.AUDIO if container in _SOUND_ONLY or name in _SOUNDS else Kind.VIDEO
    return kind, Upload(data, container)


def read_upload(
    upload: Upload, fields: Sequence[VideoField | AudioField], seconds: float, wanted: Kind | None
) -> dict[str, Any]:
    """What the student is to see and hear of an upload: arrays by field; runs in a ``Guard``.

    Args:
        upload: the bytes.
        fields: that it may serve. Sound of a clip that has none is left out.
        seconds: the longest that is taken.
        wanted: what it has to have; None for nothing.

    Raises:
        MediaError: what is wrong with it.
    """
    _refuse_other_things(upload.data)
    info = probe(upload.data)
    if info.container != upload.container:
        raise MediaError(f"is not what it is said to be: {info.container}, not {upload.container}")
    limits = MediaLimits(max_seconds=seconds)
    for stream in (info.video, info.audio):
        if stream is not None and stream.duration > seconds:
            raise MediaError(f"lasts {stream.duration:.0f} s; {seconds:g} s are allowed")
    if wanted is not None and not _has(info, wanted):
        raise MediaError("has no pictures" if wanted is Kind.VIDEO else "has no sound")
    read: dict[str, Any] = {}
    for field in fields:
        if isinstance(field, VideoField) and info.video is not None:
            read[field.name] = read_frames(upload.data, field.frames, field.size, limits=limits).numpy()
        elif isinstance(field, AudioField) and info.audio is not None:
            # of 16 bits, as it lies in shards: the student has heard no other
            flac = convert_audio(upload.data, field.rate, limits=limits).loaded
            assert isinstance(flac, bytes)
            read[field.name] = read_audio(flac, field.rate, field.seconds).numpy()
    return read


def _has(info: MediaInfo, kind: Kind) -> bool:
    return (info.video if kind is Kind.VIDEO else info.audio) is not None


def _refuse_other_things(data: bytes) -> None:
    """Refuse a file that other programs take for a document, a script or an archive."""
    begins = data[:_LOOKED_AT].lower()
    if any(sign in begins for sign in _OTHER_THINGS) or zipfile.is_zipfile(io.BytesIO(data)):
        raise MediaError("is something else besides: a document, a script or an archive")


def reason(error: MediaError, kind: Kind) -> str:
    """One line for whoever sent it."""
    return f"The {kind.value} cannot be read: it {str(error).removeprefix('the file ')}."
