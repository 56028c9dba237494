"""Samples -> shards, in an order that is given: tars in a work folder, moved to their place when whole."""

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.pack.journal import Finished, Journal, Open, Tally
from pipelines.pack.place import Place
from pipelines.pack.sample import Packed
from pipelines.pack.split import SPLITS
from pride_mm.data.index import index_path
from pride_mm.data.manifest import TEACHER, Manifest, TarRecord, tar_name
from pride_mm.data.members import of_tar
from pride_mm.data.seal import Seal
from pride_mm.data.tar_writer import TarWriter
from pride_mm.errors import UserError
from pride_mm.schema import Role, Schema, StoredFile

_TAR = re.compile(rf"((?:{'|'.join(SPLITS)})-[0-9]{{6,}})(\.{Role.PRIVILEGED}|\.{TEACHER})?\.(tar|index)")


class Layout:
    """Which tar of a shard holds what: notes lie apart, or with the rest where all is ``inline``.

    A ``seal`` encrypts them.
    """

    def __init__(self, schema: Schema, inline: bool, seal: Seal | None = None) -> None:
        self.schema, self.seal = schema, seal
        self.notes = "" if inline else of_tar(Role.PRIVILEGED)
        self.added = ("", self.notes) if schema.privileged and not inline else ("",)

    def members(self, packed: Packed) -> dict[str, Mapping[str, bytes | StoredFile]]:
        """A sample's members by tar. In one tar, media still come last."""
        if len(self.added) == 1:
            return {"": {**packed.privileged, **packed.base}}
        notes = packed.privileged
        return {"": packed.base, self.notes: self.seal.seal(packed.key, notes) if self.seal else notes}

    def writer(self, path: Path, added: str, at: int = 0) -> TarWriter:
        """Writes one of the tars, from ``at`` on; one that holds notes is not for others to read."""
        return TarWriter(path, at, private=added == self.notes and bool(self.schema.privileged))


class ShardWriter:
    """Writes the shards of a packing one after the other, and knows where an earlier one stopped.

    Args:
        folder: where tars lie until they are whole.
        journal: what was done before; told of what is done.
        layout: which tars there are.
        publisher: takes finished shards.
    """

    def __init__(self, folder: Path, journal: Journal, layout: Layout, publisher: "Publisher") -> None:
        self._folder, self._journal, self._layout, self._publisher = folder, journal, layout, publisher
        self._open: Open | None = None
        self._tars: dict[str, TarWriter] = {}
        for shard in journal.finished:
            publisher.publish(shard.name, shard.tars)

    def done(self, split: str) -> int:
        """How many samples of a split were written before."""
        shards = [shard for shard in self._journal.finished if shard.split == split]
        left = self._journal.open
        of_open = left.tally.samples if left is not None and left.name.startswith(f"{split}-") else 0
        return sum(shard.tally.samples for shard in shards) + of_open

    def write(self, split: str, samples: Iterable[Packed], shard_samples: int, shard_bytes: int) -> None:
        """Write what is left of a split."""
        self._go_on(split)
        if self._is_full(shard_samples, shard_bytes):  # it was stopped between the last sample and the end
            self._finish(split)
        for packed in samples:
            shard = self._open or self._begin(split)
            for added, members in self._layout.members(packed).items():
                shard.ends[added] = self._tars[added].append(packed.key, members)
            errors = [(error.place, error.field, error.reason) for error in packed.errors]
            tally = Tally(1, dict(packed.seconds), errors, dict.fromkeys(packed.drafts, 1))
            self._journal.sample(tally, shard.ends)
            shard.tally.add(tally)
            if self._is_full(shard_samples, shard_bytes):
                self._finish(split)
        if self._open is not None:
            self._finish(split)

    def _is_full(self, samples: int, size: int) -> bool:
        shard = self._open
        return shard is not None and (shard.tally.samples >= samples or shard.ends[""] >= size)

    def _go_on(self, split: str) -> None:
        left = self._journal.open
        if left is not None and left.name.startswith(f"{split}-") and left.tally.samples:
            self._open = left
            for added in self._layout.added:
                path = self._folder / tar_name(left.name, added)
                if path.exists():  # it was whole already, and its neighbour wasn't
                    os.replace(path, path.with_name(f"{path.name}.partial"))
                self._tars[added] = self._layout.writer(path, added, left.ends[added])

    def _begin(self, split: str) -> Open:
        number = sum(shard.split == split for shard in self._journal.finished)
        self._open = Open(f"{split}-{number:06d}")
        self._tars = {
            added: self._layout.writer(self._folder / tar_name(self._open.name, added), added)
            for added in self._layout.added
        }
        self._journal.begin(self._open.name)
        return self._open

    def _finish(self, split: str) -> None:
        assert self._open is not None
        tars = {}
        for added, tar in self._tars.items():
            written = tar.close()
            tars[added] = TarRecord(sha256=written.sha256, size=written.size)
        self._journal.finish(Finished(self._open.name, split, self._open.tally, tars))
        self._publisher.publish(self._open.name, tars)
        self._open, self._tars = None, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tar in self._tars.values():
            tar.__exit__(kind, error, trace)


