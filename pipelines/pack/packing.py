"""Items and notes -> shards, the same bytes for the same input, whatever happens on the way.

Items are probed, cut and converted in processes of their own and written in the order of a plan. A broken or missing
clip doesn't cost its dialogue: the item is packed without that field, and the field is named and counted as bad; so it
is where a process dies of it. Killed at any instant, the same command goes on where it was and ends with the same
bytes. A set has no manifest until it is complete, so nothing that was left half-way is taken for whole.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.pack.journal import Finished, Journal, Tally
from pipelines.pack.place import Folder, Place, place_of
from pipelines.pack.plan import Plan, make_plan
from pipelines.pack.sample import Maker, Packed
from pipelines.pack.settings import PackSettings
from pipelines.pack.tools import tool_versions
from pipelines.pack.work import Work, work_folder, working
from pipelines.pack.writer import Layout, Publisher, ShardWriter
from pipelines.workers import Bounds, Workers, processes
from pride_mm.data.manifest import MANIFEST, Manifest, ShardRecord, SplitRecord, TarRecord, parse_manifest
from pride_mm.data.members import is_media
from pride_mm.data.seal import new_seal
from pride_mm.data.tar import file_sha256
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import write_json
from pride_mm.progress import Progress, silent
from pride_mm.schema import Schema


@dataclass(frozen=True)
class Result:
    """What was packed.

    ``fields_left_out`` were broken in items that were packed; ``notes_unused`` fit no item; ``drafts_left_out`` are
    values that were a model's drafts left as they were. ``gone_on`` samples had been packed when an earlier run was
    stopped; ``afresh`` names what has changed since one that couldn't be gone on with.
    """

    manifest: Manifest
    bad: BadSamples
    fields_left_out: int
    notes_unused: int
    teacher_removed: int
    drafts_left_out: int = 0
    gone_on: int = 0
    afresh: str = ""


def pack(
    items: Sequence[Path],
    schema: Schema,
    out: Path | str,
    notes: Sequence[Path] = (),
    settings: PackSettings | None = None,
    *,
    max_bad: int = 10,
    workers: int | AbstractContextManager[Workers] | None = None,
    drafts: bool = False,
    inline: bool = False,
    encrypt: bool | None = None,
    work: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Pack items, and the notes on them, into shards.

    Args:
        items: JSON lines files of items; media paths in them are relative to the file.
        schema: the fields.
        out: the folder of the shards, or its URL; an older pack in it is replaced.
        notes: JSON lines files of notes; targets agreed on in them go before an item's own.
        settings: how media are written, and how large a shard becomes.
        max_bad: how many bad lines, items and fields are allowed.
        workers: how many processes convert (default: one a core), or something else that runs tasks; the bytes
            don't depend on it.
        drafts: keep notes that are a model's drafts left as they were, marked as such. Targets never are.
        inline: write notes into the same tars as the rest, for tools that want it so.
        encrypt: write tars of notes that only the key in the environment opens. Has to be said, either way, where the
            pack that is replaced has such notes.
        work: where what isn't finished lies; default: hidden in ``out``.
        progress: told of each sample.

    Raises:
        UserError: there is nothing to pack, more is bad than allowed, or there is no room for it.
    """
    settings = settings or PackSettings()
    for path, maker in [*((path, "ingest") for path in items), *((path, "label agree") for path in notes)]:
        if not path.is_file():
            what = "items" if maker == "ingest" else "notes"
            raise UserError(f"No file {path}. `pride {maker}` makes a file of {what}.")
    place = place_of(out)
    if isinstance(place, Folder):
        place.folder.mkdir(parents=True, exist_ok=True)
    folder = work or work_folder(out)
    if encrypt is None and _has_sealed_notes(place):
        raise UserError(f"The notes of {place.name} are encrypted: say --encrypt, or --no-encrypt to write them plain.")
    if encrypt and inline:
        raise UserError("--encrypt encrypts tars of notes, and with --inline there are none: leave out one of them.")
    seal = new_seal() if encrypt else None
    options = {"drafts": drafts, "inline": inline, "sealed": seal.about.model_dump() if seal else None}
    job = _job(items, notes, schema, settings, place, options)
    if workers is None or isinstance(workers, int):
        workers = processes(workers, Bounds(settings.item_seconds, settings.item_bytes))
    with working(folder, out) as work_in, workers as pool:
        run = _Run(work_in, place, job, schema, settings, BadSamples(max_bad), progress)
        plan, known, afresh = run.plan(items, notes, drafts)
        return run.pack(plan, Maker(schema, settings, drafts), pool, Layout(schema, inline, seal), known, afresh)


def _job(
    items: Sequence[Path],
    notes: Sequence[Path],
    schema: Schema,
    settings: PackSettings,
    place: Place,
    options: dict[str, Any],
) -> dict[str, Any]:
    """All that the bytes depend on: an earlier run is gone on with only where it had the same."""
    return {
        "items": [[str(path.absolute()), file_sha256(path)] for path in items],
        "notes": [[str(path.absolute()), file_sha256(path)] for path in notes],
        "schema": schema.sha256,
        "settings": settings.model_dump(mode="json"),
        "options": options,
        "versions": tool_versions(),
        "place": place.name,
    }


def _has_sealed_notes(place: Place) -> bool:
    old = place.read(MANIFEST)
    with contextlib.suppress(UserError):  # no pack of this version's
        return old is not None and parse_manifest(old, place.name).sealed is not None
    return False


