"""Where finished shards go: a folder of this machine, or whatever fsspec reaches by a URL."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pride_mm.errors import UserError
from pride_mm.files import PARTIAL

Result = TypeVar("Result")

_TRIES = 6
# What another try doesn't mend.
_FOR_GOOD = (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


class Place(Protocol):
    """A flat set of files; a name appears only once its file is whole."""

    name: str
    """As people write it."""

    def put(self, path: Path, name: str) -> None:
        """Move a file of this machine there."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None where there is none."""

    def names(self) -> set[str]:
        """What is there."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class Folder:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def put(self, path: Path, name: str) -> None:
        final = self.folder / name
        try:
            os.replace(path, final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            partial = self.folder / f"{name}{PARTIAL}"
            shutil.copyfile(path, partial)
            shutil.copymode(path, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, final)
            path.unlink()

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


class Remote:
    """A folder behind a URL (``s3://bucket/set``); what fails for a moment is tried again.

    Raises:
        UserError: nobody knows such a URL, or the place says no.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = url.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.name)
        except ImportError as error:
            raise UserError(f"{url} needs a package that isn't here ({error.name}): install 'pride-mm[s3]'.") from None
        except ValueError as error:
            raise UserError(f"{url} cannot be written to: {error}") from None

    def put(self, path: Path, name: str) -> None:
        self._tried(lambda: self._upload(path, name))
        path.unlink()

    def _upload(self, path: Path, name: str) -> None:
        self._files.put_file(str(path), self._at(name))
        self._files.invalidate_cache()
        there = self._files.info(self._at(name))["size"]
        if there != path.stat().st_size:
            raise OSError(errno.EIO, f"{there:,} of {path.stat().st_size:,} bytes arrived", name)

    def read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            with contextlib.suppress(FileNotFoundError):
                return bytes(self._files.cat_file(self._at(name)))
            return None

        return self._tried(read)

    def names(self) -> set[str]:
        def names() -> set[str]:
            self._files.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                return {path.rpartition("/")[2] for path in self._files.ls(self._root, detail=False)}
            return set()

        return self._tried(names)

    def remove(self, name: str) -> None:
        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

        self._tried(remove)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _tried(self, call: Callable[[], Result]) -> Result:
        for tried in range(1, _TRIES + 1):
            try:
                return call()
            except _FOR_GOOD as error:
                raise UserError(f"{self.name} cannot be written to: {_said(error)}") from None
            except Exception as error:  # noqa: BLE001 - each store's client throws its own kinds
                if tried == _TRIES:
                    raise UserError(
                        f"{self.name} cannot be reached ({_said(error)}), {_TRIES} times. What is packed is kept: "
                        f"run the same command again, it goes on from there."
                    ) from None
            time.sleep(0.25 * 2**tried)
        raise AssertionError


def _said(error: Any) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def place_of(out: str | Path) -> Place:
    """The place that ``out``, a folder or a URL, names."""
    return Remote(str(out)) if is_url(out) else Folder(Path(out))


def is_url(out: str | Path) -> bool:
    """Whether it is a URL, not a path."""
    return "://" in str(out)
