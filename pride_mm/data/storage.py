"""Where shards lie, and how little of them a reader needs: a small file, an index, an open tar."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Generic, Protocol, TypeVar

from pydantic import Field as Setting

from pride_mm.data.index import Index, index_path
from pride_mm.data.manifest import TarRecord
from pride_mm.errors import UserError
from pride_mm.schema import Frozen

Key = TypeVar("Key")
Thing = TypeVar("Thing")
Walk = Callable[[Path], Index]


class ReadSettings(Frozen):
    """How shards are read.

    Attributes:
        max_member: bytes of a member; a larger one is bad data, and is not read.
        cache_bytes: how large the cache of remote shards may become; what is in use is kept all the same.
        timeout: seconds until a server that is silent is given up.
        retries: how often a failing request is made again before it is an error.
    """

    max_member: Annotated[int, Setting(ge=1)] = 4 * 1024**3
    cache_bytes: Annotated[int, Setting(ge=0)] = 64 * 1024**3
    timeout: Annotated[float, Setting(gt=0)] = 30.0
    retries: Annotated[int, Setting(ge=0)] = 5


class OpenFile:
    """A file's descriptor, closed when nobody holds it any more.

    It is read by ``pread``, so threads and forked processes may share it.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Storage(Protocol):
    """A place that holds the files of a set of shards.

    Every method raises UserError where the place cannot be read, by name and with what to do.
    """

    place: str
    """As people write it."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None where there is none."""

    def missing(self, tars: Iterable[tuple[str, TarRecord | None]]) -> Iterable[tuple[str, str]]:
        """The tars that are known not to be there, or not as they were recorded, and why."""

    def index(self, tar: str, record: TarRecord | None, walk: Walk) -> Index:
        """The index of a tar: the one beside it where it fits, otherwise what ``walk`` finds."""

    def open(self, tar: str, record: TarRecord | None, index: Index, wanted: Collection[str]) -> OpenFile:
        """The tar; of its members at least the ``wanted`` ones are there, by suffix."""

    def renew(self, tar: str, record: TarRecord | None) -> bool:
        """Throw away a copy that turned out to be damaged; False where there is no other to be had."""


class Folder:
    """Shards in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if self.folder.is_dir():
                return None
            raise UserError(f"No folder {self.folder}; `pride pack` makes one.") from None
        except PermissionError:
            raise UserError(f"{self.folder / name} may not be read: ask its owner for the permission.") from None

    def missing(self, tars: Iterable[tuple[str, TarRecord | None]]) -> Iterable[tuple[str, str]]:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.folder) if entry.is_file()}
        for tar, record in tars:
            if tar not in sizes:
                yield tar, "is missing"
            elif record is not None and sizes[tar] != record.size:
                yield tar, f"has {sizes[tar]:,} bytes, was packed with {record.size:,}"

    def index(self, tar: str, record: TarRecord | None, walk: Walk) -> Index:
        path = self.folder / tar
        try:
            size = path.stat().st_size
            index = Index.load(index_path(path))
        except (ValueError, FileNotFoundError):
            return self._walk(path, walk)
        return index if index.fits(size, record.sha256 if record else "") else self._walk(path, walk)

    def _walk(self, path: Path, walk: Walk) -> Index:
        try:
            return walk(path)
        except FileNotFoundError:
            raise UserError(f"{path.name} is missing in {self.folder}; copy it again, or run `pride pack`.") from None

    def open(self, tar: str, record: TarRecord | None, index: Index, wanted: Collection[str]) -> OpenFile:
        try:
            return OpenFile(self.folder / tar)
        except FileNotFoundError:
            raise UserError(f"{tar} is missing in {self.folder}; copy it again, or run `pride pack`.") from None
        except PermissionError:
            raise UserError(f"{self.folder / tar} may not be read: ask its owner for the permission.") from None

    def renew(self, tar: str, record: TarRecord | None) -> bool:
        return False


class Recent(Generic[Key, Thing]):
    """The things used last, up to a number. Threads may share it: at worst a thing is made twice."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._things: dict[Key, Thing] = {}

    def get(self, key: Key, make: Callable[[], Thing]) -> Thing:
        """The thing of a key, made where it is not at hand."""
        # steps that the interpreter does whole, and no lock, which a fork could leave locked for ever
        thing = self._things.pop(key, None)
        if thing is None:
            thing = make()
        self._things[key] = thing
        while len(self._things) > self.limit:
            self._things.pop(next(iter(tuple(self._things)), key), None)
        return thing

    def drop(self, key: Key) -> None:
        """Forget a key."""
        self._things.pop(key, None)
