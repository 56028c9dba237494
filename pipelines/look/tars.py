"""One tar of a shard under the glass: its bytes, its headers, its members' names, the index beside it."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as datum
from functools import lru_cache
from pathlib import Path

import numpy as np

from pride_mm.data.index import INDEX, Index
from pride_mm.data.manifest import TarRecord
from pride_mm.data.mirror import Mirror
from pride_mm.data.sample import check_members, tar_members
from pride_mm.data.shards import open_storage
from pride_mm.data.storage import Folder, OpenFile, ReadSettings, Storage
from pride_mm.data.tar import index_tar
from pride_mm.errors import SampleError, UserError
from pride_mm.schema import Role, Schema

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Tar:
    """A tar to look at: where it lies, its name, as what it was written, and the roles that it holds."""

    place: str
    name: str
    record: TarRecord | None
    roles: tuple[Role, ...]


@dataclass
class Looked:
    """What was found of a tar; ``index`` says where its samples lie, None where that cannot be told."""

    missing: bool = False
    index: Index | None = None
    findings: list[SampleError] = datum(default_factory=list)


def look_at_tar(schema: Schema, tar: Tar) -> Looked:
    """Read a tar from its first byte to its last; every finding names it."""
    looked = Looked()
    try:
        file = open_tar(tar.place, tar.name, tar.record)
    except (UserError, OSError) as error:
        looked.missing = True
        reason = str(error) if isinstance(error, UserError) else "is missing"
        looked.findings.append(SampleError(tar.name, None, reason))
        return looked
    _compare(tar, file, looked)
    members = tar_members(schema, tar.roles)
    try:
        looked.index = index_tar(_path(file), members, tar.name)
        check_members(looked.index, tar.name, members)
    except SampleError as error:
        looked.findings.append(error)
    if looked.index is not None:
        looked.findings += _check_index(tar, looked.index)
    return looked


def _compare(tar: Tar, file: OpenFile, looked: Looked) -> None:
    """With what was recorded when it was packed."""
    size = os.fstat(file.descriptor).st_size
    if tar.record is None:
        return
    if size != tar.record.size:
        reason = f"has {size:,} bytes, was packed with {tar.record.size:,}"
        looked.findings.append(SampleError(tar.name, None, reason))
    elif _sha256(file) != tar.record.sha256:
        reason = "its bytes are not those that were packed (sha256 differs)"
        looked.findings.append(SampleError(tar.name, None, reason))


def _sha256(file: OpenFile) -> str:
    digest, place = hashlib.sha256(), 0
    while chunk := os.pread(file.descriptor, _CHUNK, place):
        digest.update(chunk)
        place += len(chunk)
    return digest.hexdigest()


def _path(file: OpenFile) -> Path:
    return Path(f"/dev/fd/{file.descriptor}")


def _check_index(tar: Tar, walked: Index) -> Sequence[SampleError]:
    """The index beside the tar has to say what the tar does; there may be none."""
    name = tar.name.removesuffix(".tar") + INDEX
    data = storage_of(tar.place).read(name)
    if data is None:
        return []
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        try:
            index = Index.load(Path(copy.name))
        except ValueError as error:
            return [SampleError(name, None, f"{error}; remove it, readers do without")]
    if not index.fits(walked.tar_size, tar.record.sha256 if tar.record else ""):
        return [SampleError(name, None, f"belongs to another {tar.name}; remove it, readers do without")]
    same = index.key_bytes == walked.key_bytes and set(index.suffixes) == set(walked.suffixes)
    if not same or any(_differ(index, walked, suffix) for suffix in index.suffixes):
        return [SampleError(name, None, f"doesn't say what lies in {tar.name}; remove it, readers do without")]
    return []


def _differ(index: Index, walked: Index, suffix: str) -> bool:
    one, other = index.column[suffix], walked.column[suffix]
    present = walked.sizes[:, other] >= 0
    return not (
        np.array_equal(index.sizes[:, one] >= 0, present)
        and all(
            np.array_equal(getattr(index, name)[present, one], getattr(walked, name)[present, other])
            for name in ("offsets", "sizes", "crcs")
        )
    )


@lru_cache(maxsize=4)
def storage_of(place: str) -> Storage:
    """The storage at a place, kept open in this process."""
    return open_storage(place, None, ReadSettings())


@lru_cache(maxsize=16)
def open_tar(place: str, name: str, record: TarRecord | None) -> OpenFile:
    """A whole tar, kept open in this process; raises UserError or OSError where it cannot be had."""
    storage = storage_of(place)
    if isinstance(storage, Mirror):
        return storage.whole(name, record)
    assert isinstance(storage, Folder)
    return OpenFile(storage.folder / name)
