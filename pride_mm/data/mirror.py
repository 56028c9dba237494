"""Remote shards, of which this machine holds in a cache as much as it needs.

A tar that is needed for the most part is fetched whole, in ranges that a later process goes on with, and its SHA-256
is compared before anything is read from it. Of a tar of which little is needed (text beside long clips) the ranges of
those members are fetched, into a file with holes; what they hold is checked header by header as it is read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from pride_mm.data.cache import Cache
from pride_mm.data.index import BLOCK, INDEX, Index
from pride_mm.data.manifest import TarRecord
from pride_mm.data.remote import NoRangesError, Range, Remote
from pride_mm.data.storage import OpenFile, ReadSettings, Walk
from pride_mm.errors import UserError
from pride_mm.files import PARTIAL, write_bytes

_CHUNK = 8 << 20
_CHUNKS_AT_ONCE = 4
# What a request costs, in bytes that would come in its time: smaller holes are fetched along.
_REQUEST = 256 << 10
_HOLED, _HOLES = ".part", ".part.json"


class Mirror:
    """A folder of shards behind a URL, through a cache."""

    def __init__(self, url: str, cache: Path, settings: ReadSettings) -> None:
        self.remote = Remote(url, settings)
        self.place = self.remote.place
        patience = 2 * settings.timeout * (settings.retries + 1)
        self.cache = Cache(cache, settings.cache_bytes, patience)
        self._renewed: set[str] = set()

    def read(self, name: str) -> bytes | None:
        return self.remote.read(name)

    def missing(self, tars: Iterable[tuple[str, TarRecord | None]]) -> Iterable[tuple[str, str]]:
        # a server need not list its files; a tar that isn't there is found when it is needed
        return ((tar, "has no record") for tar, record in tars if record is None)

    def index(self, tar: str, record: TarRecord | None, walk: Walk) -> Index:
        record = _recorded(tar, record)
        name = record.sha256 + INDEX
        found = self._kept_index(name, record)
        if found is not None:
            return found
        with self.cache.lock(name):
            data = self.remote.read(tar.removesuffix(".tar") + INDEX)
            if data is not None:
                write_bytes(self.cache.path(name), data)
                found = self._kept_index(name, record)
        if found is None:
            held = self.whole(tar, record)
            found = walk(self.cache.path(record.sha256 + ".tar"))
            with self.cache.lock(name):
                found.save(self.cache.path(name))
            del held
        return found

    def open(self, tar: str, record: TarRecord | None, index: Index, wanted: Collection[str]) -> OpenFile:
        record = _recorded(tar, record)
        whole = self.cache.open(record.sha256 + ".tar", record.size)
        if whole is not None:
            return whole
        needed = [suffix for suffix in index.suffixes if suffix in wanted]
        part = self._holed(record, needed)
        if part is None and self.remote.ranged is not False and _cost(_ranges(index, needed)) < record.size:
            with contextlib.suppress(NoRangesError):
                part = self._fetch_part(tar, record, index, needed)
        return part or self.whole(tar, record)

    def renew(self, tar: str, record: TarRecord | None) -> bool:
        sha256 = _recorded(tar, record).sha256
        if sha256 in self._renewed:
            return False
        self._renewed.add(sha256)
        for ending in (".tar", _HOLES, _HOLED):
            self.cache.path(sha256 + ending).unlink(missing_ok=True)
        return True

    def _kept_index(self, name: str, record: TarRecord) -> Index | None:
        held = self.cache.open(name)
        if held is None:
            return None
        try:
            index = Index.load(self.cache.path(name))
        except (ValueError, FileNotFoundError):
            return None
        return index if index.fits(record.size, record.sha256) else None

    def whole(self, tar: str, record: TarRecord | None) -> OpenFile:
        """A tar with all its bytes, whose SHA-256 was compared; raises UserError."""
        record = _recorded(tar, record)
        name = record.sha256 + ".tar"
        while (found := self.cache.open(name, record.size)) is None:
            with self.cache.lock(name):
                if not self.cache.path(name).exists():
                    self._download(tar, record, self.cache.path(name))
        return found

    def _download(self, tar: str, record: TarRecord, path: Path) -> None:
        for last in (False, True):
            if self._download_once(tar, record, path):
                return
            if last:
                raise UserError(
                    f"{self.place}/{tar} is not the file that the manifest names (its SHA-256 differs): open the "
                    f"shards again if they were packed anew, otherwise copy or pack them again."
                )

    def _download_once(self, tar: str, record: TarRecord, path: Path) -> bool:
        """Fetch what isn't there yet; says whether it is the file that was wanted, and throws it away if not."""
        partial = path.with_name(path.name + PARTIAL)
        digest = hashlib.sha256()
        with partial.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # so that nobody makes room here
            if file.tell() > record.size:
                file.truncate(0)
            self.cache.make_room(record.size - file.tell())
            file.seek(0)
            while kept := file.read(_CHUNK):
                digest.update(kept)
            for data in self._rest(tar, file.tell(), record.size):
                file.write(data)
                file.flush()
                digest.update(data)
            right = digest.hexdigest() == record.sha256
            if right:
                os.replace(partial, path)
            else:
                partial.unlink()
        return right

    def _rest(self, tar: str, start: int, size: int) -> Iterator[bytes]:
        at_once = 1
        while start < size:
            ends = range(start + _CHUNK, start + at_once * _CHUNK + 1, _CHUNK)
            spans = [(end - _CHUNK, min(end, size)) for end in ends if end - _CHUNK < size]
            try:
                parts = self.remote.ranges(tar, spans)
            except NoRangesError as error:
                parts = [error.data[start:]]
            except FileNotFoundError:
                raise UserError(f"{tar} is missing in {self.place}: copy it again, or run `pride pack`.") from None
            yield from parts
            start += sum(map(len, parts))
            at_once = min(2 * at_once, _CHUNKS_AT_ONCE)

    def _holed(self, record: TarRecord, needed: Collection[str]) -> OpenFile | None:
        file = self.cache.open(record.sha256 + _HOLED, record.size)
        return file if file is not None and self._fetched(record).issuperset(needed) else None

    def _fetched(self, record: TarRecord) -> set[str]:
        """The members, by suffix, that the file with holes has."""
        try:
            return set(json.loads(self.cache.path(record.sha256 + _HOLES).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return set()

    def _fetch_part(self, tar: str, record: TarRecord, index: Index, needed: Collection[str]) -> OpenFile:
        name = record.sha256 + _HOLED
        while (found := self._holed(record, needed)) is None:
            with self.cache.lock(name):
                path = self.cache.path(name)
                had = self._fetched(record) if path.exists() else set()
                ranges = _ranges(index, [suffix for suffix in needed if suffix not in had])
                self.cache.make_room(sum(end - start for start, end in ranges))
                with _open_part(path, record.size) as part:
                    self._fill(tar, part, ranges)
                listed = json.dumps(sorted(had.union(needed))).encode()
                write_bytes(self.cache.path(record.sha256 + _HOLES), listed)
        return found

    def _fill(self, tar: str, part: int, ranges: list[Range]) -> None:
        try:
            while ranges:
                now, held = 0, 0
                while now < len(ranges) and held < _CHUNKS_AT_ONCE * _CHUNK:
                    held += ranges[now][1] - ranges[now][0]
                    now += 1
                for (start, _), data in zip(ranges[:now], self.remote.ranges(tar, ranges[:now]), strict=True):
                    os.pwrite(part, data, start)
                ranges = ranges[now:]
        except FileNotFoundError:
            raise UserError(f"{tar} is missing in {self.place}: copy it again, or run `pride pack`.") from None


@contextlib.contextmanager
def _open_part(path: Path, size: int) -> Iterator[int]:
    part = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(part, fcntl.LOCK_SH)  # so that nobody makes room here
        os.ftruncate(part, size)
        yield part
    finally:
        os.close(part)


def _recorded(tar: str, record: TarRecord | None) -> TarRecord:
    if record is None:
        raise UserError(f"{tar} is recorded nowhere, so it cannot be fetched safely: run `pride teach` again.")
    return record


def _ranges(index: Index, suffixes: Collection[str]) -> list[Range]:
    """Where the members of some suffixes lie, their headers included, over small holes, in pieces of one chunk."""
    columns = [index.column[suffix] for suffix in suffixes]
    sizes, offsets = index.sizes[:, columns], index.offsets[:, columns]
    starts = np.sort(offsets[sizes >= 0] - BLOCK)
    ends = np.sort((offsets + sizes)[sizes >= 0])
    if not len(starts):
        return []
    first = np.flatnonzero(np.append(True, starts[1:] - ends[:-1] > _REQUEST))
    last = np.append(first[1:] - 1, len(ends) - 1)
    return [
        (start, min(start + _CHUNK, end))
        for begin, end in zip(starts[first].tolist(), ends[last].tolist(), strict=True)
        for start in range(begin, end, _CHUNK)
    ]


def _cost(ranges: list[Range]) -> int:
    return sum(end - start + _REQUEST for start, end in ranges)
