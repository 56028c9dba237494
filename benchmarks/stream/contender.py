"""One loader in a process of its own: ``python -m benchmarks.stream.contender VERB NAME FOLDER`` prints JSON.

Nothing of ours is imported for a peer, so it runs in its own environment, too. Every loader has one process and one
core, batches of 32 shuffled over about the same number of samples, and everything in the page cache.
"""

import itertools
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH, BUFFER = 32, 1000
Begin = Callable[[], Iterable[Any]]


def _tars(work: Path) -> list[str]:
    return [str(path) for path in sorted((work / "many").glob("train-*.tar"))]


def _batched(samples: Iterable[Any]) -> Iterator[list[Any]]:
    it = iter(samples)
    while batch := list(itertools.islice(it, BATCH)):
        yield batch


def _ours_raw(work: Path) -> Begin:
    corpora_of, batches_of = _ours()

    def begin() -> Iterator[list[Any]]:
        corpora = corpora_of(work / "many")
        for places in batches_of(corpora):
            yield [corpora.readers[0].members(place) for place in places]

    return begin


def _ours_parsed(work: Path) -> Begin:
    corpora_of, batches_of = _ours()
    from pride_mm.data.loader import Loader, Plain

    def begin() -> Iterable[Any]:
        corpora = corpora_of(work / "many")
        return Loader(corpora, Plain(), batches_of(corpora))

    return begin


def _ours() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from pride_mm.data.batches import Batches
    from pride_mm.data.corpora import Corpora
    from pride_mm.data.mix import Mix
    from pride_mm.data.shards import ShardSet

    def corpora_of(place: Path | str, cache: Path | None = None) -> Any:
        return Corpora([(ShardSet.open(place, cache).samples("train"), 1.0)])

    return corpora_of, lambda corpora: Batches(Mix(corpora.described, seed=0), BATCH)


def _webdataset(work: Path, decode: bool = False) -> Begin:
    import webdataset

    def begin() -> Iterator[list[Any]]:
        read = webdataset.WebDataset(_tars(work), shardshuffle=100, empty_check=False).shuffle(BUFFER)
        return _batched(read.decode() if decode else read)

    return begin


def _webdataset_parsed(work: Path) -> Begin:
    return _webdataset(work, decode=True)


def _datasets(work: Path) -> Begin:
    import datasets

    def begin() -> Iterator[list[Any]]:
        read = datasets.load_dataset("webdataset", data_files={"train": _tars(work)}, split="train", streaming=True)
        for name, kind in (read.features or {}).items():
            if isinstance(kind, datasets.Video | datasets.Audio):
                read = read.cast_column(name, type(kind)(decode=False))
        return _batched(read.shuffle(seed=0, buffer_size=BUFFER))

    return begin


def _energon_loader(work: Path) -> Callable[[], Any]:
    from dataclasses import dataclass, field

    from megatron import energon
    from megatron.energon.task_encoder.cooking import basic_sample_keys

    @dataclass
    class Crude(energon.Sample):  # type: ignore[misc, name-defined]
        parts: dict[str, bytes] = field(default_factory=dict)

    @energon.stateless
    def cook(sample: dict[str, Any]) -> Crude:
        return Crude(**basic_sample_keys(sample), parts={k: v for k, v in sample.items() if not k.startswith("__")})

    class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc, name-defined]
        decoder = None
        cookers = (energon.Cooker(cook),)

        def batch(self, samples: Any) -> Any:
            return samples

    def loader() -> Any:
        config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
        read = energon.get_train_dataset(
            work / "energon",
            split_part="train",
            worker_config=config,
            batch_size=BATCH,
            shuffle_buffer_size=BUFFER,
            max_samples_per_sequence=100,
            task_encoder=Encoder(),
        )
        return energon.get_savable_loader(read)

    return loader


def _energon(work: Path) -> Begin:
    loader = _energon_loader(work)
    return loader


def _mosaicml(work: Path) -> Begin:
    from streaming import StreamingDataset

    def begin() -> Iterator[list[Any]]:
        read = StreamingDataset(local=str(work / "mosaicml"), shuffle=True, batch_size=BATCH)
        return _batched(read)

    return begin


