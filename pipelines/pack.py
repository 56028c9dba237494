"""Items and notes -> a folder of shards, the same bytes for the same input.

Media are checked by decoding them once, cut, and converted. A broken or missing clip doesn't cost its
dialogue: the item is packed without that field, and the field is named and counted as bad. Items that
contradict themselves (a second one of the same id, a group torn over two splits) are left out, named and
counted too. The order in a split is by the hash of the id, so it neither follows the corpus nor chance.

While it runs, the folder has no manifest; nothing that it leaves when stopped is taken for whole.
"""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.pack_item import Packed, pack_item
from pipelines.split import SPLITS, assign_splits
from pipelines.workers import WORKERS, Workers
from pipelines.workers import workers as start_workers
from pride_mm.data.members import META, REACHED, encode_value, is_media, of_tar, suffix, to_json
from pride_mm.data.shards import (
    MANIFEST,
    TEACHER,
    Manifest,
    ShardRecord,
    SplitRecord,
    TarRecord,
    tar_path,
)
from pride_mm.data.tar import LONGEST_NAME, file_sha256, write_tar
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import PARTIAL, write_json
from pride_mm.progress import Progress, silent
from pride_mm.records import Item, Notes, read_items, read_notes
from pride_mm.schema import Role, Schema

SHARD_SAMPLES = 256
_TOOLS = ("pride-mm", "av", "decord")


@dataclass(frozen=True)
class Result:
    """What was packed.

    ``fields_left_out`` were broken in items that were packed; ``notes_unused`` fit no item; ``drafts_left_out`` are
    values that were a model's drafts left as they were.
    """

    manifest: Manifest
    bad: BadSamples
    fields_left_out: int
    notes_unused: int
    teacher_removed: int
    drafts_left_out: int = 0


def pack(
    items: Sequence[Path],
    schema: Schema,
    out: Path,
    notes: Sequence[Path] = (),
    max_bad: int = 10,
    shard_samples: int = SHARD_SAMPLES,
    workers: int = WORKERS,
    drafts: bool = False,
    progress: Progress = silent,
) -> Result:
    """Pack items, and the notes on them, into shards.

    Args:
        items: JSON lines files of items; media paths in them are relative to the file.
        schema: the fields.
        out: the folder of the shards; an older pack in it is replaced.
        notes: JSON lines files of notes; targets agreed on in them go before an item's own.
        max_bad: how many bad lines, items and fields are allowed.
        shard_samples: how many samples a shard holds.
        workers: how many items are converted at once; the bytes don't depend on it.
        drafts: keep notes that are a model's drafts left as they were, marked as such. Targets never are: what the
            student has to say is an expert's word.
        progress: told of each item.

    Raises:
        UserError: there is nothing to pack, or more is bad than allowed.
    """
    bad = BadSamples(max_bad)
    given = _fitting(_read_items(items, schema, bad), schema, bad)
    agreed, drafts_left_out = _without_drafts(_read_notes(notes, schema, bad), drafts)
    splits = assign_splits(given, bad)
    kept = [item for item in given if item.id in splits]
    if not kept:
        named = "".join(f"\n  {error}" for error in bad)
        raise UserError(f"Nothing to pack: no good item in {', '.join(map(str, items))}.{named}")
    _begin(out)
    fields_bad = len(bad)
    with start_workers(workers) as pool:
        run = _Run(schema, out, agreed, bad, pool, progress, len(kept))
        records: dict[str, SplitRecord] = {
            split: run.split(split, [item for item in kept if splits[item.id] == split], shard_samples)
            for split in SPLITS
            if any(splits[item.id] == split for item in kept)
        }
    manifest = Manifest(
        schema=schema,
        schema_sha256=schema.sha256,
        splits=records,
        bad=dict(sorted(Counter(_kind_of(error) for error in bad).items())),
        drafts=dict(
            sorted(Counter(name for item in kept if item.id in agreed for name in agreed[item.id].drafts).items())
        ),
        tools={name: _version(name) for name in _TOOLS},
    )
    removed = run.teacher_removed + _remove_strays(out, manifest)
    write_json(out / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
    unused = len(agreed.keys() - {item.id for item in given})
    return Result(manifest, bad, len(bad) - fields_bad, unused, removed, drafts_left_out)


def _read_items(paths: Sequence[Path], schema: Schema, bad: BadSamples) -> list[Item]:
    found: dict[str, tuple[str, Item]] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}. `pride ingest` makes a file of items.")
        for item in read_items(path, schema, bad):
            if item.id in found:
                bad.add(
                    SampleError(f"{path.name}: {item.id}", None, f"this id was already given in {found[item.id][0]}")
                )
            else:
                found[item.id] = path.name, item
    return [item for _, item in found.values()]


def _read_notes(paths: Sequence[Path], schema: Schema, bad: BadSamples) -> dict[str, Notes]:
    found: dict[str, Notes] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}. `pride label agree` makes a file of notes.")
        for record in read_notes(path, schema, bad):
            if record.item in found:
                bad.add(SampleError(f"{path.name}: {record.item}", None, "notes on this item were already given"))
            else:
                found[record.item] = record
    return found


