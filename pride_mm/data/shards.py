"""A folder of shards: opened, checked for being whole, and read sample by sample.

A shard is a set of tars with the same keys in the same order, one a role: ``train-000000.tar`` holds
inputs and targets, ``train-000000.privileged.tar`` the notes, ``train-000000.teacher.tar`` what a
teacher said. ``manifest.json`` is written last, so a folder without one is not complete. A site that must
not hold notes is not given the ``.privileged.tar``; everything else still works there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as datum
from pathlib import Path
from typing import Any, Literal, overload

from pydantic import Field as Setting
from pydantic import ValidationError

from pride_mm.config import mistakes
from pride_mm.data.members import META, REACHED, decode_value, from_json, is_media, of_tar, suffix, suffixes
from pride_mm.data.tar import Index, index_tar, read_members
from pride_mm.data.teaching import MEMBER as TEACHER_MEMBER
from pride_mm.errors import SampleError, UserError
from pride_mm.schema import Field, Frozen, Role, Schema, Value

MANIFEST = "manifest.json"
TEACHER = "teacher"
DEFAULT_ROLES = (Role.INPUT, Role.TARGET)


class TarRecord(Frozen):
    """One tar as it was written: SHA-256 of its bytes, and how many bytes."""

    sha256: str
    size: int


class ShardRecord(Frozen):
    """One shard: its name without ``.tar``, its samples, and its tars by what is added to the name."""

    name: str
    samples: int
    tars: dict[str, TarRecord]


class SplitRecord(Frozen):
    """One split: how many samples, how long its media are (seconds by field), and its shards."""

    samples: int
    seconds: dict[str, float]
    shards: tuple[ShardRecord, ...]


class Manifest(Frozen):
    """What ``pride pack`` made.

    ``bad`` counts what it left out, by reason; ``drafts`` the values that are a model's drafts left as they were, by
    field; ``tools`` names versions.
    """

    format: Literal[1] = 1
    contract: Schema = Setting(alias="schema")
    schema_sha256: str
    splits: dict[str, SplitRecord]
    bad: dict[str, int]
    drafts: dict[str, int] = {}
    tools: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """One item out of a shard. Media are bytes; an absent field is not in its dict.

    ``privileged`` is None where the notes weren't asked for; ``teacher`` is the teacher's member. With the notes comes
    how each agreed value was ``reached``, by field, and in ``drafts`` the model whose draft it is, left as it was.
    """

    key: str
    corpus: str
    inputs: dict[str, Value | bytes]
    targets: dict[str, Value]
    privileged: dict[str, Value] | None = None
    teacher: bytes | None = None
    meta: dict[str, Any] = datum(default_factory=dict)
    reached: dict[str, str] = datum(default_factory=dict)
    drafts: dict[str, str] = datum(default_factory=dict)


class ShardSet:
    """A complete folder of shards."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path) -> "ShardSet":
        """Open a folder of shards.

        Raises:
            UserError: it isn't one, isn't complete, or a tar is missing or has another size than it was written with.
        """
        folder = Path(folder)
        opened = cls(folder, read_manifest(folder))
        for shard in opened.shards():
            for added, record in shard.tars.items():
                path = tar_path(folder, shard.name, added)
                if not path.is_file():
                    if added:  # a site that must not hold notes isn't given them
                        continue
                    raise UserError(f"{path.name} is missing in {folder}; copy it again, or run `pride pack` again.")
                if path.stat().st_size != record.size:
                    raise UserError(
                        f"{path.name} has {path.stat().st_size:,} bytes, was packed with {record.size:,}: "
                        f"copy it again, or run `pride pack` again."
                    )
        return opened

    @property
    def schema(self) -> Schema:
        """The schema that the shards were packed with, whole."""
        return self.manifest.contract

    @property
    def splits(self) -> dict[str, int]:
        """How many samples each split has."""
        return {name: split.samples for name, split in self.manifest.splits.items()}

    def shards(self, split: str | None = None) -> tuple[ShardRecord, ...]:
        """The shards of a split, or of all."""
        if split is None:
            return tuple(shard for record in self.manifest.splits.values() for shard in record.shards)
        if split not in self.manifest.splits:
            raise UserError(f"No split '{split}' in {self.folder}; there is: {', '.join(self.splits)}.")
        return self.manifest.splits[split].shards

    def path(self, shard: str, added: str = "") -> Path:
        """The tar of a shard: ``added`` is empty, ``.privileged`` or ``.teacher``."""
        return tar_path(self.folder, shard, added)

    def samples(self, split: str, roles: Sequence[Role] = DEFAULT_ROLES, teacher: bool = False) -> "ShardReader":
        """The samples of a split, in the order of its shards.

        Args:
            split: one of ``splits``.
            roles: what to read; privileged fields only where they are asked for.
            teacher: whether to read what the teacher said.

        Raises:
            UserError: a tar is missing, damaged, or has other keys than its neighbour.
        """
        return ShardReader(self, split, tuple(Role(role) for role in roles), teacher)

    def find(self, key: str) -> tuple[str, int]:
        """The split of a key and its place there; raises UserError where there is none."""
        for split in self.splits:
            keys = self.samples(split).keys
            if key in keys:
                return split, keys.index(key)
        raise UserError(f"No sample '{key}' in {self.folder}; `pride show {self.folder}` shows the first one.")


