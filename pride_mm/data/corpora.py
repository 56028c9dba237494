"""The samples of several sets of shards under one number each: what a stream reads from."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.utils.data import DataLoader

from pride_mm.data.mix import Corpus
from pride_mm.data.shards import Sample, ShardReader
from pride_mm.errors import SampleError, UserError
from pride_mm.files import write_bytes
from pride_mm.progress import Progress, silent


class Corpora(Sequence[Sample]):
    """Readers one after the other; a place counts through all of them.

    Args:
        readers: each with its weight, in passes an epoch.

    Raises:
        UserError: their schemas differ.
    """

    def __init__(self, readers: Sequence[tuple[ShardReader, float]]) -> None:
        self.readers = [reader for reader, _ in readers]
        self.schema = self.readers[0].schema
        for reader in self.readers:
            if reader.schema.sha256 != self.schema.sha256:
                raise UserError(
                    f"{self.readers[0].place} and {reader.place} are of two schemas ('{self.schema.name}' and "
                    f"'{reader.schema.name}', or two versions of it): pack them with the same one."
                )
        self.described = tuple(
            Corpus(f"{number}: {reader.split}", reader.sizes, weight, _sha256(reader))
            for number, (reader, weight) in enumerate(readers)
        )
        self._ends = list(accumulate(len(reader) for reader in self.readers))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...

    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One sample; raises SampleError with tar, key and field where it is damaged."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number, within = self._find(place)
        return self.readers[number][within]

    def where(self, place: int) -> str:
        """The tar and the key of a sample, for messages."""
        number, within = self._find(place)
        reader = self.readers[number]
        shard = bisect_right(list(accumulate(reader.sizes)), within)
        try:
            key = reader.key(within)
        except SampleError:  # the shard is broken as a whole
            key = f"sample {within - sum(reader.sizes[:shard])}"
        return f"{reader.records[shard].name}.tar: {key}"

    def _find(self, place: int) -> tuple[int, int]:
        if not 0 <= place < len(self):
            raise IndexError(f"no sample {place} among {len(self)}")
        number = bisect_right(self._ends, place)
        return number, place - (self._ends[number - 1] if number else 0)


def _sha256(reader: ShardReader) -> str:
    """Changes when inputs or targets do; notes and what a teacher said may be packed anew in the middle of a run."""
    shards = [[record.name, record.samples, record.tars[""].sha256] for record in reader.records]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()


class _Measured:
    """Lengths by place, for a loader's workers."""

    def __init__(self, corpora: Corpora, measure: Callable[[Sample], int]) -> None:
        self.corpora, self.measure = corpora, measure

    def __len__(self) -> int:
        return len(self.corpora)

    def __getitem__(self, place: int) -> int:
        try:
            return max(1, self.measure(self.corpora[place]))
        except SampleError:  # named when it is streamed
            return 1


def measure_lengths(
    corpora: Corpora,
    measure: Callable[[Sample], int],
    cache: Path,
    of: str = "",
    workers: int = 0,
    progress: Progress = silent,
) -> NDArray[np.int32]:
    """The length of each sample by its place, measured once and then read from ``cache``.

    Args:
        corpora: read without media, which no length needs.
        measure: a sample's length; a broken sample counts 1.
        cache: a safetensors file; written anew where it is of other shards or of another ``of``.
        of: what ``measure`` depends on beside the shards, such as the tokenizer's hash and the teacher's cache.
        workers: processes that measure; 0 measures here.
        progress: called as it goes.
    """
    names = [[corpus.sha256, *corpus.sizes] for corpus in corpora.described]
    stamp = hashlib.sha256(json.dumps([of, names]).encode()).hexdigest()
    known = _read_lengths(cache, stamp, len(corpora))
    if known is not None:
        return known
    lengths = torch.zeros(len(corpora), dtype=torch.int32)
    loader: DataLoader[Any] = DataLoader(
        _Measured(corpora, measure),  # type: ignore[arg-type]
        batch_size=256,
        num_workers=workers,
        collate_fn=torch.tensor,
    )
    done = 0
    for part in loader:
        lengths[done : done + len(part)] = part
        done += len(part)
        progress(done, len(corpora), "measuring lengths")
    write_bytes(cache, save({"lengths": lengths}, {"of": stamp}))
    return lengths.numpy()


def _read_lengths(cache: Path, stamp: str, samples: int) -> NDArray[np.int32] | None:
    if not cache.is_file():
        return None
    try:
        with safe_open(cache, "np") as file:
            if (file.metadata() or {}).get("of") != stamp:
                return None
            lengths: NDArray[np.int32] = file.get_tensor("lengths")
    except SafetensorError:
        return None
    return lengths if lengths.shape == (samples,) else None