def _without_drafts(agreed: Mapping[str, Notes], keep: bool) -> tuple[dict[str, Notes], int]:
    """The notes without the values that are models' drafts, and how many those were; ``keep`` keeps privileged ones."""
    left: dict[str, Notes] = {}
    for item, notes in agreed.items():
        out = {name for name in notes.drafts if not (keep and name in notes.privileged)}
        parts = {part: getattr(notes, part) for part in ("privileged", "targets", "how", "drafts")}
        fewer = {part: {n: v for n, v in values.items() if n not in out} for part, values in parts.items()}
        left[item] = notes.model_copy(update=fewer)
    return left, sum(len(agreed[item].drafts) - len(left[item].drafts) for item in agreed)


def _fitting(items: Iterable[Item], schema: Schema, bad: BadSamples) -> list[Item]:
    """The items whose id fits into a tar beside the longest name of a field, and whose turns can be written."""
    room = LONGEST_NAME - 1 - max(len(name) for name in (META, REACHED, *map(suffix, schema.field)))
    fitting = []
    for item in items:
        with bad.counting():
            if len(item.id) > room:
                raise SampleError(item.id, None, f"this id is longer than the {room} characters that a tar has for it")
            try:
                encode_value(schema.dialogue, item.inputs[schema.dialogue.name])
                to_json([item.corpus, item.group])
            except ValueError as error:
                reason = "text that is not Unicode" if isinstance(error, UnicodeEncodeError) else str(error)
                raise SampleError(item.id, schema.dialogue.name, reason) from None
            fitting.append(item)
    return fitting


def _begin(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # first of all: from here on the folder is not complete, whatever happens
    (out / MANIFEST).unlink(missing_ok=True)
    for left in out.glob(f"*{PARTIAL}"):
        left.unlink()


class _Run:
    """One packing: writes the shards of one split after the other."""

    def __init__(
        self,
        schema: Schema,
        out: Path,
        notes: Mapping[str, Notes],
        bad: BadSamples,
        pool: Workers,
        progress: Progress,
        total: int,
    ) -> None:
        self.schema, self.out, self.notes, self.bad = schema, out, notes, bad
        self.pool, self.progress, self.total = pool, progress, total
        self.done, self.teacher_removed = 0, 0

    def split(self, split: str, items: list[Item], shard_samples: int) -> SplitRecord:
        ordered = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
        seconds = dict.fromkeys((field.name for field in self.schema.field if is_media(field)), 0.0)
        shards = [
            self.shard(f"{split}-{number:06d}", ordered[first : first + shard_samples], seconds)
            for number, first in enumerate(range(0, len(ordered), shard_samples))
        ]
        return SplitRecord(
            samples=len(ordered), seconds={name: round(s, 3) for name, s in seconds.items()}, shards=tuple(shards)
        )

    def shard(self, name: str, items: list[Item], seconds: dict[str, float]) -> ShardRecord:
        notes: list[tuple[str, Mapping[str, bytes]]] = []

        def base() -> Iterator[tuple[str, Mapping[str, bytes]]]:
            for packed in self.pool.run(self._job(item) for item in items):
                for error in packed.errors:
                    self.bad.add(error)
                for field, length in packed.seconds.items():
                    seconds[field] += length
                notes.append((packed.key, packed.privileged))
                self.done += 1
                self.progress(self.done, self.total, name)
                yield packed.key, packed.base

        before = {added: self._sha(name, added) for added in ("", of_tar(Role.PRIVILEGED))}
        tars = {"": self._write(name, "", base())}
        if self.schema.privileged:
            tars[of_tar(Role.PRIVILEGED)] = self._write(name, of_tar(Role.PRIVILEGED), notes)
        teacher = tar_path(self.out, name, f".{TEACHER}")
        if teacher.exists() and any(tars[added].sha256 != before[added] for added in tars):
            teacher.unlink()  # what it says was said of other samples
            self.teacher_removed += 1
        return ShardRecord(name=name, samples=len(items), tars=tars)

    def _job(self, item: Item) -> Callable[[], Packed]:
        return lambda: pack_item(item, self.notes.get(item.id), self.schema)

    def _write(self, name: str, added: str, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> TarRecord:
        written = write_tar(tar_path(self.out, name, added), samples)
        return TarRecord(sha256=written.sha256, size=written.size)

    def _sha(self, name: str, added: str) -> str | None:
        path = tar_path(self.out, name, added)
        # only to know whether a teacher's tar still fits
        return file_sha256(path) if tar_path(self.out, name, f".{TEACHER}").exists() and path.exists() else None


def _remove_strays(out: Path, manifest: Manifest) -> int:
    """Remove tars of an older pack that the new one doesn't have; returns how many were a teacher's."""
    names = {shard.name for split in manifest.splits.values() for shard in split.shards}
    removed = 0
    for path in sorted(out.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9]*.tar")):
        shard, _, added = path.name.removesuffix(".tar").partition(".")
        if shard.split("-")[0] not in SPLITS or added not in ("", Role.PRIVILEGED, TEACHER):
            continue
        if shard not in names or (added == Role.PRIVILEGED and not manifest.contract.privileged):
            removed += added == TEACHER
            path.unlink()
    return removed


def _kind_of(error: SampleError) -> str:
    """A bad sample's reason without what differs from one to the next, for counting."""
    reason = error.reason.split(":")[0].split("(")[0].strip()
    words = [word for word in reason.split() if not any(letter in word for letter in "'\"/0123456789")]
    return " ".join(([f"{error.field}:"] if error.field else []) + words)[:80]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
