"""What a set of shards is: its splits, shards and tars, their hashes, and how they came to be.

``manifest.json`` is written last, so a folder without one is not complete. A shard is a set of tars with the same keys
in the same order: ``train-000000.tar`` holds inputs and targets, ``train-000000.privileged.tar`` the notes,
``train-000000.teacher.tar`` what a teacher said. In an inline set the first holds the notes, too.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import TypeAdapter, ValidationError

from pride_mm.config import mistakes
from pride_mm.data.members import of_tar
from pride_mm.data.seal import Sealing
from pride_mm.errors import UserError
from pride_mm.schema import Frozen, Role, Schema

MANIFEST = "manifest.json"
TEACHER = "teacher"
TEACHER_RECORD = "teacher.json"
# The names become paths, here and in a cache: they must not lead out of a folder.
Name = Annotated[str, Setting(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Added = Annotated[str, Setting(pattern=r"^(\.[a-z]{1,16})?$")]
Sha256 = Annotated[str, Setting(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Setting(ge=0)]


class TarRecord(Frozen):
    """One tar as it was written: SHA-256 of its bytes, and how many bytes."""

    sha256: Sha256
    size: Count


class ShardRecord(Frozen):
    """One shard: its name without ``.tar``, its samples, its tars by what is added to the name.

    ``seconds`` is how long its media are, by field.
    """

    name: Name
    samples: Count
    tars: dict[Added, TarRecord]
    seconds: dict[str, float] = {}


class SplitRecord(Frozen):
    """One split: how many samples, how long its media are (seconds by field), and its shards."""

    samples: Count
    seconds: dict[str, float]
    shards: tuple[ShardRecord, ...]


class Manifest(Frozen):
    """What ``pride pack`` made.

    ``inline`` says that the notes lie in the same tars as the rest. ``packing`` is the settings it was packed with, the
    seed among them. ``bad`` counts what was left out, by reason; ``drafts`` the values that are a model's drafts left
    as they were, by field; ``tools`` names versions. ``sealed`` is how the tars of notes are encrypted, None where they
    aren't; their SHA-256 is that of the encrypted bytes.
    """

    format: Literal[1] = 1
    contract: Schema = Setting(alias="schema")
    schema_sha256: str
    inline: bool = False
    sealed: Sealing | None = None
    packing: dict[str, Any] = {}
    splits: dict[Name, SplitRecord]
    bad: dict[str, int]
    drafts: dict[str, int] = {}
    tools: dict[str, str]

    def added(self, role: Role) -> str:
        """What is added to a shard's name for the tar that holds a role."""
        return "" if self.inline else of_tar(role)

    def roles(self, added: str) -> tuple[Role, ...]:
        """The roles that a tar holds; none in a teacher's."""
        return tuple(role for role in Role if self.added(role) == added)


def tar_path(folder: Path, shard: str, added: str = "") -> Path:
    """The tar of a shard in a folder."""
    return folder / tar_name(shard, added)


def tar_name(shard: str, added: str = "") -> str:
    """What the tar of a shard is called."""
    return f"{shard}{added}.tar"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; raises UserError where it is missing or not readable."""
    if not folder.is_dir():
        raise UserError(f"No folder {folder}; `pride pack` makes one.")
    path = folder / MANIFEST
    return parse_manifest(path.read_bytes() if path.is_file() else None, str(folder))


def parse_manifest(data: bytes | None, place: str) -> Manifest:
    """The manifest of a set from its bytes, None where there are none; raises UserError."""
    if data is None:
        raise UserError(f"{place} is not complete: it has no {MANIFEST}. Run `pride pack` again.")
    try:
        return Manifest.model_validate(json.loads(data))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{place}/{MANIFEST} is not JSON. Run `pride pack` again.") from None
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in mistakes(error))
        raise UserError(
            f"{place}/{MANIFEST} is no manifest of this version:\n{lines}\nRun `pride pack` again."
        ) from None


def parse_teacher(data: bytes | None, place: str) -> dict[str, TarRecord]:
    """The teacher's tars by shard, from the record that the teacher left; raises UserError where it is damaged."""
    try:
        return _TEACHER_TARS.validate_python({} if data is None else json.loads(data)["tars"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{place}/{TEACHER_RECORD} is damaged. Run `pride teach` again.") from None


_TEACHER_TARS = TypeAdapter(dict[Name, TarRecord])
