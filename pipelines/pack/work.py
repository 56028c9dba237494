"""The work folder of a packing: one at a time in it, and what an earlier one left there, if it fits."""

import contextlib
import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.pack.place import is_url
from pride_mm.errors import UserError
from pride_mm.files import write_json

_JOB, _LOCK = "job.json", "lock"
# The first two are the system's; the third is what a limit on the size of files gives.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def work_folder(out: str | Path) -> Path:
    """Where a packing to ``out`` works if nobody says: hidden in the folder, or here where the shards go elsewhere."""
    if not is_url(out):
        return Path(out) / ".work"
    return Path(f".pack-{hashlib.sha256(str(out).encode()).hexdigest()[:12]}")


class Work:
    """A folder with what is not finished yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, job: Mapping[str, Any]) -> tuple[bool, str]:
        """Say what is to be done here; returns whether a part of it was done before, and why not where it wasn't.

        ``job`` is everything that the bytes depend on, as JSON. What was left by another job is removed, but for what
        ``keep`` wrote.
        """
        left = self._left()
        if left == job:
            return True, ""
        changed = [] if left is None else sorted(n for n in {*left, *job} if left.get(n) != job.get(n))
        for path in self.folder.iterdir():
            if path.name not in (_LOCK, "before.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return False, " and ".join(changed)

    def planned(self, job: Mapping[str, Any]) -> None:
        """Everything is ready to be gone on with, from here on."""
        write_json(self.folder / _JOB, job)

    def _left(self) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / _JOB).read_bytes())
        return None

    def remove(self) -> None:
        """All is done: nothing of it is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def working(folder: Path, out: str | Path) -> Iterator[Work]:
    """Have a work folder for oneself for as long as the block lasts.

    Raises:
        UserError: somebody else works in it, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another `pride pack` is at work on {out}: wait for it, or stop it.") from None
        try:
            yield Work(folder)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise UserError(
                f"No room left for {error.filename or folder}. What is packed is kept: make room, and run the same "
                f"command again; it goes on from there."
            ) from None
