"""Tars written the same each time: USTAR, no date, no owner, members of one sample side by side; see ``tar``."""

import contextlib
import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pride_mm.data.index import BLOCK, END, IndexBuilder, index_path
from pride_mm.data.tar import header, split_name, tar_entries
from pride_mm.errors import SampleError, UserError
from pride_mm.fields import StoredFile
from pride_mm.files import PARTIAL

_CHUNK = 1 << 20
_PIECE = 4 << 20


@dataclass(frozen=True)
class Written:
    """What became of a tar: its bytes' SHA-256, how many bytes, how many samples."""

    sha256: str
    size: int
    samples: int


class TarWriter:
    """One tar, sample by sample; under its name only once it is whole, with its index beside it.

    Until ``close`` it lies under ``NAME.partial``. A writer that was killed is followed by another: what ``append``
    returned for the last sample that counts is where that one goes on, and the bytes at the end are the same. As a
    context manager it leaves the partial file behind where it was not closed.

    Args:
        path: of the tar.
        at: where to go on in what another writer left behind; what lies after it is cut off. 0 begins anew.
        private: nobody but its owner and their group may read it, whatever the process's umask says.

    Raises:
        ValueError: nothing was left behind, less than ``at`` bytes, or no sample ends there.
    """

    def __init__(self, path: Path, at: int = 0, private: bool = False) -> None:
        self.path, self.partial = path, path.with_name(path.name + PARTIAL)
        self._digest, self._index = hashlib.sha256(), IndexBuilder()
        self._thread: ThreadPoolExecutor | None = None
        self._hashing: Future[None] | None = None
        self._rooms = [memoryview(b"")] * 2
        self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if at and not self.partial.is_file():
            raise ValueError(f"{self.partial.name} isn't there to go on with")
        self._file = self.partial.open("r+b" if at else "w+b", buffering=0)
        if private:
            os.fchmod(self._file.fileno(), os.fstat(self._file.fileno()).st_mode & ~stat.S_IRWXO)
        try:
            self._resume(at)
        except BaseException:
            self._file.close()
            raise

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return len(self._index.keys)

    def append(self, key: str, members: Mapping[str, bytes | StoredFile]) -> int:
        """Add a sample, its members by suffix; returns where it ends.

        The bytes are the operating system's before this returns, so a killed process loses nothing of them.

        Raises:
            ValueError: a member's name or size is more than a tar holds.
            UserError: a file is no longer what it was. Nothing is added then.
        """
        heads = [(suffix, header(f"{key}.{suffix}", len(data)), data) for suffix, data in members.items()]
        begin = self.size
        with contextlib.ExitStack() as files:
            opened = {s: files.enter_context(_unchanged(data)) for s, _, data in heads if isinstance(data, StoredFile)}
            parts: list[bytes] = []
            for suffix, head, data in heads:
                padding = bytes(-len(data) % BLOCK)
                if isinstance(data, bytes):
                    parts += (head, data, padding)
                    continue
                self._write(b"".join([*parts, head]))
                self._copy(opened[suffix], len(data))
                parts = [padding]
            self._write(b"".join(parts))
        self._index.sample(key)
        for suffix, head, data in heads:
            self._index.member(suffix, begin + BLOCK, len(data), zlib.crc32(head))
            begin += BLOCK + len(data) + -len(data) % BLOCK
        return self.size

    def close(self) -> Written:
        """End the tar, write its index, and give both their names."""
        self._write(END)
        os.fsync(self._file.fileno())
        self._release()
        written = Written(self._digest.hexdigest(), self.size, self.samples)
        # first the index: beside the tar before this one it doesn't fit, and so harms nothing
        self._index.build(written.size, written.sha256).save(index_path(self.path))
        os.replace(self.partial, self.path)
        return written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._file.close()

    def _write(self, block: bytes) -> None:
        left = memoryview(block)
        while left:  # one write takes at most 2 GiB
            left = left[self._file.write(left) :]
        self._hashed()
        self._digest.update(block)
        self.size += len(block)

    def _copy(self, file: Any, size: int) -> None:
        """A file's bytes, hashed beside: while a piece is hashed it is written, and the next one read."""
        self._thread = self._thread or ThreadPoolExecutor(1)
        if len(self._rooms[0]) < min(size, _PIECE):  # kept for the next file: memory is cleared when it is made
            self._rooms = [memoryview(bytearray(min(size, _PIECE))) for _ in range(2)]
        free, used = self._rooms
        left = size
        while left:
            got = file.readinto(free[:left])
            if not got:
                raise OSError(f"{file.name} became shorter while it was copied")
            piece = free[:got]
            self._hashed()
            self._hashing = self._thread.submit(self._digest.update, piece)
            while piece:
                piece = piece[self._file.write(piece) :]
            free, used = used, free
            self.size += got
            left -= got

    def _hashed(self) -> None:
        """Wait for what is being hashed: the order of pieces counts."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _resume(self, at: int) -> None:
        descriptor = self._file.fileno()
        if os.fstat(descriptor).st_size < at:
            raise ValueError(f"{self.partial.name} has less than {at:,} bytes")
        try:
            for name, entry in tar_entries(self.partial.name, descriptor, at, whole=False):
                key, suffix = split_name(self.partial.name, name)
                if not self._index.keys or self._index.keys[-1] != key:
                    self._index.sample(key)
                self._index.member(suffix, *entry)
                self.size = entry.offset + entry.size + -entry.size % BLOCK
        except SampleError as error:
            raise ValueError(str(error)) from None
        os.ftruncate(descriptor, at)
        while chunk := self._file.read(_CHUNK):
            self._digest.update(chunk)


@contextlib.contextmanager
def _unchanged(stored: StoredFile) -> Iterator[Any]:
    """The file, opened, if it is still the one that was looked at."""
    try:
        with open(stored.path, "rb", buffering=0) as file:
            about = os.fstat(file.fileno())
            if (about.st_size, about.st_mtime_ns) != (stored.size, stored.changed):
                raise UserError(f"{stored.path} was changed while it was packed. Run the same command again.")
            yield file
    except FileNotFoundError:
        raise UserError(f"{stored.path} went away while it was packed. Run the same command again.") from None


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Written:
    """Write samples, each a key and its members by suffix, and their index, whole or not at all.

    Raises:
        ValueError: a member's name or size is more than a tar holds.
    """
    with TarWriter(path) as tar:
        try:
            for key, members in samples:
                tar.append(key, members)
            return tar.close()
        finally:
            tar.partial.unlink(missing_ok=True)
