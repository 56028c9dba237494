"""What is done, a line at a time, so that a packing that is killed goes on where it was.

A finished shard is one line of ``shards.jsonl``; the samples of the shard that is being written are lines of
``samples.jsonl``. A line is written after the bytes it speaks of. A last line that is not whole was never written.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as datum
from pathlib import Path
from typing import Any, Self

from pride_mm.data.manifest import TarRecord
from pride_mm.errors import SampleError

Errors = list[tuple[str, str | None, str]]


@dataclass
class Tally:
    """What a shard, or a part of it, holds: samples, seconds of media by field, fields left out, drafts by field."""

    samples: int = 0
    seconds: dict[str, float] = datum(default_factory=dict)
    errors: Errors = datum(default_factory=list)
    drafts: dict[str, int] = datum(default_factory=dict)

    def add(self, other: Self) -> None:
        """Count another one's in."""
        self.samples += other.samples
        self.errors += other.errors
        for own, others in ((self.seconds, other.seconds), (self.drafts, other.drafts)):
            for name, value in others.items():
                own[name] = own.get(name, 0) + value  # type: ignore[assignment]

    def sample_errors(self) -> Iterator[SampleError]:
        """The fields that were left out."""
        return (SampleError(*error) for error in self.errors)


@dataclass(frozen=True)
class Finished:
    """A shard whose tars are whole."""

    name: str
    split: str
    tally: Tally
    tars: Mapping[str, TarRecord]


@dataclass
class Open:
    """The shard that is being written: what is in it, and where the last sample ends in each of its tars."""

    name: str
    tally: Tally = datum(default_factory=Tally)
    ends: dict[str, int] = datum(default_factory=dict)


class Journal:
    """The lines of one packing.

    Attributes:
        finished: the shards that are done.
        open: the shard that was being written, if one was.
    """

    def __init__(self, folder: Path) -> None:
        self.finished = [
            Finished(line["name"], line["split"], _tally(line["tally"]), _tars(line["tars"]))
            for line in _whole_lines(folder / "shards.jsonl")
        ]
        self.open = _opened(folder / "samples.jsonl", {shard.name for shard in self.finished})
        self._shards = (folder / "shards.jsonl").open("ab", buffering=0)
        self._samples = (folder / "samples.jsonl").open("ab", buffering=0)

    def begin(self, name: str) -> None:
        """A shard is begun; forgets the samples of the one before."""
        self._samples.truncate(0)
        _write(self._samples, {"shard": name})

    def sample(self, tally: Tally, ends: Mapping[str, int]) -> None:
        """A sample was appended to the open shard."""
        _write(self._samples, {"tally": asdict(tally), "ends": ends})

    def finish(self, shard: Finished) -> None:
        """All tars of a shard are whole."""
        tars = {added: record.model_dump() for added, record in shard.tars.items()}
        line = {"name": shard.name, "split": shard.split, "tally": asdict(shard.tally), "tars": tars}
        _write(self._shards, line)
        os.fsync(self._shards.fileno())
        self.finished.append(shard)

    def close(self) -> None:
        """Close the files."""
        self._shards.close()
        self._samples.close()


def _write(file: Any, line: Mapping[str, Any]) -> None:
    left = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    while left:
        left = left[file.write(left) :]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that were written to their end; what follows them is cut off."""
    if not path.exists():
        return
    end = 0
    with path.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            yield json.loads(line)
        file.truncate(end)


def _opened(path: Path, finished: set[str]) -> Open | None:
    shard: Open | None = None
    for line in _whole_lines(path):
        if shard is None:
            shard = Open(line["shard"])
        else:
            shard.tally.add(_tally(line["tally"]))
            shard.ends = line["ends"]
    return shard if shard is not None and shard.name not in finished else None


def _tally(raw: dict[str, Any]) -> Tally:
    return Tally(raw["samples"], raw["seconds"], [tuple(error) for error in raw["errors"]], raw["drafts"])


def _tars(raw: dict[str, Any]) -> dict[str, TarRecord]:
    return {added: TarRecord.model_validate(record) for added, record in raw.items()}
