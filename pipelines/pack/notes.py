"""The newest notes into shards that are packed already: their tars are written anew, media aren't touched.

Without new ones, the notes that are there are encrypted, or decrypted.

The tars of the notes get the keys and the order of their neighbours. All of them are written aside first, then change
places together: a set that was stopped in between has no manifest, and the same command brings it to its end.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as datum
from pathlib import Path

from pipelines.pack.packing import kind_of
from pipelines.pack.place import Place, place_of
from pipelines.pack.plan import NoteBook, find_notes
from pipelines.pack.sample import fitting, note_members, without_drafts
from pipelines.pack.work import Work, work_folder, working
from pride_mm.data.index import index_path
from pride_mm.data.manifest import MANIFEST, TEACHER, TEACHER_RECORD, Manifest, ShardRecord, TarRecord, tar_name
from pride_mm.data.members import decode_value, encode_value, suffix
from pride_mm.data.sample import tar_members
from pride_mm.data.seal import Seal, new_seal, seal_of
from pride_mm.data.shards import ShardReader, ShardSet, check_aligned
from pride_mm.data.tar import index_tar, pread_members
from pride_mm.data.tar_writer import TarWriter
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import write_bytes, write_json
from pride_mm.progress import Progress, silent
from pride_mm.records import notes_from_json, parse_line
from pride_mm.schema import Role

_COMMIT = "commit.json"


@dataclass
class Rejoined:
    """What became of the notes.

    Attributes:
        manifest: of the set as it is now.
        bad: lines and values that were left out.
        changed: samples whose notes are others now; ``rewritten`` tars.
        targets: (key, field) of targets agreed on in the notes that differ from the packed ones, which stay.
        mended: what was wrong with a tar of notes that was there.
    """

    manifest: Manifest
    bad: BadSamples
    changed: int = 0
    rewritten: int = 0
    notes_unused: int = 0
    drafts_left_out: int = 0
    teacher_removed: int = 0
    targets: list[tuple[str, str]] = datum(default_factory=list)
    mended: list[str] = datum(default_factory=list)


def rejoin_notes(
    out: Path | str,
    notes: Sequence[Path],
    *,
    max_bad: int = 10,
    drafts: bool = False,
    encrypt: bool | None = None,
    work: Path | None = None,
    progress: Progress = silent,
) -> Rejoined:
    """Write the tars of the notes anew.

    Args:
        out: a complete set of shards, in a folder or behind a URL.
        notes: JSON lines files of notes; a sample without any gets none. Where no file is given and ``encrypt`` is, the
            notes that are there stay.
        max_bad: how many bad lines and values are allowed.
        drafts: keep notes that are a model's drafts left as they were, marked as such.
        encrypt: whether only the key in the environment opens the new tars; None: as it is now.
        work: where the new tars lie until all are there; default: hidden in ``out``.
        progress: told of each sample.

    Raises:
        UserError: the set isn't complete, has no tars of notes, more is bad than allowed, or a key is missing.
    """
    for path in notes:
        if not path.is_file():
            raise UserError(f"No file {path}. `pride label agree` makes a file of notes.")
    place, folder = place_of(out), work or work_folder(out)
    if not (folder / _COMMIT).exists():
        _check(ShardSet.open(out))  # before anything is made there
    with working(folder, out) as work_in:
        _change_places(work_in, place)
        (work_in.folder / TEACHER_RECORD).unlink(missing_ok=True)  # an earlier one's that got no further
        shards = ShardSet.open(out)
        _check(shards)
        bad = BadSamples(max_bad)
        with find_notes(work_in.folder / "notes.sqlite", notes, shards.schema, drafts, bad) as book:
            run = _Rejoin(shards, book, drafts, work_in.folder, Rejoined(shards.manifest, bad), progress)
            run.seal, run.kept = _new_seal(shards, encrypt), not notes and encrypt is not None
            result = run.run()
        if run.kept and not run.altered:
            _stage_teacher(work_in, shards, result.manifest)
        _stage(work_in, result.manifest, run.rewritten, run.altered)
        result.teacher_removed = _change_places(work_in, place)
        work_in.remove()
        return result


def _check(shards: ShardSet) -> None:
    if not shards.schema.privileged:
        raise UserError(f"The schema of {shards.place} has no privileged field, so it has no tars of notes.")
    if shards.manifest.inline:
        raise UserError(f"In {shards.place} the notes lie in the same tars as the media (--inline): pack it anew.")


def _new_seal(shards: ShardSet, encrypt: bool | None) -> Seal | None:
    if encrypt is None and shards.manifest.sealed is not None:
        return seal_of(shards.manifest.sealed, shards.place)
    return new_seal() if encrypt else None


class _Rejoin:
    """One re-joining: the new tars, written aside.

    Attributes:
        seal: what encrypts the new tars, if anything does.
        kept: the notes that are there stay what they are.
        rewritten, altered: the shards whose tars are new, and those of them in which a note is another.
    """

    def __init__(
        self, shards: ShardSet, book: NoteBook, drafts: bool, folder: Path, result: Rejoined, progress: Progress
    ) -> None:
        self.shards, self.schema, self.book, self.keep = shards, shards.schema, book, drafts
        self.folder, self.result, self.progress = folder, result, progress
        self.added = shards.manifest.added(Role.PRIVILEGED)
        self.drafts: Counter[str] = Counter()
        self.used, self.done = 0, 0
        self.rewritten: list[str] = []
        self.altered: list[str] = []
        self.seal: Seal | None = None
        self.kept = False

    def run(self) -> Rejoined:
        manifest, result = self.shards.manifest, self.result
        splits = {}
        for name, split in manifest.splits.items():
            reader = self.shards.samples(name, media=False)
            first, shards = 0, []
            for shard in split.shards:
                shards.append(self._shard(shard, reader, first))
                first += shard.samples
            splits[name] = split.model_copy(update={"shards": tuple(shards)})
        about_notes = tuple(f"{field.name}:" for field in self.schema.privileged)
        bad = Counter({kind: n for kind, n in manifest.bad.items() if not kind.startswith(about_notes)})
        bad.update(kind_of(error) for error in result.bad)
        update: dict[str, object] = {"splits": splits, "sealed": self.seal.about if self.seal else None}
        if not self.kept:
            update |= {"bad": dict(sorted(bad.items())), "drafts": dict(sorted(self.drafts.items()))}
        result.manifest = manifest.model_copy(update=update)
        result.rewritten, result.notes_unused = len(self.rewritten), len(self.book) - self.used
        result.drafts_left_out = self.book.drafts_left_out
        return result

    def _shard(self, shard: ShardRecord, reader: ShardReader, first: int) -> ShardRecord:
        tar = tar_name(shard.name, self.added)
        keys = [reader.key(first + row) for row in range(shard.samples)]
        mended, before, changed = len(self.result.mended), self._before(shard, tar, keys), self.result.changed
        with TarWriter(self.folder / tar, private=True) as writer:
            for row, key in enumerate(keys):
                there = before(key)
                members = there if self.kept else self._members(key, reader, first + row)
                if self.kept and len(self.result.mended) > mended:
                    raise UserError(f"{self.result.mended[-1]}. These notes cannot be kept; give them by --notes.")
                self.result.changed += there != members
                writer.append(key, self.seal.seal(key, members) if self.seal else members)
                self.done += 1
                self.progress(self.done, sum(self.shards.splits.values()), tar)
            written = writer.close()
        record = TarRecord(sha256=written.sha256, size=written.size)
        if shard.tars.get(self.added) == record and len(self.result.mended) == mended:
            for path in (self.folder / tar, index_path(self.folder / tar)):
                path.unlink()
            return shard
        self.rewritten.append(shard.name)
        if self.result.changed > changed:
            self.altered.append(shard.name)
        return shard.model_copy(update={"tars": {**shard.tars, self.added: record}})

    def _before(self, shard: ShardRecord, tar: str, keys: Sequence[str]) -> Callable[[str], Mapping[str, bytes]]:
        """What the notes on a key were; nothing where the tar isn't there, or isn't right."""
        record, storage = shard.tars.get(self.added), self.shards.storage
        known = tar_members(self.schema, self.shards.manifest.roles(self.added))
        try:
            if missing := dict(storage.missing([(tar, record)])):
                raise SampleError(tar, None, f"{missing[tar]}: written anew")
            index = storage.index(tar, record, lambda path: index_tar(path, known))
            check_aligned(Path(tar), keys, index.order)
            file = storage.open(tar, record, index, known)
            sealed = self.shards.manifest.sealed
            seal = seal_of(sealed, self.shards.place) if sealed is not None else None
        except (SampleError, UserError) as error:
            self.result.mended.append(str(error))
            return lambda key: {}

        def before(key: str) -> Mapping[str, bytes]:
            try:
                members = pread_members(file.descriptor, tar, key, index[key])
                return members if seal is None else seal.open(tar, key, members)
            except SampleError as error:
                self.result.mended.append(str(error))
                return {}

        return before

    def _members(self, key: str, reader: ShardReader, place: int) -> dict[str, bytes]:
        line = self.book.get(key)
        if line is None:
            return note_members(key, None, {}, self.schema, [])
        self.used += 1
        raw = parse_line(line, key, self.result.bad)
        found = None if raw is None else notes_from_json(raw, self.schema, key, self.result.bad)
        assert found is not None, "it was checked when the book was made"
        notes = without_drafts(found, self.keep)
        base = self._base(reader, place)
        turns = decode_value(self.schema.dialogue, base[suffix(self.schema.dialogue)])
        errors: list[SampleError] = []
        privileged = fitting(key, notes.privileged, self.schema.privileged, len(turns or ()), errors)  # type: ignore[arg-type]
        agreed = fitting(key, notes.targets, self.schema.targets, len(turns or ()), errors)  # type: ignore[arg-type]
        for name, value in agreed.items():
            field = self.schema.by_name[name]
            if encode_value(field, value) != base[suffix(field)]:
                self.result.targets.append((key, name))
        members = note_members(key, notes, privileged, self.schema, errors)
        for error in errors:
            self.result.bad.add(error)
        self.drafts.update(notes.drafts)
        return members

    def _base(self, reader: ShardReader, place: int) -> dict[str, bytes]:
        try:
            return reader.members(place)
        except SampleError as error:
            raise UserError(f"{error}. `pride check {self.shards.place}` names all that is broken.") from None


def _stage(work: Work, manifest: Manifest, rewritten: Sequence[str], altered: Sequence[str]) -> None:
    """Everything is there: from here on it is gone on with, not begun anew."""
    write_json(work.folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
    write_json(
        work.folder / _COMMIT,
        {
            "tars": [tar_name(shard, manifest.added(Role.PRIVILEGED)) for shard in rewritten],
            "teachers": [tar_name(shard, f".{TEACHER}") for shard in altered],
        },
    )


def _stage_teacher(work: Work, shards: ShardSet, manifest: Manifest) -> None:
    """What a teacher said of the same notes is still said of them."""
    if (data := shards.storage.read(TEACHER_RECORD)) is None:
        return
    from pride_mm.teacher.cache import carried_over

    after = [shard for split in manifest.splits.values() for shard in split.shards]
    with contextlib.suppress(ValueError):  # a damaged one says so where it is read
        write_bytes(work.folder / TEACHER_RECORD, carried_over(data, shards.shards(), after))


def _change_places(work: Work, place: Place) -> int:
    """Let what is staged take its place, if there is anything; returns how many teachers' tars no longer fitted."""
    if not (work.folder / _COMMIT).exists():
        return 0
    if not (work.folder / MANIFEST).exists():  # it arrived last, just before the stop
        (work.folder / _COMMIT).unlink()
        return 0
    commit = json.loads((work.folder / _COMMIT).read_bytes())
    there, removed = place.names(), 0
    place.remove(MANIFEST)
    for teacher in commit["teachers"]:
        removed += teacher in there
        for name in (teacher, index_path(Path(teacher)).name):
            if name in there:
                place.remove(name)
    for tar in commit["tars"]:
        for path in (index_path(work.folder / tar), work.folder / tar):
            if path.exists():  # or it arrived before the last stop
                place.put(path, path.name)
    if (work.folder / TEACHER_RECORD).exists():
        place.put(work.folder / TEACHER_RECORD, TEACHER_RECORD)
    place.put(work.folder / MANIFEST, MANIFEST)
    (work.folder / _COMMIT).unlink()
    return removed
