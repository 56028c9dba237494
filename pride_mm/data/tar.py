"""A strict tar: read by an index, believed in nothing.

Only what ``tar_writer`` writes is read back: regular files with plain names in USTAR headers, members of
one sample side by side, and the two empty blocks at the end. Other readers skip what they don't
understand and so lose samples in silence; here a link, a path, a damaged header, a repeated or unknown
member and a missing end are errors by name. Nothing read is ever run, unpickled or unpacked to disk.
"""

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pride_mm.data.index import BLOCK, END, Entry, Index, IndexBuilder, unknown_member
from pride_mm.errors import SampleError

# USTAR holds no longer name without a folder, and no larger member.
LONGEST_NAME = 100
LARGEST_MEMBER = 8**11 - 1
_NAME = re.compile(r"([A-Za-z0-9_-]{1,64})\.([a-z0-9_]+\.[a-z0-9_]+(?:\.[0-9]{3})?\.[a-z0-9]+)")
_RUNS_CODE = (".pkl", ".pickle", ".pyd", ".pth", ".pt", ".npy", ".joblib", ".dill")
_CHUNK = 1 << 20
# Members up to this size are read together with what lies before them, over gaps of this size.
_SMALL, _GAP = 32 << 10, 4 << 10


def _plain_header() -> bytes:
    info = tarfile.TarInfo()
    info.mode, info.mtime = 0o444, 0
    return info.tobuf(tarfile.USTAR_FORMAT)


_PLAIN = _plain_header()
_MODE, _MTIME, _REST = _PLAIN[100:124], _PLAIN[136:148], _PLAIN[156:]
# The checksum counts itself as eight spaces, the size and the end of its field anew.
_SUM = sum(_MODE) + sum(_MTIME) + sum(_REST) + 8 * ord(" ")


def header(name: str, size: int) -> bytes:
    """The USTAR header of a regular file that everyone may read and nobody owns, without a date.

    Raises:
        ValueError: the name or the size is more than a header holds.
    """
    raw = name.encode()
    if len(raw) > LONGEST_NAME:
        raise ValueError(f"name is too long for a tar: {len(raw)} of {LONGEST_NAME} bytes")
    if size > LARGEST_MEMBER:
        raise ValueError(f"a member of {size:,} bytes is too large for a tar ({LARGEST_MEMBER:,})")
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(raw) + sum(digits))
    return b"".join((raw.ljust(LONGEST_NAME, b"\0"), _MODE, digits, _MTIME, checksum, _REST))


def index_tar(path: Path, known: Collection[str], tar: str = "") -> Index:
    """Walk through a tar from header to header.

    Args:
        path: the tar.
        known: the suffixes that it may hold.
        tar: what it is called in messages, where that isn't the name of its file.

    Raises:
        SampleError: what is wrong, with the tar and the member; a truncated tar is wrong as a whole.
    """
    index, seen, members = IndexBuilder(), set[str](), set[str]()
    last: str | None = None
    tar = tar or path.name
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for name, entry in tar_entries(tar, file.fileno(), size):
            key, suffix = split_name(tar, name)
            if suffix not in known:
                raise unknown_member(tar, key, suffix, known)
            if key != last:
                if key in seen:
                    raise SampleError(f"{tar}: {key}", None, "the members of this sample don't lie side by side")
                index.sample(key)
                seen.add(key)
                members.clear()
            if suffix in members:
                raise SampleError(f"{tar}: {key}", None, f"member '{suffix}' is there twice")
            index.member(suffix, *entry)
            members.add(suffix)
            last = key
        return index.build(size)


def tar_entries(tar: str, descriptor: int, total: int, whole: bool = True) -> Iterator[tuple[str, Entry]]:
    """The members in the first ``total`` bytes; they are a whole tar, or one that has no end yet."""
    position = 0
    while whole or position < total:
        head = os.pread(descriptor, max(0, min(BLOCK, total - position)), position)
        if len(head) < BLOCK:
            raise SampleError(tar, None, "truncated: the end of the tar is missing")
        if not any(head):
            break
        name, size = _read_header(tar, head, position)
        start = position + BLOCK
        position = start + size + (-size % BLOCK)
        if position > total:
            raise SampleError(f"{tar}: {name}", None, "truncated inside this member")
        yield name, Entry(start, size, zlib.crc32(head))
    if whole:
        _check_end(tar, descriptor, position, total)


