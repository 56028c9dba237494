"""Shards behind real servers: an S3 API, and HTTP with ranges that can be made to fail."""

import gc
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from torch.utils.data import DataLoader

from pride_mm.data.index import index_path
from pride_mm.data.members import META, REACHED, encode_value, media_members, suffix
from pride_mm.data.shards import MANIFEST, Manifest, ReadSettings, ShardRecord, ShardSet, SplitRecord, TarRecord
from pride_mm.data.tar_writer import write_tar
from pride_mm.data.teaching import MEMBER
from pride_mm.errors import SampleError, UserError
from pride_mm.files import write_json
from pride_mm.schema import Kind, Role, Schema
from tests.pride_mm.data.range_server import RangeServer, serving

ALL = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
ONCE = ReadSettings(retries=0, timeout=2)
MIB = 1 << 20
SCHEMA = Schema.model_validate(
    {
        "name": "small",
        "field": [
            {"name": "turns", "kind": "dialogue", "role": "input"},
            {"name": "clip", "kind": "video", "role": "input"},
            {"name": "note", "kind": "text", "role": "privileged"},
            {"name": "reply", "kind": "text", "role": "target"},
        ],
    }
)


def base(number: int) -> tuple[str, dict[str, bytes]]:
    turns = b'{"speakers":["a"],"texts":["I am %d"],"starts":[-1.0],"ends":[-1.0]}' % number
    clip = media_members(SCHEMA.of(None, Kind.VIDEO)[0], random.Random(number).randbytes(2 * MIB), "mp4")
    text = {suffix(SCHEMA.dialogue): turns, suffix(SCHEMA.response): f"Oh {number}".encode()}
    return f"k{number}", {META: b"{}", **text, **clip}


def notes(number: int, text: str = "secret of") -> tuple[str, dict[str, bytes]]:
    field = SCHEMA.privileged[0]
    return f"k{number}", {REACHED: b'{"how":{},"drafts":{}}', suffix(field): encode_value(field, f"{text} {number}")}


def write(folder: Path, text: str = "secret of") -> None:
    """Three shards of 5 samples, 10 MiB each, with notes and a teacher's tar."""
    records, taught = [], {}
    for first in (0, 5, 10):
        name, numbers = f"train-{first // 5:06d}", range(first, first + 5)
        parts = {"": map(base, numbers), ".privileged": (notes(number, text) for number in numbers)}
        written = {added: write_tar(folder / f"{name}{added}.tar", samples) for added, samples in parts.items()}
        tars = {added: TarRecord(sha256=tar.sha256, size=tar.size) for added, tar in written.items()}
        records.append(ShardRecord(name=name, samples=5, tars=tars))
        lessons = write_tar(folder / f"{name}.teacher.tar", ((f"k{n}", {MEMBER: b"lesson"}) for n in numbers))
        taught[name] = {"sha256": lessons.sha256, "size": lessons.size}
    split = SplitRecord(samples=15, seconds={}, shards=tuple(records))
    made = Manifest(schema=SCHEMA, schema_sha256=SCHEMA.sha256, splits={"train": split}, bad={}, tools={})
    write_json(folder / "teacher.json", {"tars": taught})
    write_json(folder / MANIFEST, made.model_dump(mode="json", by_alias=True))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write(folder)
    return folder


@pytest.fixture
def server(packed: Path) -> Iterator[RangeServer]:
    with serving(packed) as running:
        yield running


def cached(cache: Path, ending: str) -> list[Path]:
    return sorted(cache.glob(f"??/*{ending}"))


