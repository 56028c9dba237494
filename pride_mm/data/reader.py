"""The samples of one split, each to be had by its place; indices and open tars are kept at hand."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pride_mm.data.ahead import Ahead
from pride_mm.data.index import Entry, Index
from pride_mm.data.manifest import ShardRecord, TarRecord, tar_name
from pride_mm.data.sample import TAUGHT, Form, Sample, check_members
from pride_mm.data.seal import seal_of
from pride_mm.data.storage import Folder, OpenFile, ReadSettings, Recent, Storage
from pride_mm.data.tar import index_tar, pread_members
from pride_mm.errors import SampleError, UserError

# What a reader keeps at hand: an index is some hundred kilobytes, an open tar a descriptor.
_SHARDS_AT_HAND = 256
# two windows of eight shards, three tars each
_FILES_AT_HAND = 48


@dataclass(frozen=True)
class _Part:
    """One tar of an open shard."""

    added: str
    tar: str
    record: TarRecord | None
    index: Index
    wanted: frozenset[str]


class ShardReader(Sequence[Sample]):
    """The samples of one split, each to be had by its place; may be used from any process and thread.

    What is damaged is found when it is read: a sample raises SampleError, and so does every sample of a shard that is
    broken as a whole.

    Args:
        storage: where the tars lie.
        split: of what these are the samples.
        records: the shards.
        form: what is read of each sample.
        settings: bounds of what is read.
        taught: the teacher's tars by shard, where they are read.

    Attributes:
        sizes: how many samples each shard has, in the order of the places.

    Raises:
        UserError: a tar that this needs is missing, or the notes are encrypted and the key isn't there.
    """

    def __init__(
        self,
        storage: Storage,
        split: str,
        records: Sequence[ShardRecord],
        form: Form,
        settings: ReadSettings,
        taught: Mapping[str, TarRecord],
    ) -> None:
        self.schema, self.split, self.settings, self.form = form.schema, split, settings, form
        self.records = tuple(records)
        self.sizes = tuple(shard.samples for shard in self.records)
        self._ends = list(accumulate(self.sizes))
        self._storage, self._taught = storage, taught
        needed = [(tar_name(s.name, added), self._record(s, added)) for added in form.parts for s in self.records]
        for tar, reason in storage.missing(needed):
            raise UserError(f"{tar} {reason} in {storage.place}: {_maker(tar, storage.place)}")
        if form.sealed is not None:
            seal_of(form.sealed, storage.place)
        self._forget()

    def _forget(self) -> None:
        self._ahead = Ahead(self._bring)
        self._shards: Recent[int, tuple[_Part, ...] | SampleError] = Recent(_SHARDS_AT_HAND)
        self._files: Recent[str, OpenFile] = Recent(_FILES_AT_HAND)

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("_ahead", "_shards", "_files", "keys")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    @property
    def place(self) -> str:
        """The folder or the URL of the shards."""
        return self._storage.place

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of every sample; reads the index of every shard. Raises UserError where one is broken."""
        try:
            return tuple(key for number in range(len(self.sizes)) for key in self._open(number)[0].index.order)
        except SampleError as error:
            raise UserError(f"{error}. `pride check {self._storage.place}` names all that is broken.") from None

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...

    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One sample; raises SampleError with tar, key and field where it is damaged or doesn't fit the schema."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return self.form.parse(self.key(place), self.members(place), self.records[self._find(place)[0]].name)

    def key(self, place: int) -> str:
        """The key of a sample; raises SampleError where its shard is broken."""
        number, row = self._find(place)
        return self._open(number)[0].index.order[row]

    def members(self, place: int) -> dict[str, bytes]:
        """The bytes of a sample's members by suffix, not parsed; raises SampleError."""
        number, row = self._find(place)
        members: dict[str, bytes] = {}
        for part in self._open(number):
            entries = {name: entry for name, entry in part.index.at(row).items() if name in part.wanted}
            members |= self._read(part, part.index.order[row], entries)
        return members

    def lengths(self, shard: int) -> dict[str, NDArray[np.int64]]:
        """How many bytes each field has in each sample of a shard, without reading them: name -> ``(samples,)``."""
        lengths: dict[str, NDArray[np.int64]] = {}
        for part in self._open(shard):
            for column, name in enumerate(part.index.suffixes):
                field = self.form.known[part.added][name]
                if field is not None and name in part.wanted:
                    sizes = np.maximum(part.index.sizes[:, column], 0)
                    lengths[field.name] = lengths[field.name] + sizes if field.name in lengths else sizes
        return lengths

    def prefetch(self, shards: Iterable[int]) -> None:
        """Have shards brought here, one after the other, while others are read; returns at once.

        They are numbered as in ``sizes``. What was asked for before and has not begun is forgotten. Does nothing
        where the shards lie here; what goes wrong is raised where the shard is read.
        """
        if not isinstance(self._storage, Folder):
            self._ahead.ask(shards)

    def _bring(self, number: int) -> None:
        for part in self._open(number):
            self._file(part)

    def _find(self, place: int) -> tuple[int, int]:
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(f"no sample {place} among {len(self)}")
        number = bisect_right(self._ends, place)
        return number, place - self._ends[number] + self.sizes[number]

    def _open(self, number: int) -> tuple[_Part, ...]:
        found = self._shards.get(number, lambda: self._open_shard(number))
        if isinstance(found, SampleError):
            raise found
        return found

    def _open_shard(self, number: int) -> tuple[_Part, ...] | SampleError:
        shard = self.records[number]
        try:
            parts = tuple(self._open_part(shard, added) for added in self.form.parts)
            keys = parts[0].index
            if len(keys) != shard.samples:
                raise SampleError(parts[0].tar, None, f"has {len(keys)} samples, was packed with {shard.samples}")
            for part in parts:
                if part.index.key_bytes != keys.key_bytes:
                    check_aligned(Path(part.tar), keys.order, part.index.order)
        except SampleError as error:
            return error
        return parts

    def _open_part(self, shard: ShardRecord, added: str) -> _Part:
        tar, record, known = tar_name(shard.name, added), self._record(shard, added), self.form.known[added]
        index = self._storage.index(tar, record, lambda path: index_tar(path, known, tar))
        check_members(index, tar, known)
        return _Part(added, tar, record, index, self.form.wanted[added])

    def _record(self, shard: ShardRecord, added: str) -> TarRecord | None:
        return self._taught.get(shard.name) if added == TAUGHT else shard.tars.get(added)

    def _check_sizes(self, tar: str, key: str, entries: dict[str, Entry]) -> None:
        for name, entry in entries.items():
            if entry.size > self.settings.max_member:
                reason = f"has {entry.size:,} bytes, more than max_member={self.settings.max_member:,} allows"
                raise SampleError(f"{tar}: {key}", name.split(".")[1], reason)

    def _read(self, part: _Part, key: str, entries: dict[str, Entry]) -> dict[str, bytes]:
        self._check_sizes(part.tar, key, entries)
        try:
            return self._read_once(part, key, entries)
        except SampleError:
            if not self._storage.renew(part.tar, part.record):
                raise
            self._files.drop(part.tar)
            return self._read_once(part, key, entries)

    def _read_once(self, part: _Part, key: str, entries: dict[str, Entry]) -> dict[str, bytes]:
        file = self._file(part)  # held while it is read: another thread may push it out of what is at hand
        try:
            members = pread_members(file.descriptor, part.tar, key, entries)
        except OSError as error:
            raise SampleError(f"{part.tar}: {key}", None, f"cannot be read ({error.strerror})") from None
        if self.form.sealed is None or part.added != self.form.notes:
            return members
        # the key stays in the environment: a reader that travels to another process takes none along
        return seal_of(self.form.sealed, self.place).open(part.tar, key, members)

    def _file(self, part: _Part) -> OpenFile:
        return self._files.get(part.tar, lambda: self._storage.open(part.tar, part.record, part.index, part.wanted))


def check_aligned(path: Path, expected: Sequence[str], keys: Sequence[str]) -> None:
    """See that a tar has its neighbour's keys in the same order; raises SampleError with the first that differs."""
    for place, key in enumerate(expected):
        if place >= len(keys):
            raise SampleError(f"{path.name}: {key}", None, "this sample is missing here")
        if keys[place] != key:
            reason = "out of order here" if key in keys else "missing here"
            raise SampleError(f"{path.name}: {key}", None, f"this sample is {reason}: '{keys[place]}' is in its place")
    if len(keys) > len(expected):
        raise SampleError(f"{path.name}: {keys[len(expected)]}", None, "this sample is in no other tar of its shard")


def _maker(tar: str, place: str) -> str:
    if tar.endswith(f"{TAUGHT}.tar"):
        return "`pride teach` makes it."
    return f"`pride pack ITEMS --notes privileged.jsonl --out {place}` makes it; this copy was not given the notes."