def _check_end(tar: str, descriptor: int, position: int, total: int) -> None:
    # other writers fill up to 10 KiB
    rest = os.pread(descriptor, _CHUNK, position)
    if len(rest) < max(total - position, len(END)) or any(rest):
        raise SampleError(tar, None, "truncated or damaged: it doesn't end as a tar does")


def _read_header(tar: str, head: bytes, position: int) -> tuple[str, int]:
    # what this writer writes is told apart fast; what another wrote goes the long way
    raw, digits = head[:LONGEST_NAME].rstrip(b"\0"), head[124:135]
    if digits.isdigit() and raw.isascii() and b"8" not in digits and b"9" not in digits:
        name, size = raw.decode("ascii"), int(digits, 8)
        if head == header(name, size):
            return name, size
    try:
        info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise SampleError(tar, None, f"damaged header at byte {position}") from None
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = "a link" if info.issym() or info.islnk() else "not a regular file"
        raise SampleError(f"{tar}: {info.name}", None, f"is {kind}; a shard holds regular files only")
    if info.size < 0:
        raise SampleError(tar, None, f"damaged header at byte {position}")
    return info.name, info.size


def split_name(tar: str, name: str) -> tuple[str, str]:
    """Key and suffix of a member; raises SampleError for a name that has no place in a shard."""
    if name.lower().endswith(_RUNS_CODE):
        raise SampleError(f"{tar}: {name}", None, "a file that could run code has no place in a shard")
    match = _NAME.fullmatch(name)
    if match is None:
        raise SampleError(f"{tar}: {name!r}", None, "not named <key>.<role>.<field>.<ext>")
    key, suffix = match.groups()
    return key, suffix


def read_members(path: Path, key: str, entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """The bytes of some members of a sample, by suffix; opens the tar anew, so it is safe in any process or thread.

    Raises:
        SampleError: the tar is not the one that was indexed, or has become shorter since.
    """
    with path.open("rb", buffering=0) as file:
        return pread_members(file.fileno(), path.name, key, entries)


def pread_members(descriptor: int, tar: str, key: str, entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """As ``read_members``, from an open file whose position doesn't matter.

    What is small and lies close together is read at once; what is large is read for itself, which saves its copy.
    """
    members: dict[str, bytes] = {}
    near: dict[str, Entry] = {}
    end = 0
    for suffix, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if near and entry.offset - BLOCK - end > _GAP:
            members |= _pread_near(descriptor, tar, key, near, end)
            near = {}
        near[suffix] = entry
        end = entry.offset + (entry.size if entry.size <= _SMALL else 0)
    if near:
        members |= _pread_near(descriptor, tar, key, near, end)
    return {suffix: members[suffix] for suffix in entries}


def _pread_near(
    descriptor: int, tar: str, key: str, near: Mapping[str, Entry], end: int
) -> Iterator[tuple[str, bytes]]:
    start = next(iter(near.values())).offset - BLOCK
    block = pread(descriptor, end - start, start)
    for suffix, entry in near.items():
        place = entry.offset - start
        head = block[place - BLOCK : place]
        if len(head) == BLOCK and (zlib.crc32(head) != entry.crc or not head.startswith(f"{key}.{suffix}\0".encode())):
            raise SampleError(f"{tar}: {key}", suffix.split(".")[1], "a damaged header, or another tar's index")
        small = entry.size <= _SMALL
        data = block[place : place + entry.size] if small else pread(descriptor, entry.size, entry.offset)
        if len(head) < BLOCK or len(data) < entry.size:
            raise SampleError(f"{tar}: {key}", suffix.split(".")[1], "truncated since it was indexed")
        yield suffix, data


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of a file; fewer than ``size`` where it ends before. One call of the system gives at most 2 GiB."""
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
