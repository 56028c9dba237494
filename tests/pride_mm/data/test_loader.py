"""The loader on real shards, with and without workers: exact, resumed, and stopped by name."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.batches import Batches, Budget
from pride_mm.data.corpora import Corpora, measure_lengths
from pride_mm.data.loader import Loader, Plain
from pride_mm.data.mix import Mix
from pride_mm.data.shards import MANIFEST, Sample, ShardSet
from pride_mm.errors import SampleError, TooManyBadSamples, UserError

WORKERS = pytest.mark.parametrize("workers", [0, 2])


def corpora_of(*folders: Path, weight: float = 1.0) -> Corpora:
    return Corpora([(ShardSet.open(folder).samples("train"), weight) for folder in folders])


def loader_of(corpora: Corpora, collate: Any = None, batch_size: int = 4, **more: Any) -> Loader[Any]:
    parts = {name: more.pop(name) for name in ("rank", "world") if name in more}
    batches = Batches(Mix(corpora.described, 3, window=2), batch_size, **parts)
    return Loader(corpora, collate or Plain(), batches, **more)


def keys(batch: list[Sample]) -> list[str]:
    return [sample.key for sample in batch]


class Watched(Corpora):
    """Remembers what was read."""

    read: list[int]

    def __getitem__(self, place: Any) -> Any:
        self.read.append(place)
        return super().__getitem__(place)


@WORKERS
def test_an_epoch_holds_each_sample_once_in_the_same_order_for_any_number_of_workers(talk_shards, workers):
    loader = loader_of(corpora_of(talk_shards), workers=workers)
    alone = loader_of(corpora_of(talk_shards))
    for _ in range(2):
        assert len(loader) == 13
        batches = [keys(batch) for batch in loader]
        assert sorted(key for batch in batches for key in batch) == [f"k{number:03d}" for number in range(50)]
        assert batches == [keys(batch) for batch in alone]
    assert loader.state_dict()["epoch"] == 2


@WORKERS
def test_stopped_anywhere_and_resumed_with_other_workers_nothing_is_read_again(talk_shards, workers):
    whole = [keys(batch) for batch in loader_of(corpora_of(talk_shards))]
    loader = loader_of(corpora_of(talk_shards), workers=workers)
    stream = iter(loader)
    head = [keys(next(stream)) for _ in range(5)]
    state = json.dumps(loader.state_dict())
    stream.close()
    corpora = Watched([(ShardSet.open(talk_shards).samples("train"), 1.0)])
    corpora.read = []
    resumed = loader_of(corpora)
    resumed.load_state_dict(json.loads(state))
    tail = [keys(batch) for batch in resumed]
    assert head + tail == whole
    assert len(corpora.read) == 50 - 20
    assert len(state) < 400


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_resumed_by_other_ranks_with_other_batches_the_epoch_stays_exact(
    talk_shards, before, after, size, other, steps
):
    corpora = corpora_of(talk_shards)
    seen: Counter[str] = Counter()
    states = set()
    for rank in range(before):
        loader = loader_of(corpora, batch_size=size, rank=rank, world=before)
        steps = min(steps, len(loader) - 1)
        for _, batch in zip(range(steps), loader, strict=False):
            seen.update(keys(batch))
        states.add(json.dumps(loader.state_dict()))
    assert len(states) == 1
    state = json.loads(states.pop())
    counts = set()
    for rank in range(after):
        loader = loader_of(corpora, batch_size=other, rank=rank, world=after)
        loader.load_state_dict(state)
        repeats = loader.batches.remainder()
        batches = [keys(batch) for batch in loader]
        counts.add(len(batches))
        for batch in batches[:-1] if repeats else batches:
            seen.update(batch)
    assert seen == Counter(f"k{number:03d}" for number in range(50))
    assert len(counts) == 1


def test_the_repeats_of_the_last_step_are_named(talk_shards):
    assert loader_of(corpora_of(talk_shards), batch_size=25, rank=1, world=2).remainder() == ()
    loader = loader_of(corpora_of(talk_shards), batch_size=7, rank=6, world=7)
    named = loader.remainder()
    *_, last = (keys(batch) for batch in loader)
    assert [name.partition(".tar: ")[2] for name in named] == last


def test_corpora_are_mixed_by_weight_and_a_half_goes_on_where_it_was(talk_shards, write_talks, tmp_path):
    second = write_talks(tmp_path, (30, 10), prefix="other")
    readers = [ShardSet.open(folder).samples("train") for folder in (talk_shards, second)]
    corpora = Corpora([(readers[0], 0.5), (readers[1], 1.0)])
    loader = loader_of(corpora)
    epochs = [[key for batch in loader for key in keys(batch)] for _ in range(2)]
    assert [len(epoch) for epoch in epochs] == [65, 65]
    halves = [{key for key in epoch if key.startswith("k")} for epoch in epochs]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == 50
    assert all(sum(key.startswith("other") for key in epoch) == 40 for epoch in epochs)


def test_shards_of_two_schemas_are_not_mixed(talk_shards, write_talks, tmp_path):
    manifest = json.loads((write_talks(tmp_path, (2,)) / MANIFEST).read_text())
    manifest["schema"]["version"] = 2
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"and .* are of two schemas \('talk' and 'talk', or two versions"):
        corpora_of(talk_shards, tmp_path)


@WORKERS
def test_a_bad_sample_is_left_out_named_and_counted_once(write_talks, tmp_path, workers):
    folder = write_talks(tmp_path, (10, 15), broken=["k004", "k017"])
    loader = loader_of(corpora_of(folder), workers=workers, max_bad=2)
    for _ in range(2):
        seen = [key for batch in loader for key in keys(batch)]
        assert len(seen) == 23
        assert len(set(seen)) == 23
    assert sorted((bad.place, bad.field, bad.reason) for bad in loader.bad) == [
        ("train-000000.tar: k004", "dialogue", "not JSON"),
        ("train-000001.tar: k017", "dialogue", "not JSON"),
    ]
    with pytest.raises(TooManyBadSamples, match="2 bad samples, 1 are allowed"):
        list(loader_of(corpora_of(folder), workers=workers, max_bad=1))


class Choosy(Plain):
    """Refuses some samples, as a decoder would."""

    def __init__(self, refused: str) -> None:
        self.refused = refused

    def prepare(self, sample: Sample) -> Sample:
        if sample.key == self.refused:
            raise SampleError(sample.key, "dialogue", "does not decode")
        return sample


@WORKERS
def test_what_cannot_be_decoded_is_named_with_its_shard(talk_shards, workers):
    loader = loader_of(corpora_of(talk_shards), Choosy("k030"), workers=workers, max_bad=1)
    assert sum(len(batch) for batch in loader) == 49
    assert [str(bad) for bad in loader.bad] == ["train-000002.tar: k030: dialogue: does not decode"]


def test_a_batch_that_is_broken_from_end_to_end_still_makes_a_step(write_talks, tmp_path):
    folder = write_talks(tmp_path, (6,), broken=["k001", "k002"])
    loader = loader_of(corpora_of(folder), batch_size=1, max_bad=2)
    batches = [keys(batch) for batch in loader]
    assert len(batches) == 6
    assert Counter(key for batch in batches for key in batch) == Counter(
        ["k000", "k003", "k003", "k003", "k004", "k005"]
    )
    assert loader.repeated == ["train-000000.tar: k003"] * 2
    nothing = write_talks(tmp_path / "nothing", (3,), broken=["k000", "k001", "k002"])
    with pytest.raises(UserError, match=r"cannot be read: `pride check`"):
        list(loader_of(corpora_of(nothing), max_bad=9))


class Faulty(Plain):
    """Code that goes wrong at one sample."""

    def __init__(self, key: str, act: Any) -> None:
        self.key, self.act = key, act

    def prepare(self, sample: Sample) -> Sample:
        if sample.key == self.key:
            self.act()
        return sample


def fail() -> None:
    raise ZeroDivisionError("a bug of ours")


def refuse() -> None:
    raise UserError("The cache does not fit. Run 'pride teach' again.")


@WORKERS
def test_bad_code_stops_and_a_users_mistake_is_told_plainly(talk_shards, workers):
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        list(loader_of(corpora_of(talk_shards), Faulty("k020", fail), workers=workers, max_bad=99))
    with pytest.raises(UserError) as told:
        list(loader_of(corpora_of(talk_shards), Faulty("k020", refuse), workers=workers))
    assert str(told.value) == "The cache does not fit. Run 'pride teach' again."


def test_a_worker_that_dies_is_named_with_the_sample_it_was_at(talk_shards):
    dies = Faulty("k030", lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r"A worker has died at train-000002\.tar: k030"):
        list(loader_of(corpora_of(talk_shards), dies, workers=2))


def test_a_worker_that_is_stuck_is_named_and_not_waited_for(talk_shards):
    stuck = Faulty("k030", lambda: time.sleep(600))
    with pytest.raises(UserError, match=r"within 1 seconds; the workers are at .*train-000002\.tar: k030"):
        list(loader_of(corpora_of(talk_shards), stuck, workers=2, timeout=1))


def test_a_state_of_other_shards_is_refused(talk_shards, write_talks, tmp_path):
    state = loader_of(corpora_of(talk_shards)).state_dict()
    other = write_talks(tmp_path, (13, 7, 20, 1, 9), broken=["k001"])
    with pytest.raises(UserError, match="corpus '0: train': shards"):
        loader_of(corpora_of(other)).load_state_dict(state)


def step_together(rank: int, world: int, folder: Path, store: Path) -> None:
    """One rank: a barrier a step, as training has one, and its keys written down."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    loader = loader_of(corpora_of(folder), batch_size=3, rank=rank, world=world)
    padding = loader.batches.remainder()
    found = []
    for batch in loader:
        torch.distributed.all_reduce(torch.ones(1))
        found.append(keys(batch))
    (store.parent / f"{rank}.json").write_text(json.dumps(found[:-1] if padding else found))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("sizes", [(7,), (1,), (9, 2)])
