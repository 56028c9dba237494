"""Where each member of each sample lies in its tar: a small file of columns beside it, and its checks.

The index saves a reader the walk through the tar. It holds nothing that the tar does not: where it is missing, is
damaged, or belongs to other bytes, the tar is walked instead. It is never believed: no entry reaches past the tar's
end, and each carries the CRC-32 of the header that must lie before it, which every read compares.

Letters: ``N`` samples, ``S`` suffixes.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pride_mm.errors import SampleError
from pride_mm.files import write_bytes

BLOCK = 512
END = bytes(2 * BLOCK)
INDEX = ".index"
_KEYS = re.compile(rb"(?:[A-Za-z0-9_-]{1,64}\n)*")
_FORMAT = 1
_COLUMNS = {"offsets": np.int64, "sizes": np.int64, "crcs": np.uint32}


class Entry(NamedTuple):
    """Where a member's bytes lie in its tar, and the CRC-32 of the header before them."""

    offset: int
    size: int
    crc: int


class Index(Mapping[str, Mapping[str, Entry]]):
    """Key -> suffix -> Entry, in the order of the tar.

    Attributes:
        suffixes: what members are called behind their keys, in the order in which they were first met.
        offsets, sizes, crcs: ``(N, S)``; size -1 where a sample has no such member.
        tar_size: bytes of the tar.
        sha256: of the tar's bytes; empty where nobody has read them all.
        key_bytes: the keys, a line each: equal where two tars are aligned.
    """

    def __init__(
        self, suffixes: tuple[str, ...], keys: bytes, columns: Mapping[str, NDArray[Any]], tar_size: int, sha256: str
    ) -> None:
        self.suffixes, self.tar_size, self.sha256 = suffixes, tar_size, sha256
        self.key_bytes = keys
        self.offsets: NDArray[np.int64] = columns["offsets"]
        self.sizes: NDArray[np.int64] = columns["sizes"]
        self.crcs: NDArray[np.uint32] = columns["crcs"]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The keys, in the order of the tar."""
        return tuple(self.key_bytes.decode("ascii").splitlines())

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.order)}

    @cached_property
    def column(self) -> dict[str, int]:
        """The column of each suffix."""
        return {suffix: column for column, suffix in enumerate(self.suffixes)}

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __getitem__(self, key: str) -> dict[str, Entry]:
        return self.at(self._rows[key])

    def at(self, row: int) -> dict[str, Entry]:
        """The members of one sample by its place in the tar."""
        columns = zip(
            self.suffixes, self.offsets[row].tolist(), self.sizes[row].tolist(), self.crcs[row].tolist(), strict=True
        )
        return {suffix: Entry(offset, size, crc) for suffix, offset, size, crc in columns if size >= 0}

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all; the same index gives the same bytes."""
        about = {
            "format": _FORMAT,
            "suffixes": self.suffixes,
            "samples": len(self),
            "tar_size": self.tar_size,
            "sha256": self.sha256,
        }
        columns = {name: np.ascontiguousarray(getattr(self, name)) for name in _COLUMNS}
        columns["keys"] = np.frombuffer(self.key_bytes, dtype=np.uint8)
        # one entry: safetensors keeps no order among several
        write_bytes(path, save(columns, {"index": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an index; takes milliseconds for 100,000 members.

        Raises:
            ValueError: it is none, or points to where its tar cannot have a member.
            FileNotFoundError: there is none.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["index"])
                columns = {name: file.get_tensor(name) for name in (*_COLUMNS, "keys")}
            samples, suffixes = about["samples"], tuple(map(str, about["suffixes"]))
            index = cls(suffixes, columns["keys"].tobytes(), columns, int(about["tar_size"]), str(about["sha256"]))
            fits = about["format"] == _FORMAT and all(
                columns[name].shape == (samples, len(suffixes)) and columns[name].dtype == dtype
                for name, dtype in _COLUMNS.items()
            )
            if not fits or index.key_bytes.count(b"\n") != samples or not _KEYS.fullmatch(index.key_bytes):
                raise ValueError("its columns don't fit together")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an index ({error})") from None
        index._check_bounds()
        return index

    def _check_bounds(self) -> None:
        present = self.sizes >= 0
        inside = (
            (self.offsets >= BLOCK)
            & (self.offsets <= self.tar_size - len(END))
            & (self.sizes <= self.tar_size - len(END) - self.offsets)
        )
        if not inside[present].all():
            raise ValueError("it points past the end of the tar")

    def fits(self, size: int, sha256: str = "") -> bool:
        """Whether it may belong to a tar of this size and, where both are known, of this SHA-256."""
        return self.tar_size == size and (not sha256 or not self.sha256 or self.sha256 == sha256)

    def check(self, tar: str, known: Collection[str], required: Mapping[str, str | None]) -> None:
        """See that every member may be there and every one that must be is.

        Args:
            tar: the tar's name, for the message.
            known: the suffixes that the tar may hold.
            required: the suffixes that every sample must have, and the field of each.

        Raises:
            SampleError: with tar, key and field.
        """
        for suffix in self.suffixes:
            if suffix not in known:
                key = self.order[int(np.argmax(self.sizes[:, self.column[suffix]] >= 0))]
                raise unknown_member(tar, key, suffix, known)
        for suffix, field in required.items() if len(self) else ():
            column = self.column.get(suffix)
            lacking = np.ones(len(self), bool) if column is None else self.sizes[:, column] < 0
            if lacking.any():
                place = f"{tar}: {self.order[int(np.argmax(lacking))]}"
                raise SampleError(place, field, f"member '{suffix}' is missing")


class IndexBuilder:
    """An index that grows member by member; those of one sample follow each other."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._first: list[int] = []
        self._columns: dict[str, int] = {}
        self._members: list[tuple[int, int, int, int]] = []

    def sample(self, key: str) -> None:
        """Begin a sample."""
        self.keys.append(key)
        self._first.append(len(self._members))

    def member(self, suffix: str, offset: int, size: int, crc: int) -> None:
        """Add a member to the last sample begun."""
        column = self._columns.setdefault(suffix, len(self._columns))
        self._members.append((column, offset, size, crc))

    def build(self, tar_size: int, sha256: str = "") -> Index:
        """The index of what was added."""
        shape = (len(self.keys), len(self._columns))
        columns: dict[str, NDArray[Any]] = {name: np.full(shape, -1, np.int64) for name in ("offsets", "sizes")}
        columns["crcs"] = np.zeros(shape, np.uint32)
        if self._members:
            members = np.array(self._members, dtype=np.int64)
            bounds = [*self._first, len(self._members)]
            rows = np.repeat(np.arange(len(self.keys)), [last - first for first, last in pairwise(bounds)])
            for place, name in enumerate(_COLUMNS, 1):
                columns[name][rows, members[:, 0]] = members[:, place]
        keys = "".join(f"{key}\n" for key in self.keys).encode("ascii")
        return Index(tuple(self._columns), keys, columns, tar_size, sha256)


def index_path(tar: Path) -> Path:
    """Where the index of a tar lies: beside it."""
    return tar.with_suffix(INDEX)


def unknown_member(tar: str, key: str, suffix: str, known: Collection[str]) -> SampleError:
    """The error of a member that its tar must not hold."""
    allowed = [name for name in known if not name.split(".")[2].isdigit()]
    return SampleError(
        f"{tar}: {key}",
        suffix.split(".")[1],
        f"no member of this tar is called '{suffix}' in the schema (allowed: {', '.join(allowed)})",
    )
