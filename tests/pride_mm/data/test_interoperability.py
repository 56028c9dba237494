"""Others read our shards as they are, and our order serves others' loaders."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from pride_mm.data.batches import Batches
from pride_mm.data.corpora import Corpora
from pride_mm.data.members import suffix
from pride_mm.data.mix import Mix
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.schema import Role, Schema, load_schema

WORKERS = pytest.mark.parametrize("workers", [0, 2])
ALL = (Role.INPUT, Role.TARGET)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return load_schema("pride")


@pytest.fixture(scope="module")
def clips(data_dir: Path, schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real clips with what is said in them, in three shards, and notes in tars of their own."""
    from pipelines.pack import PackSettings, pack

    work = tmp_path_factory.mktemp("clips")
    with (data_dir / "mosi_mini" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["duration"]) < 4][:8]
    items, notes = [], []
    for number, row in enumerate(rows):
        media = {"path": str(data_dir / "mosi_mini" / row["file"])}
        said = [{"speaker": "speaker", "text": row["text"]}]
        inputs = {"video": media, "audio": media, "dialogue": said}
        targets = {"response": f"I hear you, {number}.", "emotion": "sad"}
        item = {"id": f"mosi_{number}", "corpus": "mosi", "group": f"g{number}", "inputs": inputs, "targets": targets}
        items.append(item | {"split": "train"})
        notes.append({"item": f"mosi_{number}", "privileged": {"situation": "SECRET NOTE"}})
    for name, lines in (("items", items), ("privileged", notes)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = PackSettings(shard_samples=3)
    pack([work / "items.jsonl"], schema, work / "shards", [work / "privileged.jsonl"], settings, max_bad=0)
    return work / "shards"


def tars(folder: Path) -> list[str]:
    """The tars of inputs and targets, which hold no notes."""
    return [str(path) for path in sorted(folder.glob("train-*.tar")) if path.name.count(".") == 1]


def ours(folder: Path) -> dict[str, dict[str, bytes]]:
    reader = ShardSet.open(folder).samples("train", ALL)
    return {reader.key(place): reader.members(place) for place in range(len(reader))}


def test_plain_webdataset_reads_every_member(clips):
    import webdataset

    found = list(webdataset.WebDataset(tars(clips), shardshuffle=False, empty_check=False))
    theirs = {
        sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")}
        for sample in found
    }
    assert len(found) == 8
    assert theirs == ours(clips)


def test_webdataset_decodes_the_json_as_we_do(clips, schema):
    import webdataset

    reader = ShardSet.open(clips).samples("train", ALL)
    decoded = {sample["__key__"]: sample for sample in webdataset.WebDataset(tars(clips), shardshuffle=False).decode()}
    for sample in reader:
        assert decoded[sample.key][suffix(schema.dialogue)]["texts"] == [
            turn.text
            for turn in sample.inputs["dialogue"]  # type: ignore[union-attr]
        ]
        assert decoded[sample.key][suffix(schema.response)] == sample.targets["response"]


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_reads_the_shards_with_clips_as_media(clips, schema, tmp_path, streaming):
    import datasets

    read = datasets.load_dataset(
        "webdataset", data_files={"train": tars(clips)}, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    assert isinstance(read.features["input.video.mp4"], datasets.Video)
    assert isinstance(read.features["input.audio.flac"], datasets.Audio)
    for name, kind in (("input.video.mp4", datasets.Video), ("input.audio.flac", datasets.Audio)):
        read = read.cast_column(name, kind(decode=False))
    samples = {row["__key__"]: row for row in read}
    known = {sample.key: sample for sample in ShardSet.open(clips).samples("train", ALL)}
    assert set(samples) == set(known)
    for key, row in samples.items():
        assert row["input.video.mp4"]["bytes"] == known[key].inputs["video"]
        assert row["input.audio.flac"]["bytes"] == known[key].inputs["audio"]
        assert row[suffix(schema.response)] == known[key].targets["response"]
        assert row[suffix(schema.dialogue)]["texts"] == [turn.text for turn in known[key].inputs["dialogue"]]  # type: ignore[union-attr]


def test_datasets_reads_samples_without_media_when_told_the_columns(bare_shards, clips):
    """It guesses columns from the first five samples, so a set where some have no clip needs ``features``."""
    import datasets

    def load(folder: Path, **more: Any) -> Any:
        files = {"train": tars(folder)}
        return datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True, **more)

    media = {"input.video.mp4": datasets.Video(decode=False), "input.audio.flac": datasets.Audio(decode=False)}
    rows = list(load(bare_shards, features=datasets.Features({**load(clips).features, **media})))
    for name, known in (("video", "input.video.mp4"), ("audio", "input.audio.flac")):
        have = {s.key: s.inputs[name] for s in ShardSet.open(bare_shards).samples("train") if name in s.inputs}
        assert {row["__key__"]: row[known]["bytes"] for row in rows if row[known]} == have
        assert have


@pytest.mark.slow
def test_energon_prepares_and_reads_the_shards(clips, tmp_path):
    energon = pytest.importorskip("megatron.energon", reason="megatron-energon is not installed")
    from megatron.energon.task_encoder.cooking import basic_sample_keys

    copy = tmp_path / "shards"
    copy.mkdir()
    for path in clips.iterdir():
        (copy / path.name).symlink_to(path)
    command = [str(Path(sys.executable).parent / "energon"), "prepare", "--non-interactive", "--num-workers", "1"]
    options = ["--sample-type", "CrudeWebdataset", "--exclude", r"privileged|teacher"]
    subprocess.run(
        [*command, *options, "--split-parts", r"train:train-.*\.tar", str(copy)], check=True, capture_output=True
    )

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

    config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    read = energon.get_val_dataset(copy, split_part="train", worker_config=config, batch_size=1, task_encoder=Encoder())
    theirs = {sample.__key__: dict(sample.parts) for batch in energon.get_loader(read) for sample in batch}
    assert theirs == ours(clips)
    assert not any("privileged" in name for parts in theirs.values() for name in parts)


def keys(samples: Sequence[Sample]) -> list[str]:
    return [sample.key for sample in samples]


def parts_of(folder: Path, batch_size: int = 4) -> tuple[Corpora, Batches]:
    corpora = Corpora([(ShardSet.open(folder).samples("train"), 1.0)])
    return corpora, Batches(Mix(corpora.described, 7), batch_size)


@pytest.fixture
def expected(talk_shards: Path) -> list[list[str]]:
    """Two epochs, read plainly."""
    corpora, batches = parts_of(talk_shards)
    return [[corpora[place].key for place in batch] for _ in range(2) for batch in batches]


Make = Callable[[], tuple[Any, Batches]]


def resumed(make: Make, steps: int) -> list[list[str]]:
    """Some batches, then the rest of the epoch and the next one from another loader and the state of the first."""
    first, _ = make()
    head = list(islice(iter(first), steps))
    state = json.loads(json.dumps(first.state_dict()))
    second, _ = make()
    second.load_state_dict(state)
    return head + [batch for _ in range(2) for batch in second]


@WORKERS
@pytest.mark.parametrize("steps", [1, 6, 12])
def test_torchdatas_stateful_loader_goes_on_where_it_was(talk_shards, expected, workers, steps):
    from torchdata.stateful_dataloader import StatefulDataLoader

    def make() -> tuple[Any, Batches]:
        corpora, batches = parts_of(talk_shards)
        return StatefulDataLoader(corpora, batch_sampler=batches, collate_fn=keys, num_workers=workers), batches  # type: ignore[arg-type]

    whole, _ = make()
    assert [batch for _ in range(2) for batch in whole] == expected
    assert resumed(make, steps) == expected


@WORKERS
def test_accelerate_prepares_a_loader_over_our_batches(talk_shards, expected, workers):
    from accelerate import Accelerator

    def make() -> tuple[Any, Batches]:
        corpora, batches = parts_of(talk_shards)
        plain = DataLoader(corpora, batch_sampler=batches, collate_fn=keys, num_workers=workers)  # type: ignore[arg-type]
        return Accelerator(cpu=True).prepare(plain), batches

    whole, _ = make()
    assert len(whole) == 13
    assert [batch for _ in range(2) for batch in whole] == expected
    first, batches = make()
    head = []
    for batch in first:
        head.append(batch)
        batches.consumed()
        if len(head) == 6:
            break
    second, others = make()
    others.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    assert head + [batch for _ in range(2) for batch in second] == expected


@WORKERS
def test_accelerates_own_stateful_loader_goes_on_where_it_was(talk_shards, expected, workers):
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    def make() -> tuple[Any, Batches]:
        corpora, batches = parts_of(talk_shards)
        plain = DataLoader(corpora, batch_sampler=batches, collate_fn=keys, num_workers=workers)  # type: ignore[arg-type]
        config = DataLoaderConfiguration(use_stateful_dataloader=True)
        return Accelerator(cpu=True, dataloader_config=config).prepare(plain), batches

    assert resumed(make, 6) == expected


def test_accelerate_shares_our_batches_out_to_ranks(talk_shards):
    from accelerate.data_loader import BatchSamplerShard

    corpora, _ = parts_of(talk_shards)
    ranks = [BatchSamplerShard(parts_of(talk_shards, 5)[1], 2, rank) for rank in range(2)]
    walks = [[place for batch in rank for place in batch] for rank in ranks]
    assert [len(walk) for walk in walks] == [25, 25]
    assert sorted(walks[0] + walks[1]) == list(range(len(corpora)))