def test_from_s3_comes_what_lies_in_the_folder(packed: Path, s3: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.put([str(path) for path in packed.iterdir()], f"{s3}/deep/set/", recursive=False)
    local = ShardSet.open(packed).samples("train", ALL, teacher=True)
    shards = ShardSet.open(f"{s3}/deep/set", cache=tmp_path)
    assert (shards.splits, shards.place) == ({"train": 15}, f"{s3}/deep/set")
    remote = shards.samples("train", ALL, teacher=True)
    assert remote.keys == local.keys
    for place in (14, 0, 7):
        assert remote[place] == local[place]
        assert remote.members(place) == local.members(place)
    assert shards.find("k9") == ("train", 9)
    with pytest.raises(UserError, match="copy the shards to a folder"):
        shards.path("train-000000")
    # workers are forked after connections were made
    loader = DataLoader(shards.samples("train", ALL), batch_size=5, num_workers=2, collate_fn=list)
    assert [sample for batch in loader for sample in batch] == list(ShardSet.open(packed).samples("train", ALL))


def test_what_has_come_once_is_not_asked_for_again(server: RangeServer, packed: Path, tmp_path: Path) -> None:
    for _ in range(2):
        shards = ShardSet.open(server.url, cache=tmp_path)
        assert list(shards.samples("train")) == list(ShardSet.open(packed).samples("train"))
        tars = server.tars()
    assert server.tars() == tars
    assert set(tars) == {f"train-00000{number}.tar" for number in range(3)}
    assert sum(server.bytes_of(tar) for tar in set(tars)) == sum((packed / tar).stat().st_size for tar in set(tars))
    assert not cached(tmp_path, ".partial")


def test_notes_that_were_written_anew_are_fetched_anew_and_nothing_else(tmp_path: Path) -> None:
    folder, cache = tmp_path / "shards", tmp_path / "cache"
    write(folder)
    with serving(folder) as server:
        before = ShardSet.open(server.url, cache=cache).samples("train", ALL)
        assert before[7].privileged == {"note": "secret of 7"}
        write(folder, "word on")
        server.asked.clear()
        assert ShardSet.open(server.url, cache=cache).samples("train", ALL)[7].privileged == {"note": "word on 7"}
        assert set(server.tars()) == {"train-000001.privileged.tar"}
        assert before[7].privileged == {"note": "secret of 7"}
        with pytest.raises(UserError, match=r"train-000000\.privileged\.tar is not the file that the manifest names"):
            before[0]


def test_text_without_clips_fetches_only_text(server: RangeServer, packed: Path, tmp_path: Path) -> None:
    local = ShardSet.open(packed).samples("train", ALL, media=False)
    reader = ShardSet.open(server.url, cache=tmp_path).samples("train", ALL, media=False)
    assert list(reader) == list(local)
    assert "clip" not in reader[0].inputs
    assert server.bytes_of("train-000000.tar") < 0.01 * (packed / "train-000000.tar").stat().st_size
    assert not cached(tmp_path, ".tar") or all(path.stat().st_size < MIB for path in cached(tmp_path, ".tar"))
    asked = len(server.asked)
    assert list(ShardSet.open(server.url, cache=tmp_path).samples("train", ALL, media=False)) == list(local)
    assert len(server.asked) == asked + 1  # the manifest
    # the targets alone were there already; the clips are not, and come whole
    assert ShardSet.open(server.url, cache=tmp_path).samples("train", (Role.TARGET,))[3].targets == local[3].targets
    assert server.bytes_of("train-000000.tar") < MIB
    assert ShardSet.open(server.url, cache=tmp_path).samples("train")[3].inputs["clip"] == base(3)[1]["input.clip.mp4"]


def test_broken_answers_are_asked_for_again(server: RangeServer, packed: Path, tmp_path: Path) -> None:
    reader = ShardSet.open(server.url, cache=tmp_path).samples("train")
    server.cuts = 2
    assert reader[0] == ShardSet.open(packed).samples("train")[0]
    server.refusals = [503, 500]
    assert reader[5] == ShardSet.open(packed).samples("train")[5]
    assert (server.cuts, server.refusals) == (0, [])
    once = ShardSet.open(server.url, cache=tmp_path, settings=ONCE).samples("train")
    server.cuts = 1
    with pytest.raises(UserError, match=r"train-000002\.index could not be read, tried 1 times \(ClientPayloadError\)"):
        once[10]
    assert once[10].key == "k10"


def test_damaged_copies_are_noticed_and_fetched_again(server: RangeServer, packed: Path, tmp_path: Path) -> None:
    first = ShardSet.open(packed).samples("train")[0]
    assert ShardSet.open(server.url, cache=tmp_path).samples("train")[0] == first
    (copy,) = cached(tmp_path, ".tar")
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    assert ShardSet.open(server.url, cache=tmp_path).samples("train")[0] == first
    assert copy.read_bytes() == whole
    copy.write_bytes(bytes(len(whole)))
    reader = ShardSet.open(server.url, cache=tmp_path).samples("train")
    assert reader[0] == first
    assert copy.read_bytes() == whole
    # what is damaged a second time is not fetched for ever
    copy.write_bytes(bytes(len(whole)))
    with pytest.raises(SampleError, match=r"train-000000\.tar: k1: \w+: a damaged header"):
        reader[1]
    cached(tmp_path, ".index")[0].write_bytes(b"junk")
    assert ShardSet.open(server.url, cache=tmp_path).samples("train")[0] == first


def test_without_an_index_or_with_another_tars_the_tar_is_walked(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(packed, folder)
    index_path(folder / "train-000000.tar").unlink()
    shutil.copy(index_path(folder / "train-000002.tar"), index_path(folder / "train-000001.tar"))
    with serving(folder) as server:
        reader = ShardSet.open(server.url, cache=tmp_path / "cache").samples("train", media=False)
        assert [sample.key for sample in reader] == [f"k{number}" for number in range(15)]
        asked = len(server.asked)
        assert ShardSet.open(server.url, cache=tmp_path / "cache").samples("train", media=False)[0] == reader[0]
        assert len(server.asked) == asked + 1


def test_a_server_without_ranges(server: RangeServer, packed: Path, tmp_path: Path) -> None:
    server.ranges = False
    for media in (False, True):
        reader = ShardSet.open(server.url, cache=tmp_path).samples("train", media=media)
        assert list(reader) == list(ShardSet.open(packed).samples("train", media=media))
    assert len(server.tars()) == 4  # one range that wasn't kept to, then whole files


def test_another_file_than_was_packed_is_refused(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(packed, folder)
    with (folder / "train-000000.tar").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"flip")
    (folder / "train-000001.tar").unlink()
    with (folder / "train-000002.tar").open("r+b") as file:
        file.truncate(9 * MIB)
    with serving(folder) as server:
        reader = ShardSet.open(server.url, cache=tmp_path / "cache", settings=ONCE).samples("train")
        with pytest.raises(UserError, match=r"train-000000\.tar is not the file .* \(its SHA-256 differs\)"):
            reader[0]
        with pytest.raises(UserError, match=r"train-000001\.tar is missing in http"):
            reader[5]
        with pytest.raises(UserError, match=r"train-000002\.tar could not be read.* bytes came where .* were asked"):
            reader[10]
    assert not cached(tmp_path / "cache", ".tar")


READ = """
import sys
from pathlib import Path
from pride_mm.data.shards import ShardSet
reader = ShardSet.open(sys.argv[1], cache=Path(sys.argv[2])).samples("train")
print([sample.key for sample in reader], flush=True)
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """One shard of 60 MiB: more than comes at once."""
    folder = tmp_path / "large"
    samples = ((f"k{number}", {**base(number)[1], "input.clip.mp4": bytes([number]) * 4 * MIB}) for number in range(15))
    written = write_tar(folder / "train-000000.tar", samples)
    tars = {"": TarRecord(sha256=written.sha256, size=written.size)}
    split = SplitRecord(samples=15, seconds={}, shards=(ShardRecord(name="train-000000", samples=15, tars=tars),))
    made = Manifest(schema=SCHEMA, schema_sha256=SCHEMA.sha256, splits={"train": split}, bad={}, tools={})
    write_json(folder / MANIFEST, made.model_dump(mode="json", by_alias=True))
    return folder


def test_a_reader_killed_while_it_downloads_is_gone_on_from(large: Path, tmp_path: Path) -> None:
    cache, size = tmp_path / "cache", (large / "train-000000.tar").stat().st_size
    with serving(large) as server:
        server.pause = 0.4
        killed = subprocess.Popen([sys.executable, "-c", READ, server.url, str(cache)])
        while not any(path.stat().st_size for path in cached(cache, ".tar.partial")):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        (partial,) = cached(cache, ".tar.partial")
        had = partial.stat().st_size
        assert 0 < had < size
        assert not cached(cache, ".tar")
        server.pause = 0.0
        server.asked.clear()
        reader = ShardSet.open(server.url, cache=cache).samples("train")
        assert [sample.key for sample in reader] == [f"k{number}" for number in range(15)]
        assert server.bytes_of("train-000000.tar") == size - had
    (copy,) = cached(cache, ".tar")
    assert copy.read_bytes() == (large / "train-000000.tar").read_bytes()
    assert not cached(cache, ".tar.partial")


def test_processes_that_share_a_cache_fetch_each_tar_once(server: RangeServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ, server.url, str(tmp_path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {reader.communicate()[0] for reader in readers} == {f"{[f'k{number}' for number in range(15)]}\n"}
    for number in range(3):
        tar = f"train-00000{number}.tar"
        assert server.bytes_of(tar) == (server.folder / tar).stat().st_size


def test_what_is_read_ahead_is_there_when_it_is_needed(server: RangeServer, tmp_path: Path) -> None:
    reader = ShardSet.open(server.url, cache=tmp_path).samples("train", ALL)
    reader.prefetch([2, 0])
    until = time.monotonic() + 30
    while len(cached(tmp_path, ".tar")) < 4 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(cached(tmp_path, ".tar")) == 4
    asked = len(server.asked)
    assert [reader[place].key for place in (14, 0)] == ["k14", "k0"]
    assert len(server.asked) == asked
    server.refusals = [403] * 9
    reader.prefetch([1])
    with pytest.raises(UserError, match="may not be read, the server refuses it"):
        reader[5]


def _read_in_child(reader: object, place: int, answer: "multiprocessing.SimpleQueue[str]") -> None:
    reader.prefetch([1])  # type: ignore[attr-defined]
    answer.put(reader[place].key)  # type: ignore[index]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_goes_along_into_another_process(server: RangeServer, tmp_path: Path, method: str) -> None:
    reader = ShardSet.open(server.url, cache=tmp_path).samples("train", ALL)
    reader.prefetch([0])
    assert reader[0].key == "k0"
    context = multiprocessing.get_context(method)
    answer = context.SimpleQueue()
    child = context.Process(target=_read_in_child, args=(reader, 6, answer))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answer.get() == "k6"


def test_the_cache_stays_within_its_limit_but_for_what_is_in_use(server: RangeServer, tmp_path: Path) -> None:
    settings = ReadSettings(cache_bytes=25 * MIB)
    for place in (0, 5, 10, 0):  # three readers of a shard each, none of which lives on
        assert ShardSet.open(server.url, cache=tmp_path, settings=settings).samples("train")[place].key == f"k{place}"
        gc.collect()
        time.sleep(0.01)
    assert server.tars().count("train-000000.tar") == 2 * server.tars().count("train-000001.tar")
    assert sum(path.stat().st_blocks * 512 for path in cached(tmp_path, "")) <= 25 * MIB
    held = ShardSet.open(server.url, cache=tmp_path, settings=settings).samples("train")
    for _ in range(2):
        assert [held[place].key for place in (0, 5, 10)] == ["k0", "k5", "k10"]
    assert len(cached(tmp_path, ".tar")) == 3


@pytest.mark.parametrize("name", ["../../evil", "/abs", "a.b", ""])
def test_a_manifest_names_nothing_outside_its_folder(packed: Path, tmp_path: Path, name: str) -> None:
    manifest = json.loads((packed / MANIFEST).read_bytes())
    manifest["splits"]["train"]["shards"][0]["name"] = name
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with serving(tmp_path) as server, pytest.raises(UserError, match=r"shards\.0\.name: String should match"):
        ShardSet.open(server.url, cache=tmp_path / "cache")


def test_a_url_is_told_from_a_folder(packed: Path, tmp_path: Path) -> None:
    assert ShardSet.open(f"file://{packed}").folder == packed
    for place in ("pipe:touch ran", "|touch ran"):
        with pytest.raises(UserError, match="No folder"):
            ShardSet.open(place, cache=tmp_path)
    with pytest.raises(UserError, match=r"nothing here reads wrong://"):
        ShardSet.open("wrong://x", cache=tmp_path)
    with pytest.raises(UserError, match="without '\\?'") as caught:
        ShardSet.open("https://me:word@host/x?token=word", cache=tmp_path)
    assert "word" not in str(caught.value)
    assert not Path("ran").exists()


def test_the_cache_lies_where_the_environment_says(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIDE_CACHE", str(tmp_path / "here"))
    assert ShardSet.open(server.url).samples("train", (Role.TARGET,))[0].key == "k0"
    assert cached(tmp_path / "here", ".part")
    monkeypatch.delenv("PRIDE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert ShardSet.open(server.url).samples("train", (Role.TARGET,))[0].key == "k0"
    assert cached(tmp_path / "there" / "pride-mm" / "shards", ".part")
    monkeypatch.setenv("PRIDE_CACHE", os.devnull)
    with pytest.raises(UserError, match="set PRIDE_CACHE to a folder that can be written to"):
        ShardSet.open(server.url)
