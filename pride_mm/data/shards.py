"""A set of shards, in a folder or behind a URL: opened by its manifest, read sample by sample.

Nothing is read before it is asked for: opening takes the manifest, the first sample of a shard its indices, a sample
one or two reads of each tar that it needs. A site that must not hold notes is not given the ``.privileged.tar``;
everything else still works there.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pride_mm.data.index import Index
from pride_mm.data.manifest import (
    MANIFEST,
    TEACHER,
    TEACHER_RECORD,
    Manifest,
    ShardRecord,
    SplitRecord,
    TarRecord,
    parse_manifest,
    parse_teacher,
    read_manifest,
    tar_name,
    tar_path,
)
from pride_mm.data.mirror import Mirror
from pride_mm.data.reader import ShardReader, check_aligned
from pride_mm.data.sample import TAUGHT, Form, Sample, check_members, decode_role, read_reached, tar_members
from pride_mm.data.storage import Folder, ReadSettings, Storage
from pride_mm.data.tar import index_tar
from pride_mm.errors import UserError
from pride_mm.schema import Role, Schema

__all__ = [
    "DEFAULT_ROLES",
    "MANIFEST",
    "TEACHER",
    "Manifest",
    "ReadSettings",
    "Sample",
    "ShardReader",
    "ShardRecord",
    "ShardSet",
    "SplitRecord",
    "TarRecord",
    "check_aligned",
    "decode_role",
    "open_index",
    "read_manifest",
    "read_reached",
    "tar_path",
]

DEFAULT_ROLES = (Role.INPUT, Role.TARGET)
_URL = re.compile(r"([a-z][a-z0-9]*)://")


class ShardSet:
    """A complete set of shards."""

    def __init__(self, storage: Storage, manifest: Manifest, settings: ReadSettings | None = None) -> None:
        self.storage, self.manifest, self.settings = storage, manifest, settings or ReadSettings()

    @classmethod
    def open(cls, place: str | Path, cache: Path | None = None, settings: ReadSettings | None = None) -> "ShardSet":
        """Open a set of shards.

        Args:
            place: a folder, or the URL of one.
            cache: where copies of remote shards are kept; by default the folder in ``PRIDE_CACHE``, or one in the
                user's own cache.
            settings: bounds of what is read, of the cache, and of waiting.

        Raises:
            UserError: it isn't one, isn't complete, or a tar is missing or has another size than it was written with.
        """
        storage = open_storage(place, cache, settings or ReadSettings())
        opened = cls(storage, parse_manifest(storage.read(MANIFEST), storage.place), settings)
        records = {tar_name(s.name, added): (added, tar) for s in opened.shards() for added, tar in s.tars.items()}
        for tar, reason in storage.missing((tar, record) for tar, (_, record) in records.items()):
            if reason == "is missing" and records[tar][0]:  # a site that must not hold notes isn't given them
                continue
            raise UserError(f"{tar} {reason} in {storage.place}: copy it again, or run `pride pack` again.")
        return opened

    @property
    def schema(self) -> Schema:
        """The schema that the shards were packed with, whole."""
        return self.manifest.contract

    @property
    def place(self) -> str:
        """Where the shards lie, as people write it."""
        return self.storage.place

    @property
    def folder(self) -> Path:
        """The folder of the shards; raises UserError where they don't lie on this machine."""
        if isinstance(self.storage, Folder):
            return self.storage.folder
        raise UserError(f"{self.place} cannot be written to: copy the shards to a folder of this machine first.")

    @property
    def splits(self) -> dict[str, int]:
        """How many samples each split has."""
        return {name: split.samples for name, split in self.manifest.splits.items()}

    def shards(self, split: str | None = None) -> tuple[ShardRecord, ...]:
        """The shards of a split, or of all."""
        if split is None:
            return tuple(shard for record in self.manifest.splits.values() for shard in record.shards)
        if split not in self.manifest.splits:
            raise UserError(f"No split '{split}' in {self.place}; there is: {', '.join(self.splits)}.")
        return self.manifest.splits[split].shards

    def path(self, shard: str, added: str = "") -> Path:
        """The tar of a shard: ``added`` is empty, ``.privileged`` or ``.teacher``."""
        return tar_path(self.folder, shard, added)

    def taught(self) -> dict[str, TarRecord]:
        """The teacher's tars by shard, where a teacher has recorded them."""
        return parse_teacher(self.storage.read(TEACHER_RECORD), self.place)

    def samples(
        self, split: str, roles: Sequence[Role] = DEFAULT_ROLES, teacher: bool = False, media: bool = True
    ) -> ShardReader:
        """The samples of a split, in the order of its shards.

        Args:
            split: one of ``splits``.
            roles: what to read; privileged fields only where they are asked for.
            teacher: whether to read what the teacher said.
            media: whether to read clips and sound; without them they are absent.

        Raises:
            UserError: a tar that this needs is missing.
        """
        form = Form(self.manifest, roles, teacher, media)
        return ShardReader(
            self.storage, split, self.shards(split), form, self.settings, self.taught() if teacher else {}
        )

    def find(self, key: str) -> tuple[str, int]:
        """The split of a key and its place there; raises UserError where there is none."""
        for split in self.splits:
            keys = self.samples(split, media=False).keys
            if key in keys:
                return split, keys.index(key)
        raise UserError(f"No sample '{key}' in {self.place}; `pride show {self.place}` shows the first one.")


def open_index(path: Path, schema: Schema, added: str, inline: bool = False) -> Index:
    """Walk through one tar and see that every sample has every member it must have.

    Raises:
        SampleError: with tar, key and field.
    """
    roles = [] if added == TAUGHT else list(Role) if inline else [Role.PRIVILEGED] if added else DEFAULT_ROLES
    known = tar_members(schema, roles)
    index = index_tar(path, known)
    check_members(index, path.name, known)
    return index


def open_storage(place: str | Path, cache: Path | None, settings: ReadSettings) -> Storage:
    """The folder or URL ``place``; copies of what is remote go to ``cache``, by default the user's own."""
    url = _URL.match(str(place))
    if isinstance(place, Path) or url is None:
        return Folder(Path(place))
    if url[1] == "file":
        return Folder(Path(str(place)[len("file://") :]))
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    default = os.environ.get("PRIDE_CACHE") or Path(home) / "pride-mm" / "shards"
    return Mirror(str(place), (cache or Path(default)).expanduser(), settings)
