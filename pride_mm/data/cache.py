"""A folder of this machine that holds copies of remote files, called by their contents.

Several processes may share it. A file is under its name only when it is whole; who downloads it holds a lock that its
death sets free; who reads it holds another, and nothing that is read is ever removed. Whatever was used longest ago
goes first where the folder grows past its limit.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pride_mm.data.storage import OpenFile
from pride_mm.errors import UserError
from pride_mm.files import PARTIAL

_LOCKS = "locks"
_PAUSE = 0.05


class Cache:
    """A cache in ``folder`` of up to ``limit`` bytes; more where all of it is in use.

    ``patience`` is how many seconds another process may take over a file without any of it growing.
    """

    def __init__(self, folder: Path, limit: int, patience: float) -> None:
        self.folder, self.limit, self.patience = folder, limit, patience
        try:
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            with (folder / _LOCKS / "try").open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        except OSError as error:
            raise UserError(
                f"The cache of shards cannot be made in {folder} ({error.strerror}): set PRIDE_CACHE to a folder that "
                f"can be written to, on a file system with locks."
            ) from None

    def path(self, name: str) -> Path:
        """Where a file is, or would be."""
        return self.folder / name[:2] / name

    def open(self, name: str, size: int | None = None) -> OpenFile | None:
        """A file of the cache, kept from being removed as long as it is held; None where it isn't there.

        One that has another size than it should have was damaged; it is removed.
        """
        path = self.path(name)
        try:
            file = OpenFile(path)
            # who removes a file holds it alone while doing so
            fcntl.flock(file.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found, there = os.fstat(file.descriptor), path.stat()
        except (FileNotFoundError, BlockingIOError):
            return None
        if found.st_ino != there.st_ino:
            return None
        if size is not None and found.st_size != size:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        return file

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Be the only one, of all threads and processes, that makes this file.

        Raises:
            UserError: another one holds it and gets nowhere.
        """
        partial = self.path(name + PARTIAL)
        partial.parent.mkdir(exist_ok=True)
        # few locks for many files: two files now and then wait for each other, but nothing has to be cleaned up
        file = os.open(self.folder / _LOCKS / name[:3], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._wait(file, name)
            yield
        finally:
            os.close(file)

    def _wait(self, file: int, name: str) -> None:
        before, since = -1, time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            grown = sum(size for path, size, _ in _files(self.folder / name[:2]) if path.name.startswith(name[:3]))
            if grown != before:
                before, since = grown, time.monotonic()
            elif time.monotonic() - since > self.patience:
                raise UserError(
                    f"Another process has been fetching a shard into {self.folder} for {self.patience:.0f} seconds "
                    f"without getting anywhere: look for one that hangs, or set PRIDE_CACHE to another folder."
                )
            time.sleep(_PAUSE)

    def make_room(self, size: int) -> None:
        """Remove what was used longest ago and is not in use, until ``size`` more bytes fit."""
        held = (file for folder in self.folder.glob("??") for file in _files(folder))
        files = sorted(held, key=lambda file: file[2])
        over = sum(taken for _, taken, _ in files) + size - self.limit
        for path, taken, _ in files:
            if over <= 0:
                break
            if self.remove(path.name):
                over -= taken

    def remove(self, name: str) -> bool:
        """Remove a file, unless it is in use; says whether it did."""
        path = self.path(name)
        try:
            file = OpenFile(path)
            fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except (FileNotFoundError, BlockingIOError):
            return False
        return True


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Each file, the bytes that it takes, and when it was used last."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat()
                yield Path(entry.path), found.st_blocks * 512, found.st_mtime
