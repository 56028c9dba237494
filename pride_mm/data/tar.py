"""A strict tar: written the same each time, read by an index, believed in nothing.

Only what this writer writes is read back: regular files with plain names in USTAR headers, members of
one sample side by side, and the two empty blocks at the end. Other readers skip what they don't
understand and so lose samples in silence; here a link, a path, a damaged header, a repeated or unknown
member and a missing end are errors by name. Nothing read is ever run, unpickled or unpacked to disk.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pride_mm.errors import SampleError
from pride_mm.files import whole_file

BLOCK = 512
END = bytes(2 * BLOCK)
# USTAR holds no longer name without a folder.
LONGEST_NAME = 100
_NAME = re.compile(r"([A-Za-z0-9_-]{1,64})\.([a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9]+)")
_RUNS_CODE = (".pkl", ".pickle", ".pyd", ".pth", ".pt", ".npy", ".joblib", ".dill")


@dataclass(frozen=True)
class Entry:
    """Where a member's bytes lie in its tar."""

    offset: int
    size: int


Index = Mapping[str, Mapping[str, Entry]]


@dataclass(frozen=True)
class Written:
    """What became of a tar: its bytes' SHA-256, how many bytes, how many samples."""

    sha256: str
    size: int
    samples: int


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Written:
    """Write samples, each a key and its members by suffix, whole or not at all.

    Raises:
        ValueError: a member's name is longer than a tar holds.
    """
    digest, size, count = hashlib.sha256(), 0, 0
    with whole_file(path) as file:
        for key, members in samples:
            block = b"".join(_member(f"{key}.{suffix}", data) for suffix, data in members.items())
            file.write(block)
            digest.update(block)
            size, count = size + len(block), count + 1
        file.write(END)
        digest.update(END)
    return Written(digest.hexdigest(), size + len(END), count)


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o444, 0
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def index_tar(path: Path, known: Collection[str]) -> Index:
    """Where each member of each sample lies: key -> suffix -> Entry, in the order of the tar.

    Args:
        path: the tar.
        known: the suffixes that it may hold.

    Raises:
        SampleError: what is wrong, with the tar and the member; a truncated tar is wrong as a whole.
    """
    index: dict[str, dict[str, Entry]] = {}
    last: str | None = None
    with path.open("rb", buffering=0) as file:
        for name, entry in _entries(path, file.fileno()):
            key, suffix = _split_name(path, name, known)
            if key != last and key in index:
                raise SampleError(f"{path.name}: {key}", None, "the members of this sample don't lie side by side")
            members = index.setdefault(key, {})
            if suffix in members:
                raise SampleError(f"{path.name}: {key}", None, f"member '{suffix}' is there twice")
            members[suffix] = entry
            last = key
    return index


def _entries(path: Path, descriptor: int) -> Iterator[tuple[str, Entry]]:
    total = os.fstat(descriptor).st_size
    position = 0
    while True:
        header = os.pread(descriptor, BLOCK, position)
        if len(header) < BLOCK:
            raise SampleError(path.name, None, "truncated: the end of the tar is missing")
        if not any(header):
            break
        name, size = _header(path, header, position)
        start = position + BLOCK
        position = start + size + (-size % BLOCK)
        if position > total:
            raise SampleError(f"{path.name}: {name}", None, "truncated inside this member")
        yield name, Entry(start, size)
    if any(os.pread(descriptor, max(total - position, 2 * BLOCK), position)) or total - position < 2 * BLOCK:
        raise SampleError(path.name, None, "truncated or damaged: it doesn't end as a tar does")


def _header(path: Path, header: bytes, position: int) -> tuple[str, int]:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise SampleError(path.name, None, f"damaged header at byte {position}") from None
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = "a link" if info.issym() or info.islnk() else "not a regular file"
        raise SampleError(f"{path.name}: {info.name}", None, f"is {kind}; a shard holds regular files only")
    if info.size < 0:
        raise SampleError(path.name, None, f"damaged header at byte {position}")
    return info.name, info.size


def _split_name(path: Path, name: str, known: Collection[str]) -> tuple[str, str]:
    if name.lower().endswith(_RUNS_CODE):
        raise SampleError(f"{path.name}: {name}", None, "a file that could run code has no place in a shard")
    match = _NAME.fullmatch(name)
    if match is None:
        raise SampleError(f"{path.name}: {name!r}", None, "not named <key>.<role>.<field>.<ext>")
    key, suffix = match.groups()
    if suffix not in known:
        raise SampleError(
            f"{path.name}: {key}",
            suffix.split(".")[1],
            f"no member of this tar is called '{suffix}' in the schema (allowed: {', '.join(known)})",
        )
    return key, suffix


def read_members(path: Path, entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """The bytes of some members, by suffix; opens the tar anew, so it is safe in any process or thread.

    Raises:
        SampleError: the tar has become shorter since it was indexed.
    """
    members = {}
    with path.open("rb", buffering=0) as file:
        for suffix, entry in entries.items():
            data = os.pread(file.fileno(), entry.size, entry.offset) if entry.size else b""
            while len(data) < entry.size:  # one pread gives at most 2 GiB
                more = os.pread(file.fileno(), entry.size - len(data), entry.offset + len(data))
                if not more:
                    raise SampleError(path.name, None, "truncated since it was opened")
                data += more
            members[suffix] = data
    return members


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