class Publisher:
    """Moves finished shards to their place beside the work, one at a time.

    Args:
        folder: where they lie until then.
        place: where they go.
        before: the tars of the pack that is replaced, by shard: a teacher's tar stays only beside the same bytes.
    """

    def __init__(self, folder: Path, place: Place, before: Mapping[str, Mapping[str, TarRecord]]) -> None:
        self._folder, self._place, self._before = folder, place, before
        self._there = place.names()
        self._thread = ThreadPoolExecutor(1)
        self._moving: Future[None] | None = None
        self.teacher_removed = 0

    def publish(self, shard: str, tars: Mapping[str, TarRecord]) -> None:
        """Move a shard; returns while it is on its way, but not before the one before it has arrived."""
        self.wait()
        self._moving = self._thread.submit(self._move, shard, dict(tars))

    def wait(self) -> None:
        """Wait for what is on its way; raises what went wrong with it."""
        if self._moving is not None:
            moving, self._moving = self._moving, None
            moving.result()

    def _move(self, shard: str, tars: Mapping[str, TarRecord]) -> None:
        if dict(self._before.get(shard, {})) != tars:
            self._remove_teacher(shard)
        for added in tars:
            path = self._folder / tar_name(shard, added)
            for file in (index_path(path), path):
                if file.exists():
                    self._place.put(file, file.name)
                elif file.name not in self._there:  # it arrived before the last stop
                    raise UserError(
                        f"{file.name} was packed and is gone from {self._place.name}: remove {self._folder}, "
                        f"and run the same command again."
                    )

    def _remove_teacher(self, shard: str) -> None:
        """What it says was said of other samples."""
        tar = Path(tar_name(shard, f".{TEACHER}"))
        if tar.name in self._there:
            self.teacher_removed += 1
            self._there.discard(tar.name)
            for name in (tar.name, index_path(tar).name):
                self._place.remove(name)

    def remove_strays(self, manifest: Manifest) -> None:
        """Remove the tars of an older pack that the new one doesn't have; a teacher's stays beside its shard."""
        shards = {shard.name: shard.tars for split in manifest.splits.values() for shard in split.shards}
        for name in sorted(self._there):
            if (ours := _TAR.fullmatch(name)) is None:
                continue
            shard, added, extension = ours.groups("")
            if added in shards.get(shard, {}) or (added == f".{TEACHER}" and shard in shards):
                continue
            self.teacher_removed += added == f".{TEACHER}" and extension == "tar"
            self._place.remove(name)

    def close(self) -> None:
        """Stop; what is on its way arrives."""
        self._thread.shutdown(wait=True)
