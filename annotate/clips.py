"""The media of items where the server may read them: one folder, hard links or copies, never symbolic links.

The server follows a symbolic link out of its media folder, so none is ever put there.
"""

import os
import re
import shutil
from pathlib import Path

from pride_mm.errors import SampleError
from pride_mm.files import write_bytes
from pride_mm.schema import AudioField, Field, Kind, Media

_SUFFIX = re.compile(r"^\.[a-z0-9]{1,5}$")


class Clips:
    """The folder below ``root`` that holds the media of one project; ``root`` is what the server serves."""

    def __init__(self, root: Path, project: int) -> None:
        self.root = root.absolute()
        self.folder = self.root / "projects" / str(project)
        self.folder.mkdir(parents=True, exist_ok=True)

    def place(self, item: str, field: Field, media: Media) -> str:
        """Put a clip into the folder; returns the address under which the server serves it.

        Raises:
            SampleError: there is no such file, or the part of it that is meant cannot be cut out.
        """
        try:
            source = Path(media.path).resolve(strict=True)
        except (OSError, RuntimeError):
            raise SampleError(item, field.name, f"no file {Path(media.path).name}") from None
        if not source.is_file():
            raise SampleError(item, field.name, f"{source.name} is not a file")
        if media.start is None and media.end is None:
            suffix = source.suffix.lower() if _SUFFIX.match(source.suffix.lower()) else ""
            target = self.folder / f"{item}.{field.name}{suffix}"
            _link_or_copy(source, target)
        else:
            target = self.folder / f"{item}.{field.name}{'.mp4' if field.kind is Kind.VIDEO else '.flac'}"
            write_bytes(target, _cut(source, item, field, media))
        return f"/data/local-files/?d={target.relative_to(self.root).as_posix()}"


def _cut(source: Path, item: str, field: Field, media: Media) -> bytes:
    """The part of a file that is meant: the page plays whole files only."""
    from pride_mm.media.container import MediaError
    from pride_mm.media.convert import convert_audio, convert_video

    try:
        if isinstance(field, AudioField):
            return convert_audio(source, field.rate, media.start, media.end).data
        return convert_video(source, media.start, media.end).data
    except MediaError as error:
        raise SampleError(item, field.name, str(error)) from None


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(source, partial)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def frames_a_second(item: str, field: Field, media: Media) -> float:
    """The rate of a video, 0 for sound; raises SampleError where the file is not what the field says."""
    import av

    stream_kind = "video" if field.kind is Kind.VIDEO else "audio"
    try:
        with av.open(media.path) as container:
            streams = [stream for stream in container.streams if stream.type == stream_kind]
            rate = getattr(streams[0], "average_rate", None) if streams else None
    except (av.FFmpegError, OSError, ValueError):
        raise SampleError(item, field.name, f"{Path(media.path).name} cannot be opened as {stream_kind}") from None
    if not streams:
        raise SampleError(item, field.name, f"{Path(media.path).name} holds no {stream_kind}")
    if field.kind is not Kind.VIDEO:
        return 0.0
    if not rate:
        raise SampleError(item, field.name, f"{Path(media.path).name} does not say its frames a second")
    return float(rate)