class ShardReader(Sequence[Sample]):
    """The samples of one split; each read opens its tar, so it may be used from any process or thread."""

    def __init__(self, shards: ShardSet, split: str, roles: tuple[Role, ...], teacher: bool) -> None:
        self.schema, self.folder, self.split = shards.schema, shards.folder, split
        self.roles, self.teacher = roles, teacher
        self.keys: tuple[str, ...] = ()
        self._places: list[tuple[str, str]] = []
        self._indices: dict[tuple[str, str], Index] = {}
        added = ["", *([of_tar(Role.PRIVILEGED)] if self._has_notes() else []), *([f".{TEACHER}"] if teacher else [])]
        for shard in shards.shards(split):
            self._open_shard(shard, added)
        self.keys = tuple(key for _, key in self._places)

    def _has_notes(self) -> bool:
        return Role.PRIVILEGED in self.roles and bool(self.schema.privileged)

    def _open_shard(self, shard: ShardRecord, added: list[str]) -> None:
        keys: list[str] = []
        for part in added:
            path = tar_path(self.folder, shard.name, part)
            if not path.is_file():
                raise UserError(f"{path.name} is missing in {self.folder}: {_maker(part, self.folder)}")
            try:
                index = open_index(path, self.schema, part)
                keys = keys if part else list(index)
                check_aligned(path, keys, list(index))
            except SampleError as error:
                raise UserError(f"{error}. `pride check {self.folder}` names all that is broken.") from None
            self._indices[shard.name, part] = index
        if len(keys) != shard.samples:
            raise UserError(f"{shard.name}.tar has {len(keys)} samples, was packed with {shard.samples}.")
        self._places += [(shard.name, key) for key in keys]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...

    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One sample; raises SampleError with tar, key and field where a member doesn't fit the schema."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        shard, key = self._places[place]
        base = self._members(shard, key, "")
        where = f"{shard}.tar: {key}"
        meta = _meta(base.get(META, b""), where)
        inputs = decode_role(self.schema.inputs, base, where) if Role.INPUT in self.roles else {}
        turns = _turns(self.schema, inputs)
        targets = decode_role(self.schema.targets, base, where, turns) if Role.TARGET in self.roles else {}
        notes = None
        about: tuple[dict[str, str], dict[str, str]] = {}, {}
        if self._has_notes():
            added = of_tar(Role.PRIVILEGED)
            members = self._members(shard, key, added)
            notes = decode_role(self.schema.privileged, members, f"{shard}{added}.tar: {key}", turns)
            about = read_reached(members.get(REACHED), f"{shard}{added}.tar: {key}")
        elif Role.PRIVILEGED in self.roles:
            notes = {}
        teacher = self._members(shard, key, f".{TEACHER}")[TEACHER_MEMBER] if self.teacher else None
        return Sample(key, str(meta.get("corpus", "")), inputs, targets, notes, teacher, meta, *about)  # type: ignore[arg-type]

    def _members(self, shard: str, key: str, added: str) -> dict[str, bytes]:
        entries = self._indices[shard, added][key]
        if not added:  # media are large: read only what was asked for
            wanted = {suffix(f) for f in self.schema.inputs + self.schema.targets if f.role in self.roles}
            entries = {name: entry for name, entry in entries.items() if name in wanted or name == META}
        return read_members(tar_path(self.folder, shard, added), entries)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; raises UserError where it is missing or not readable."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"No folder {folder}; `pride pack` makes one.")
    if not path.is_file():
        raise UserError(f"{folder} is not complete: it has no {MANIFEST}. Run `pride pack` again.")
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path} is not JSON. Run `pride pack` again.") from None
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in mistakes(error))
        raise UserError(f"{path} is no manifest of this version:\n{lines}\nRun `pride pack` again.") from None