class _Run:
    """One packing."""

    def __init__(
        self,
        work: Work,
        place: Place,
        job: dict[str, Any],
        schema: Schema,
        settings: PackSettings,
        bad: BadSamples,
        progress: Progress,
    ) -> None:
        self.work, self.place, self.job, self.schema, self.settings = work, place, job, schema, settings
        self.bad, self.progress = bad, progress
        self.done = 0

    def plan(self, items: Sequence[Path], notes: Sequence[Path], drafts: bool) -> tuple[Plan, bool, str]:
        """The plan, whether it was there already, and what has changed where another one was there."""
        known, afresh = self.work.start(self.job)
        path = self.work.folder / "plan.sqlite"
        if known:
            plan = Plan(path, items, notes)
            for error in plan.bad:
                self.bad.add(error)
            return plan, True, ""
        try:
            plan = make_plan(path, items, notes, self.schema, self.settings.seed, drafts, self.bad, self.progress)
        except UserError:
            self.work.remove()
            raise
        return plan, False, afresh

    def pack(self, plan: Plan, maker: Maker, pool: Workers, layout: Layout, known: bool, afresh: str) -> Result:
        """Convert and write what isn't yet, then the manifest."""
        planned_bad = len(self.bad)
        before = self._begin()
        if not known:
            self.work.planned(self.job)
        journal = Journal(self.work.folder)
        publisher = Publisher(self.work.folder, self.place, before)
        try:
            with ShardWriter(self.work.folder, journal, layout, publisher) as writer:
                for error in _errors_before(journal):
                    self.bad.add(error)
                gone_on = sum(writer.done(split) for split in plan.splits)
                for split in plan.splits:
                    done = writer.done(split)
                    self.done += done
                    samples = self._counted(maker.samples(pool, plan.tasks(split, done)), len(plan))
                    writer.write(split, samples, self.settings.shard_samples, self.settings.shard_bytes)
            publisher.wait()
        finally:
            journal.close()
            publisher.close()
        manifest = self._manifest(plan, journal.finished)
        publisher.remove_strays(manifest)
        write_json(self.work.folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
        self.place.put(self.work.folder / MANIFEST, MANIFEST)
        self.work.remove()
        fields, removed = len(self.bad) - planned_bad, publisher.teacher_removed
        return Result(manifest, self.bad, fields, plan.notes_unused, removed, plan.drafts_left_out, gone_on, afresh)

    def _begin(self) -> dict[str, dict[str, TarRecord]]:
        """From here on the place is not complete, whatever happens; returns the tars that were there, by shard."""
        path = self.work.folder / "before.json"
        old = self.place.read(MANIFEST)
        if old is not None:
            with contextlib.suppress(UserError):  # another version's: nothing of it fits
                manifest = parse_manifest(old, self.place.name)
                shards = [shard for split in manifest.splits.values() for shard in split.shards]
                write_json(path, {s.name: {a: tar.model_dump() for a, tar in s.tars.items()} for s in shards})
            self.place.remove(MANIFEST)
        saved = json.loads(path.read_bytes()) if path.exists() else {}
        return {n: {a: TarRecord.model_validate(tar) for a, tar in tars.items()} for n, tars in saved.items()}

    def _counted(self, samples: Iterator[Packed], total: int) -> Iterator[Packed]:
        for packed in samples:
            for error in packed.errors:
                self.bad.add(error)
            yield packed
            self.done += 1
            self.progress(self.done, total, packed.key)

    def _manifest(self, plan: Plan, finished: Sequence[Finished]) -> Manifest:
        whole = Tally()
        for shard in finished:
            whole.add(shard.tally)
        return Manifest(
            schema=self.schema,
            schema_sha256=self.schema.sha256,
            inline=self.job["options"]["inline"],
            sealed=self.job["options"]["sealed"],
            packing=self.job["settings"],
            splits={split: self._split(split, finished) for split in plan.splits},
            bad=dict(sorted(Counter(kind_of(error) for error in self.bad).items())),
            drafts=dict(sorted(whole.drafts.items())),
            tools=self.job["versions"],
        )

    def _split(self, split: str, finished: Sequence[Finished]) -> SplitRecord:
        whole = Tally(seconds=dict.fromkeys((field.name for field in self.schema.inputs if is_media(field)), 0.0))
        records = []
        for shard in finished:
            if shard.split == split:
                whole.add(shard.tally)
                tally = shard.tally
                seconds = _rounded(tally.seconds)
                records.append(
                    ShardRecord(name=shard.name, samples=tally.samples, tars=dict(shard.tars), seconds=seconds)
                )
        return SplitRecord(samples=whole.samples, seconds=_rounded(whole.seconds), shards=tuple(records))


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(length, 3) for name, length in seconds.items()}


def _errors_before(journal: Journal) -> Iterator[SampleError]:
    for shard in journal.finished:
        yield from shard.tally.sample_errors()
    if journal.open is not None:
        yield from journal.open.tally.sample_errors()


def kind_of(error: SampleError) -> str:
    """A bad sample's reason without what differs from one to the next, for counting."""
    reason = error.reason.split(":")[0].split("(")[0].strip()
    words = [word for word in reason.split() if not any(letter in word for letter in "'\"/0123456789")]
    return " ".join(([f"{error.field}:"] if error.field else []) + words)[:80]
