"""An audit: what personal data is in records or shards, field by field, and who may read the notes.

No text is shown, kept or returned: kinds, counts, keys of samples, names of files. Clips and sounds aren't looked into:
a face and a voice are personal data wherever they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as datum
from pathlib import Path
from typing import Any

from pipelines.privacy.access import Access, access, elsewhere
from pipelines.privacy.finder import Finder
from pipelines.privacy.records import Where, holds_notes, key_of, texts
from pride_mm.data.manifest import MANIFEST, tar_name
from pride_mm.data.members import is_media
from pride_mm.data.sample import Sample
from pride_mm.data.seal import can_open
from pride_mm.data.shards import DEFAULT_ROLES, ShardSet
from pride_mm.data.storage import Folder
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import read_lines
from pride_mm.schema import Role, Schema, jsonable

EXAMPLES = 3
_BAD = 1_000_000


@dataclass
class Tally:
    """How often one kind was found in one field, in how many samples, and the keys of the first of them."""

    count: int = 0
    samples: int = 0
    keys: list[str] = datum(default_factory=list)


@dataclass
class Audit:
    """What was found.

    Attributes:
        samples: how many were looked at; ``broken`` could not be.
        clips: samples with a clip or a sound, which are not looked into.
        found: by field and kind.
        notes: the files that hold notes.
        unread: of these how many were not looked into, since they aren't here or encrypted without their key.
    """

    samples: int = 0
    broken: int = 0
    clips: int = 0
    found: dict[tuple[Where, str], Tally] = datum(default_factory=dict)
    notes: list[Access] = datum(default_factory=list)
    unread: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was found, and nobody may read notes whom they aren't for."""
        return not self.found and not any(one.open for one in self.notes)

    def add(self, key: str, found: Sequence[tuple[Where, str]]) -> None:
        """Count what was found in a sample."""
        self.samples += 1
        for one in found:
            tally = self.found.setdefault(one, Tally())
            tally.count += 1
        for one in dict.fromkeys(found):
            tally = self.found[one]
            tally.samples += 1
            if len(tally.keys) < EXAMPLES:
                tally.keys.append(key)


def record_files(place: Path) -> list[Path]:
    """The files of records at a place: itself, or those in the folder; raises UserError where there are none."""
    files = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    if not files:
        raise UserError(f"{place} holds neither shards nor files of records (.jsonl): give the folder of one of them.")
    return files


def is_shards(place: str) -> bool:
    """Whether a place is a set of shards: it has a manifest, or is behind a URL."""
    return "://" in place or (Path(place) / MANIFEST).is_file()


def audit_records(
    files: Sequence[Path], schema: Schema, finder: Finder, audit: Audit, progress: Progress = silent
) -> None:
    """Look at files of records, line by line; a line that is no record is counted as broken."""
    for path in files:
        noted, bad = False, BadSamples(_BAD)
        for place, record in read_lines(path, bad):
            noted = noted or holds_notes(record)
            audit.clips += _has_clip(record, schema)
            audit.add(key_of(record, place), _find(texts(record, schema), finder))
            progress(audit.samples, None, path.name)
        audit.broken += len(bad)
        if noted:
            audit.notes.append(access(path))


def audit_shards(place: str, finder: Finder, audit: Audit, progress: Progress = silent) -> None:
    """Look at a set of shards; no clip and no sound is read."""
    shards = ShardSet.open(place)
    readable = _add_tars(shards, audit)
    roles = (*DEFAULT_ROLES, Role.PRIVILEGED) if readable else DEFAULT_ROLES
    total = sum(shards.splits.values())
    for split in shards.splits:
        reader = shards.samples(split, roles, media=False)
        for number in range(len(reader)):
            try:
                sample = reader[number]
            except SampleError:
                audit.broken += 1
                continue
            record = _as_record(sample)
            audit.clips += any(about.get("seconds") for about in dict(sample.meta.get("media") or {}).values())
            audit.add(sample.key, _find(texts(record, shards.schema), finder))
            progress(audit.samples, total, split)


def _add_tars(shards: ShardSet, audit: Audit) -> bool:
    """Name the tars that hold notes; returns whether all of them can be read."""
    manifest, storage = shards.manifest, shards.storage
    if not shards.schema.privileged:
        return False
    added, sealed = manifest.added(Role.PRIVILEGED), manifest.sealed is not None
    tars = [(tar_name(shard.name, added), shard.tars.get(added)) for shard in shards.shards()]
    missing = {tar for tar, _ in storage.missing(tars)}
    for tar, _ in tars:
        if tar not in missing:
            here = isinstance(storage, Folder)
            audit.notes.append(
                access(shards.folder / tar, sealed) if here else elsewhere(f"{shards.place}/{tar}", sealed)
            )
    readable = can_open(manifest.sealed, shards.place)
    audit.unread += len(missing) if readable else len(tars)
    return readable and not missing


def _as_record(sample: Sample) -> dict[str, Any]:
    return {
        **{name: sample.meta.get(name, "") for name in ("corpus", "group")},
        "inputs": _values(sample.inputs),
        "targets": _values(sample.targets),
        "privileged": _values(sample.privileged or {}),
    }


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jsonable(value) for name, value in values.items() if not isinstance(value, bytes)}


def _has_clip(record: Mapping[str, Any], schema: Schema) -> bool:
    inputs = record.get("inputs")
    return isinstance(inputs, dict) and any(is_media(field) and field.name in inputs for field in schema.inputs)


def _find(given: Iterator[tuple[Where, str]], finder: Finder) -> list[tuple[Where, str]]:
    return [(where, one.kind) for where, text in given for one in finder.find(text)]