def _litdata(work: Path) -> Begin:
    import litdata

    def begin() -> Iterable[Any]:
        read = litdata.StreamingDataset(str(work / "litdata"), shuffle=True)
        return litdata.StreamingDataLoader(read, batch_size=BATCH, collate_fn=list)

    return begin


READERS: dict[str, Callable[[Path], Begin]] = {
    "ours": _ours_raw,
    "ours parsed": _ours_parsed,
    "webdataset": _webdataset,
    "webdataset parsed": _webdataset_parsed,
    "energon": _energon,
    "datasets": _datasets,
    "mosaicml": _mosaicml,
    "litdata": _litdata,
}
PACKAGES = {
    "energon": "megatron-energon", "webdataset": "webdataset", "datasets": "datasets",
    "mosaicml": "mosaicml-streaming", "litdata": "litdata",
}  # fmt: skip


def read(name: str, work: Path, samples: int) -> dict[str, float]:
    """Seconds to the first batch, and samples a second from opening to the end of a pass; imports don't count."""
    begin = READERS[name](work)
    next(iter(begin()))  # what is imported at the first use
    seen, first, start = 0, 0.0, time.perf_counter()
    for batch in begin():
        seen += len(batch)
        first = first or time.perf_counter() - start
        if seen >= samples:  # some never end
            break
    assert samples <= seen < samples + BATCH, (name, seen)
    return {"rate": seen / (time.perf_counter() - start), "first": first}


def resume(name: str, work: Path, samples: int) -> dict[str, float]:
    """Seconds from a state in the middle of a pass to the next batch, in a loader that was made anew."""
    if name == "energon":
        make = _energon_loader(work)
        save, load = (lambda one: one.save_state_rank()), (lambda one, state: one.restore_state_rank(state))
    else:
        begin = _ours_parsed(work)
        make, save, load = begin, (lambda one: one.state_dict()), (lambda one, state: one.load_state_dict(state))
    next(iter(make()))
    loader = make()
    for _ in itertools.islice(loader, samples // BATCH // 2):
        pass
    state, start = save(loader), time.perf_counter()
    again = make()
    load(again, state)
    next(iter(again))
    return {"resume": time.perf_counter() - start}


def _samples(path: str) -> Iterator[dict[str, bytes]]:
    with tarfile.open(path) as tar:
        for _, members in itertools.groupby(tar, lambda member: member.name.partition(".")[0]):
            yield {m.name.partition(".")[2]: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def prepare(name: str, work: Path, samples: int) -> dict[str, float]:
    """The same samples in the form of a peer that has its own."""
    if name == "litdata":
        import litdata

        out = str(work / "litdata")
        litdata.optimize(_samples, _tars(work), out, chunk_bytes="64MB", num_workers=1, start_method="fork")
    elif name == "mosaicml":
        from streaming import MDSWriter

        samples_of = [sample for path in _tars(work) for sample in _samples(path)]
        columns = dict.fromkeys(sorted({name for sample in samples_of for name in sample}), "bytes")
        with MDSWriter(out=str(work / "mosaicml"), columns=columns) as writer:
            for sample in samples_of:
                writer.write({name: sample.get(name, b"") for name in columns})
    elif name == "energon":
        import subprocess

        folder = work / "energon"
        folder.mkdir()
        for path in (work / "many").iterdir():
            (folder / path.name).symlink_to(path)
        command = [str(Path(sys.executable).parent / "energon"), "prepare", "--non-interactive", "--num-workers", "1"]
        options = ["--sample-type", "CrudeWebdataset", "--split-parts", r"train:train-.*\.tar", str(folder)]
        subprocess.run([*command, *options], check=True, capture_output=True)
    return {"version": version(PACKAGES[name])} if name in PACKAGES else {}  # type: ignore[dict-item]


def main() -> None:
    verb, name, folder, samples = sys.argv[1:]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    done = {"read": read, "resume": resume, "prepare": prepare}[verb](name, Path(folder), int(samples))
    print(json.dumps(done))


if __name__ == "__main__":
    main()
