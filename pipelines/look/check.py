"""Are shards whole, and does every sample hold what the schema says?

Every tar is compared with the manifest by its bytes, walked from header to header and compared with the index beside
it; every member is decoded, every clip and sound played to its end, in processes that may die. Findings have tar, key
and field; none shows a privileged value. Of a sample no more is held in memory than a number for its key.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field as datum
from functools import partial
from pathlib import Path

from pipelines.look.samples import Checked, Job, Part, check_sample
from pipelines.look.tars import Looked, Tar, look_at_tar, storage_of
from pipelines.workers import Lost, Workers, processes
from pride_mm.data.index import INDEX
from pride_mm.data.manifest import (
    MANIFEST,
    TEACHER_RECORD,
    Manifest,
    ShardRecord,
    TarRecord,
    parse_manifest,
    parse_teacher,
    tar_name,
)
from pride_mm.data.sample import TAUGHT
from pride_mm.data.seal import can_open, seal_of
from pride_mm.data.shards import check_aligned
from pride_mm.data.storage import Folder, ReadSettings
from pride_mm.errors import SampleError
from pride_mm.files import PARTIAL
from pride_mm.progress import Progress, silent
from pride_mm.schema import Role

# Notes that stand in the inputs of more than so many samples of a field were put there; fewer were quoted by people.
MAX_LEAKS = 0.5

HELD = 1000
Found = Callable[[SampleError], None]


@dataclass
class Report:
    """What was looked at, and how much is wrong with it.

    Attributes:
        samples, tars: how many were looked at.
        withheld: tars of notes that were not given to this site.
        locked: tars of notes whose bytes were compared, and which the key that opens them isn't here for.
        findings: what is wrong, the first ``HELD`` of it; ``count`` is how much in all.
        noted, leaked: of each field of notes how many were compared with the inputs, and how many stand in them.
    """

    samples: int = 0
    tars: int = 0
    withheld: int = 0
    locked: int = 0
    count: int = 0
    findings: list[SampleError] = datum(default_factory=list)
    noted: Counter[str] = datum(default_factory=Counter)
    leaked: Counter[str] = datum(default_factory=Counter)


def check(
    place: str | Path,
    found: Found = lambda _: None,
    leaked: Found = lambda _: None,
    max_leaks: float = MAX_LEAKS,
    progress: Progress = silent,
    pool: Workers | None = None,
) -> Report:
    """Look at every byte of a set of shards.

    Args:
        place: a folder, or the URL of one.
        found: told of every finding.
        leaked: told of every note that stands in the inputs of its sample.
        max_leaks: the share of a field's notes that may; where it is more, that is a finding.
        progress: told of every sample.
        pool: where media are decoded; by default processes of this machine.

    Raises:
        UserError: there are no shards, no manifest that can be read, or another key than that of the notes.
    """
    storage = storage_of(str(place))
    manifest = parse_manifest(storage.read(MANIFEST), storage.place)
    with nullcontext(pool) if pool else processes() as workers:
        check = _Check(str(place), manifest, workers, found, leaked, progress)
        check.manifest_itself()
        check.strays()
        check.shards()
    for name, count in check.report.leaked.items():
        if count > max_leaks * check.report.noted[name]:
            noted = check.report.noted[name]
            check.find(SampleError(MANIFEST, name, f"{count:,} of {noted:,} notes stand in the inputs word for word"))
    return check.report


class _Check:
    """One look at a set of shards."""

    def __init__(
        self, place: str, manifest: Manifest, pool: Workers, found: Found, leaked: Found, progress: Progress
    ) -> None:
        self.place, self.manifest, self.pool, self.progress = place, manifest, pool, progress
        self._found, self._leaked = found, leaked
        self.schema = manifest.contract
        self.report, self._seen = Report(), _Seen()
        self._locked = not can_open(manifest.sealed, place)
        self._seal = None if self._locked or manifest.sealed is None else seal_of(manifest.sealed, place)
        self._taught = parse_teacher(storage_of(place).read(TEACHER_RECORD), place)

    def find(self, finding: SampleError) -> None:
        self.report.count += 1
        if len(self.report.findings) < HELD:
            self.report.findings.append(finding)
        self._found(finding)

    def manifest_itself(self) -> None:
        if self.schema.sha256 != self.manifest.schema_sha256:
            self.find(SampleError(MANIFEST, None, "the schema in it is not the one that was packed with"))
        for name, split in self.manifest.splits.items():
            if sum(shard.samples for shard in split.shards) != split.samples:
                self.find(SampleError(MANIFEST, None, f"the shards of split '{name}' don't add up"))

    def strays(self) -> None:
        """What lies in a folder of this machine and belongs to no shard; a server need not list its files."""
        storage = storage_of(self.place)
        if not isinstance(storage, Folder):
            return
        names = {tar.name for shard in self._shards() for tar in self._tars(shard)}
        known = names | {name.removesuffix(".tar") + INDEX for name in names}
        for path in sorted(storage.folder.iterdir()):
            if path.name.endswith(PARTIAL):
                self.find(SampleError(path.name, None, "left half-written by a stopped command; remove it"))
            elif path.suffix in (".tar", INDEX) and path.name not in known:
                self.find(SampleError(path.name, None, "is not in the manifest; remove it or pack again"))

    def _shards(self) -> Iterator[ShardRecord]:
        return (shard for split in self.manifest.splits.values() for shard in split.shards)

    def _tars(self, shard: ShardRecord) -> Iterator[Tar]:
        """The tars that a shard has, that with the inputs first; the teacher's where there is one."""
        for added in sorted(shard.tars):
            yield self._tar(shard, added, shard.tars[added], self.manifest.roles(added))
        storage, name = storage_of(self.place), tar_name(shard.name, TAUGHT)
        if shard.name in self._taught or (isinstance(storage, Folder) and (storage.folder / name).is_file()):
            yield self._tar(shard, TAUGHT, self._taught.get(shard.name), ())

    def _tar(self, shard: ShardRecord, added: str, record: TarRecord | None, roles: tuple[Role, ...]) -> Tar:
        return Tar(self.place, tar_name(shard.name, added), record, roles)

    def shards(self) -> None:
        """Look at each shard: its tars, while those of the shard before are looked at sample by sample."""
        total = sum(split.samples for split in self.manifest.splits.values())
        order = [
            (shard, name, list(self._tars(shard))) for name, s in self.manifest.splits.items() for shard in s.shards
        ]
        tars = self.pool.run(partial(look_at_tar, self.schema), (tar for *_, tars in order for tar in tars))
        for shard, split, mine in order:
            looked = {tar.name: self._taken(tar, next(tars)) for tar in mine}
            function = partial(check_sample, self.schema, ReadSettings().max_member)
            for checked in self.pool.run(function, self._jobs(shard, mine, looked)):
                if isinstance(checked, Lost):
                    job: Job = checked.task
                    reason = f"its process {checked.reason}"
                    checked = Checked(job.key, findings=[SampleError(f"{mine[0].name}: {job.key}", None, reason)])
                self._sample(checked, split, mine[0].name)
                self.progress(self.report.samples, total, shard.name)

    def _taken(self, tar: Tar, looked: Looked | Lost[Tar]) -> Looked:
        if isinstance(looked, Lost):
            looked = Looked(findings=[SampleError(tar.name, None, f"its process {looked.reason}")])
        if looked.missing and tar.roles == (Role.PRIVILEGED,):
            self.report.withheld += 1
            return looked
        self.report.tars += not looked.missing
        self.report.locked += self._locked and tar.roles == (Role.PRIVILEGED,)
        for finding in looked.findings:
            self.find(finding)
        return looked

    def _jobs(self, shard: ShardRecord, tars: list[Tar], looked: dict[str, Looked]) -> Iterator[Job]:
        """The samples of a shard, out of all its tars that can be read."""
        first, *others = tars
        base = looked[first.name].index
        if base is None:
            return
        if len(base) != shard.samples:
            reason = f"has {len(base)} samples, was packed with {shard.samples}"
            self.find(SampleError(first.name, None, reason))
        beside = [(tar, index) for tar in others if (index := looked[tar.name].index) is not None]
        for tar, index in beside:
            try:
                check_aligned(Path(tar.name), base.order, index.order)
            except SampleError as error:
                self.find(error)
        stem = len(tar_name(shard.name)) - len(".tar")
        notes = self.manifest.added(Role.PRIVILEGED) if self.schema.privileged else TAUGHT
        for key in base:
            parts = tuple(
                Part(tar.name[stem : -len(".tar")], tar.name, tar.record, index[key])
                for tar, index in [(first, base), *beside]
                if key in index and not (self._locked and tar.roles == (Role.PRIVILEGED,))
            )
            yield Job(self.place, key, parts, notes, self._seal)

    def _sample(self, checked: Checked, split: str, tar: str) -> None:
        self.report.samples += 1
        for finding in [*checked.findings, *self._seen.add(checked, split, tar)]:
            self.find(finding)
        for name, leaks in checked.noted.items():
            self.report.noted[name] += 1
            if leaks:
                self.report.leaked[name] += 1
                self._leaked(SampleError(f"{tar}: {checked.key}", name, "stands in the inputs word for word"))


class _Seen:
    """Keys and groups over the whole set, a number for each: neither may turn up in a second place."""

    def __init__(self) -> None:
        self._keys: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def add(self, checked: Checked, split: str, tar: str) -> Iterator[SampleError]:
        place = f"{tar}: {checked.key}"
        if (first := self._keys.setdefault(_number(checked.key), tar)) != tar:
            yield SampleError(place, None, f"this key is in {first}, too")
        if checked.corpus is None or checked.group is None:
            return
        if (first := self._groups.setdefault(_number(checked.corpus, checked.group), split)) != split:
            yield SampleError(place, None, f"group '{checked.group}' is in split '{first}', too")


def _number(*parts: str) -> int:
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")