def tar_path(folder: Path, shard: str, added: str = "") -> Path:
    """The tar of a shard in a folder."""
    return folder / f"{shard}{added}.tar"


def open_index(path: Path, schema: Schema, added: str) -> Index:
    """Index one tar and see that every sample has every member it must have.

    Raises:
        SampleError: with tar, key and field.
    """
    if added == f".{TEACHER}":
        known: dict[str, Field | None] = {TEACHER_MEMBER: None}
    elif added:
        known = {REACHED: None, **suffixes(schema.privileged)}
    else:
        known = {META: None, **suffixes(schema.inputs + schema.targets)}
    index = index_tar(path, known)
    for key, members in index.items():
        for name, field in known.items():
            # packs of before drafts were told apart have no such member
            if name not in members and name != REACHED and not (field is not None and is_media(field)):
                raise SampleError(f"{path.name}: {key}", field.name if field else None, f"member '{name}' is missing")
    return index


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


def decode_role(
    fields: Sequence[Field], members: Mapping[str, bytes], place: str, turns: int | None = None
) -> dict[str, Value | bytes]:
    """The values of some fields out of a sample's members; raises SampleError with place and field."""
    values: dict[str, Value | bytes] = {}
    for field in fields:
        data = members.get(suffix(field))
        if data is None:
            continue
        try:
            value = decode_value(field, data, turns)
        except ValueError as error:
            raise SampleError(place, field.name, str(error)) from None
        if value is not None:
            values[field.name] = value
    return values


def _turns(schema: Schema, inputs: Mapping[str, Any]) -> int | None:
    dialogue = inputs.get(schema.dialogue.name)
    return len(dialogue) if dialogue is not None else None


def read_reached(data: bytes | None, place: str) -> tuple[dict[str, str], dict[str, str]]:
    """How the values of a sample were reached, and which models' drafts they are, by field; raises SampleError."""
    try:
        raw = {"how": {}, "drafts": {}} if data is None else from_json(data)
        how, drafts = ({str(name): str(text) for name, text in raw[part].items() if text} for part in ("how", "drafts"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SampleError(place, None, f"'{REACHED}' is not what was packed") from None
    return how, drafts


def _meta(data: bytes, place: str) -> dict[str, Any]:
    try:
        meta = from_json(data)
    except ValueError as error:
        raise SampleError(place, None, f"{META} is {error}") from None
    return meta if isinstance(meta, dict) else {}


def _maker(added: str, folder: Path) -> str:
    if added == f".{TEACHER}":
        return "`pride teach` makes it."
    return f"`pride pack ITEMS --notes privileged.jsonl --out {folder}` makes it; this copy was not given the notes."
