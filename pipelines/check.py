"""Is a folder of shards whole, and does every sample hold what the schema says?

Every tar is compared with the manifest by its bytes, every member is decoded, every clip and sound is
played to its end. Findings have tar, key and field; none shows a privileged value.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as datum
from pathlib import Path

from pipelines.check_sample import Checked, check_sample
from pipelines.workers import WORKERS, Workers
from pipelines.workers import workers as start_workers
from pride_mm.data.members import of_tar
from pride_mm.data.shards import (
    MANIFEST,
    TEACHER,
    Manifest,
    ShardRecord,
    check_aligned,
    open_index,
    read_manifest,
    tar_path,
)
from pride_mm.data.tar import Index, file_sha256, read_members
from pride_mm.errors import SampleError
from pride_mm.files import PARTIAL
from pride_mm.progress import Progress, silent
from pride_mm.schema import Role, Schema

# what is added to a shard's name for each part of it
_PARTS = {"base": "", "notes": of_tar(Role.PRIVILEGED), "teaching": f".{TEACHER}"}


@dataclass
class Report:
    """What was looked at, and what is wrong with it. ``withheld`` tars of notes were not given to this site."""

    samples: int = 0
    tars: int = 0
    withheld: int = 0
    findings: list[SampleError] = datum(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Take a SampleError raised inside into the findings."""
        try:
            yield
        except SampleError as error:
            self.findings.append(error)


def check(folder: Path, workers: int = WORKERS, progress: Progress = silent) -> Report:
    """Look at every byte of a folder of shards.

    Raises:
        UserError: there is no folder, or no manifest in it that can be read.
    """
    manifest = read_manifest(folder)
    report, seen = Report(), _Seen()
    _check_manifest(manifest, report)
    _check_strays(folder, manifest, report)
    total = sum(split.samples for split in manifest.splits.values())
    with start_workers(workers) as pool:
        for split, record in manifest.splits.items():
            for shard in record.shards:
                for checked in _Shard(folder, shard, manifest.contract, report).run(pool):
                    report.findings += checked.findings
                    report.findings += seen.add(checked, split, f"{shard.name}.tar")
                    report.samples += 1
                    progress(report.samples, total, shard.name)
    return report


def _check_manifest(manifest: Manifest, report: Report) -> None:
    if manifest.contract.sha256 != manifest.schema_sha256:
        report.findings.append(SampleError(MANIFEST, None, "the schema in it is not the one that was packed with"))
    for name, split in manifest.splits.items():
        if sum(shard.samples for shard in split.shards) != split.samples:
            report.findings.append(SampleError(MANIFEST, None, f"the shards of split '{name}' don't add up"))


def _check_strays(folder: Path, manifest: Manifest, report: Report) -> None:
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    known = {tar_path(folder, shard.name, added) for shard in shards for added in [*shard.tars, _PARTS["teaching"]]}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(PARTIAL):
            report.findings.append(SampleError(path.name, None, "left half-written by a stopped command; remove it"))
        elif path.suffix == ".tar" and path not in known:
            report.findings.append(SampleError(path.name, None, "is not in the manifest; remove it or pack again"))


class _Seen:
    """Keys and groups over the whole set: neither may turn up in a second place."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._groups: dict[tuple[str, str], str] = {}

    def add(self, checked: Checked, split: str, tar: str) -> Iterator[SampleError]:
        place = f"{tar}: {checked.key}"
        if (first := self._keys.setdefault(checked.key, tar)) != tar:
            yield SampleError(place, None, f"this key is in {first}, too")
        if checked.corpus is None or checked.group is None:
            return
        if (first := self._groups.setdefault((checked.corpus, checked.group), split)) != split:
            yield SampleError(place, None, f"group '{checked.group}' is in split '{first}', too")


class _Shard:
    """One shard under the glass."""

    def __init__(self, folder: Path, record: ShardRecord, schema: Schema, report: Report) -> None:
        self.record, self.schema, self.report = record, schema, report
        self.paths = {part: tar_path(folder, record.name, added) for part, added in _PARTS.items()}

    def run(self, pool: Workers) -> Iterator[Checked]:
        """Check the tars, then each sample."""
        indices = {part: index for part in _PARTS if (index := self._index(part)) is not None}
        base = indices.get("base")
        if base is None:
            return
        if len(base) != self.record.samples:
            self._find("base", f"has {len(base)} samples, was packed with {self.record.samples}")
        for part, index in indices.items():
            with self.report.collecting():
                check_aligned(self.paths[part], list(base), list(index))
        yield from pool.run(self._job(key, indices) for key in base)

    def _index(self, part: str) -> Index | None:
        path, record = self.paths[part], self.record.tars.get(_PARTS[part])
        if not path.is_file():
            if record is not None and part == "notes":
                self.report.withheld += 1
            elif record is not None:
                self._find(part, "is missing")
            return None
        self.report.tars += 1
        if record is not None and path.stat().st_size != record.size:
            self._find(part, f"has {path.stat().st_size:,} bytes, was packed with {record.size:,}")
        elif record is not None and file_sha256(path) != record.sha256:
            self._find(part, "its bytes are not those that were packed (sha256 differs)")
        with self.report.collecting():
            return open_index(path, self.schema, _PARTS[part])
        return None

    def _find(self, part: str, reason: str) -> None:
        self.report.findings.append(SampleError(self.paths[part].name, None, reason))

    def _job(self, key: str, indices: dict[str, Index]) -> Callable[[], Checked]:
        def job() -> Checked:
            parts = {
                part: (self.paths[part].name, read_members(self.paths[part], index[key]))
                for part, index in indices.items()
                if key in index
            }
            return check_sample(key, self.schema, parts)

        return job
