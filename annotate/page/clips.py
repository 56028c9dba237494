"""The media of items where the server may read them: one folder, hard links or copies, never symbolic links.

The server follows a symbolic link out of its media folder, so none is ever put there. A file that a
browser cannot play is made playable on its way there, once; the original is only read.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pride_mm.errors import SampleError, UserError
from pride_mm.schema import AudioField, Field, Kind, Media

_SUFFIX = re.compile(r"^\.[a-z0-9]{1,5}$")


def refuse_links(root: Path) -> None:
    """Raise UserError for the first link below ``root``: the server would serve what it points at."""
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = Path(folder, name)
            if path.is_symlink():
                raise UserError(
                    f"{path} is a link. Label Studio would serve whatever it points at: put a copy there instead."
                )


class Clips:
    """The folder below ``root`` that holds the media of one project; ``root`` is what the server serves.

    Raises:
        UserError: somebody put a link there.
    """

    def __init__(self, root: Path, project: int) -> None:
        self.root = root.absolute()
        self.folder = self.root / "projects" / str(project)
        refuse_links(self.root)
        self.folder.mkdir(parents=True, exist_ok=True)

    def place(self, item: str, field: Field, media: Media) -> str:
        """Put a clip into the folder, playable; returns the address under which the server serves it.

        Raises:
            SampleError: there is no such file, it is broken, or the part of it that is meant cannot be cut out.
        """
        from pride_mm.media.container import MediaError

        source = _source(item, field, media)
        try:
            target = self._placed(item, field, media, source)
        except MediaError as error:
            raise SampleError(item, field.name, f"{source.name} {error}") from None
        return f"/data/local-files/?d={target.relative_to(self.root).as_posix()}"

    def _placed(self, item: str, field: Field, media: Media, source: Path) -> Path:
        from annotate.page.playable import sound_plays, video_plays, write_sound, write_video

        whole = media.start is None and media.end is None
        if whole and (video_plays(source) if field.kind is Kind.VIDEO else sound_plays(source)):
            suffix = source.suffix.lower() if _SUFFIX.match(source.suffix.lower()) else ""
            target = self.folder / f"{item}.{field.name}{suffix}"
            if not (target.exists() and target.samefile(source)):
                _make(target, lambda partial: _link_or_copy(source, partial))
            return target
        cut = "" if whole else f".{media.start or 0:g}-{'' if media.end is None else format(media.end, 'g')}"
        target = self.folder / f"{item}.{field.name}{cut}{'.mp4' if field.kind is Kind.VIDEO else '.flac'}"
        if _is_of(target, source):
            return target
        if isinstance(field, AudioField):
            rate = field.rate
            _make(target, lambda partial: write_sound(source, partial, rate, media.start, media.end))
        else:
            _make(target, lambda partial: write_video(source, partial, media.start, media.end))
        state = source.stat()
        os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
        return target


def _source(item: str, field: Field, media: Media) -> Path:
    try:
        source = Path(media.path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise SampleError(item, field.name, f"no file {Path(media.path).name}") from None
    if not source.is_file():
        raise SampleError(item, field.name, f"{source.name} is not a file")
    return source


def _is_of(target: Path, source: Path) -> bool:
    """Whether a copy was made of the source as it is now: it bears its time."""
    return (
        target.is_file()
        and not target.samefile(source)
        and target.stat().st_size > 0
        and target.stat().st_mtime_ns == source.stat().st_mtime_ns
    )


def _make(target: Path, write: Callable[[Path], None]) -> None:
    """Have ``target`` written beside its name; it appears whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def frames_a_second(item: str, field: Field, media: Media) -> float:
    """The rate of a video, 0 for sound; raises SampleError where the file is not what the field says."""
    from annotate.page.playable import frames_a_second as rate_of
    from pride_mm.media.container import MediaError, audio_stream, opened

    source = _source(item, field, media)
    try:
        if field.kind is Kind.VIDEO:
            return rate_of(source)
        with opened(source) as container:
            if audio_stream(container) is None:
                raise MediaError("holds no audio")
    except MediaError as error:
        raise SampleError(item, field.name, f"{source.name} {error}") from None
    return 0.0