def test_two_real_processes_step_together_and_neither_waits_for_ever(write_talks, tmp_path, sizes):
    folder = write_talks(tmp_path / "shards", sizes)
    context = torch.multiprocessing.get_context("fork")
    ranks = [context.Process(target=step_together, args=(rank, 2, folder, tmp_path / "store")) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        alive = rank.is_alive()
        rank.kill()
        assert not alive
    seen = [key for rank in range(2) for batch in json.loads((tmp_path / f"{rank}.json").read_text()) for key in batch]
    assert sorted(seen) == [f"k{number:03d}" for number in range(sum(sizes))]


def test_shards_are_fetched_ahead_in_the_order_of_need(talk_shards):
    corpora = corpora_of(talk_shards)
    asked: list[list[int]] = []
    corpora.readers[0].prefetch = lambda shards: asked.append(list(shards))  # type: ignore[method-assign]
    loader = loader_of(corpora)
    order = [shard for _, shard in loader.batches.mix.shards(0, 0, 50)]
    assert len(list(loader)) == 13
    assert asked[0] == order
    assert all(later == order[-len(later) :] for later in asked if later)


def test_lengths_are_measured_once_and_anew_for_other_shards(talk_shards, write_talks, tmp_path):
    cache, measured = tmp_path / "lengths.safetensors", []

    def words(sample: Sample) -> int:
        measured.append(sample.key)
        return len(str(sample.targets["response"]).split())

    corpora = corpora_of(talk_shards)
    lengths = measure_lengths(corpora, words, cache)
    assert lengths.tolist() == [max(1, len(str(sample.targets["response"]).split())) for sample in corpora]
    assert measure_lengths(corpora, words, cache).tolist() == lengths.tolist()
    assert len(measured) == 50
    measure_lengths(corpora, words, cache, of="another tokenizer", workers=2)
    other = corpora_of(write_talks(tmp_path / "other", (5,), broken=["k002"]))
    assert measure_lengths(other, words, cache)[2] == 1
    cache.write_bytes(b"damaged")
    assert len(measure_lengths(other, words, cache)) == 5
    batches = Batches(Mix(corpora.described), 8, budget=Budget(120, lengths))
    loader = Loader(corpora, Plain(), batches)
    assert sum(len(batch) for batch in loader) == 50


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_and_nothing_comes_twice(talk_shards, tmp_path):
    """A consumer that writes down what it took and where it stands, killed at any instant with its workers."""
    journal = tmp_path / "journal.jsonl"
    journal.touch()
    corpora = corpora_of(talk_shards)
    epochs, draw = 30, torch.Generator().manual_seed(0)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]

    def consume() -> None:
        loader = loader_of(corpora, workers=2)
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)  # a line that the kill has cut
        if lines():
            loader.load_state_dict(lines()[-1]["state"])
        with journal.open("ab", buffering=0) as file:
            while loader.batches.epoch < epochs:
                for batch in loader:
                    file.write(json.dumps({"keys": keys(batch), "state": loader.state_dict()}).encode() + b"\n")
                    time.sleep(0.002)

    kills = 0
    while True:
        child = os.fork()
        if not child:
            try:
                os.setpgid(0, 0)
                consume()
            finally:
                os._exit(0)
        until = time.monotonic() + 0.1 + float(torch.rand(1, generator=draw)) * 0.3
        if kills < 20:
            time.sleep(max(0.0, until - time.monotonic()))
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(child, signal.SIGKILL)
            kills += 1
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            break
    found = lines()
    assert kills == 20
    assert len(found) == epochs * 13
    for epoch in range(epochs):
        seen = [key for line in found[epoch * 13 : (epoch + 1) * 13] for key in line["keys"]]
        assert sorted(seen) == [f"k{number:03d}" for number in range(50)]
    never = loader_of(corpora)
    assert [line["keys"] for line in found[:26]] == [keys(batch) for _ in range(2) for batch in never]
