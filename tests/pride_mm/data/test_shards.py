import io
import json
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from pride_mm.data.batches import Batches
from pride_mm.data.index import IndexBuilder, index_path
from pride_mm.data.members import META, encode_value, is_media, media_members, suffix
from pride_mm.data.mix import Corpus, Mix
from pride_mm.data.shards import (
    MANIFEST,
    Manifest,
    ReadSettings,
    ShardReader,
    ShardRecord,
    ShardSet,
    SplitRecord,
    TarRecord,
)
from pride_mm.data.tar_writer import write_tar
from pride_mm.data.teaching import MEMBER
from pride_mm.errors import SampleError, UserError
from pride_mm.files import write_json
from pride_mm.schema import Kind, Role, Schema, parse_value

ALL = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
SCHEMA = Schema.model_validate(
    {
        "name": "small",
        "field": [
            {"name": "turns", "kind": "dialogue", "role": "input"},
            {"name": "clip", "kind": "video", "role": "input"},
            {"name": "note", "kind": "text", "role": "privileged"},
            {"name": "mood", "kind": "choice", "role": "target", "options": ["sad", "glad"]},
            {"name": "reply", "kind": "text", "role": "target"},
        ],
    }
)


def members(role: Role, values: dict[str, Any]) -> dict[str, bytes]:
    found = {suffix(f): encode_value(f, values.get(f.name)) for f in SCHEMA.of(role) if not is_media(f)}
    for field in SCHEMA.of(role, Kind.VIDEO):
        found |= media_members(field, values[field.name], "mp4") if values.get(field.name) else {}
    return found


def base(key: str) -> tuple[str, dict[str, bytes]]:
    turns = SCHEMA.dialogue
    values = {
        "turns": parse_value(turns, [{"speaker": "a", "text": f"I am {key}"}]),
        "clip": b"CLIP" * 50 if key.endswith("1") else None,
        "mood": "sad",
        "reply": f"Oh {key}",
    }
    meta = json.dumps({"corpus": "c", "group": key}).encode()
    return key, {META: meta, **members(Role.INPUT, values), **members(Role.TARGET, values)}


def notes(key: str) -> tuple[str, dict[str, bytes]]:
    return key, members(Role.PRIVILEGED, {"note": f"secret of {key}"} if key != "k0" else {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of train, one of test, made by hand."""
    splits = {}
    for split, shards in {"train": [["k0", "k1", "k2"], ["k3", "k11"]], "test": [["k20"]]}.items():
        records = []
        for number, keys in enumerate(shards):
            name = f"{split}-{number:06d}"
            tars = {}
            for added, make in {"": base, ".privileged": notes}.items():
                written = write_tar(tmp_path / f"{name}{added}.tar", map(make, keys))
                tars[added] = TarRecord(sha256=written.sha256, size=written.size)
            records.append(ShardRecord(name=name, samples=len(keys), tars=tars))
        splits[split] = SplitRecord(samples=sum(map(len, shards)), seconds={}, shards=tuple(records))
    manifest = Manifest(schema=SCHEMA, schema_sha256=SCHEMA.sha256, splits=splits, bad={}, tools={})
    write_json(tmp_path / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
    return tmp_path


def rewrite(folder: Path, tar: str, samples: Sequence[tuple[str, dict[str, bytes]]]) -> None:
    """Put another tar in the place of one, with a manifest that fits its size."""
    written = write_tar(folder / tar, samples)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    name, _, added = tar.removesuffix(".tar").partition(".")
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            if shard["name"] == name:
                shard["tars"][f".{added}" if added else ""]["size"] = written.size
    write_json(folder / MANIFEST, manifest)


def test_samples_come_in_order_with_what_was_asked_for(folder: Path) -> None:
    shards = ShardSet.open(folder)
    assert shards.schema == SCHEMA
    assert shards.splits == {"train": 5, "test": 1}
    reader = shards.samples("train")
    assert reader.keys == ("k0", "k1", "k2", "k3", "k11")
    sample = reader[1]
    assert (sample.key, sample.corpus, sample.privileged, sample.teacher) == ("k1", "c", None, None)
    assert sample.inputs["clip"] == b"CLIP" * 50
    assert sample.inputs["turns"][0].text == "I am k1"  # type: ignore[union-attr, index]
    assert sample.targets == {"mood": "sad", "reply": "Oh k1"}
    assert "clip" not in reader[0].inputs
    assert [s.key for s in reader[3:]] == ["k3", "k11"]
    assert reader[-1].key == "k11"
    assert len(list(reader)) == 5


def test_notes_are_read_only_where_asked(folder: Path) -> None:
    reader = ShardSet.open(folder).samples("train", ALL)
    assert reader[0].privileged == {}
    assert reader[1].privileged == {"note": "secret of k1"}
    only = ShardSet.open(folder).samples("train", (Role.TARGET,))[1]
    assert (only.inputs, only.targets["mood"]) == ({}, "sad")


def test_a_site_without_notes_reads_the_rest(folder: Path) -> None:
    for path in folder.glob("*.privileged.tar"):
        path.unlink()
    shards = ShardSet.open(folder)
    assert len(shards.samples("train")) == 5
    with pytest.raises(UserError, match=r"train-000000\.privileged\.tar is missing.*`pride pack"):
        shards.samples("train", ALL)


def test_the_teachers_tar(folder: Path) -> None:
    with pytest.raises(UserError, match="`pride teach` makes it"):
        ShardSet.open(folder).samples("test", teacher=True)
    write_tar(folder / "test-000000.teacher.tar", [("k20", {MEMBER: b"lesson"})])
    assert ShardSet.open(folder).samples("test", teacher=True)[0].teacher == b"lesson"


def test_a_folder_that_is_not_complete(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No split 'dev'.*train, test"):
        ShardSet.open(folder).samples("dev")
    with pytest.raises(UserError, match="No sample 'k99'"):
        ShardSet.open(folder).find("k99")
    assert ShardSet.open(folder).find("k11") == ("train", 4)
    with pytest.raises(UserError, match="No folder"):
        ShardSet.open(tmp_path / "absent")
    tar = folder / "train-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"train-000001\.tar has [\d,]+ bytes, was packed with"):
        ShardSet.open(folder)
    tar.unlink()
    with pytest.raises(UserError, match=r"train-000001\.tar is missing"):
        ShardSet.open(folder)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        ShardSet.open(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"not complete.*Run `pride pack` again"):
        ShardSet.open(folder)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["k0", "k2"], "k1: this sample is missing here"),
        (["k0", "k2", "k1"], "k1: this sample is out of order here: 'k2' is in its place"),
        (["k0", "k1"], "k2: this sample is missing here"),
        (["k0", "k1", "k2", "k9"], "k9: this sample is in no other tar"),
    ],
)
def test_tars_that_are_not_aligned(folder: Path, keys: list[str], reason: str) -> None:
    rewrite(folder, "train-000000.privileged.tar", [notes(key) for key in keys])
    shards = ShardSet.open(folder)
    assert len(shards.samples("train")) == 5
    reader = shards.samples("train", ALL)
    for place in range(3):
        with pytest.raises(SampleError, match=rf"train-000000\.privileged\.tar: {reason}"):
            reader[place]
    assert reader[3].key == "k3"


def test_a_member_that_does_not_fit_names_tar_key_and_field(folder: Path) -> None:
    key, whole = base("k20")
    rewrite(folder, "test-000000.tar", [(key, {**whole, "target.mood.json": b'{"present":true,"value":"mad"}'})])
    reader = ShardSet.open(folder).samples("test")
    with pytest.raises(SampleError, match=r"test-000000\.tar: k20: mood: 'mad' is not one of: sad, glad"):
        reader[0]
    lacking = {name: data for name, data in whole.items() if name != "target.mood.json"}
    rewrite(folder, "test-000000.tar", [(key, lacking)])
    with pytest.raises(SampleError, match=r"k20: mood: member 'target.mood.json' is missing"):
        ShardSet.open(folder).samples("test")[0]
    with pytest.raises(UserError, match=r"is missing. `pride check .*` names all that is broken"):
        ShardSet.open(folder).samples("test").keys  # noqa: B018


def test_a_privileged_member_in_the_base_tar_is_refused(folder: Path) -> None:
    key, whole = base("k20")
    rewrite(folder, "test-000000.tar", [(key, {**whole, "privileged.note.txt": b"secret"})])
    with pytest.raises(SampleError, match="k20: note: no member of this tar"):
        ShardSet.open(folder).samples("test")[0]


def test_it_streams_through_workers_in_the_exact_order(folder: Path) -> None:
    reader = ShardSet.open(folder).samples("train", ALL)
    mix = Mix([Corpus("train", reader.sizes)], seed=3)
    order = Batches(mix, 2)
    loader = DataLoader(reader, batch_sampler=order, num_workers=2, collate_fn=lambda batch: [s.key for s in batch])
    seen = list(loader)
    assert seen == [[reader.keys[place] for place in batch] for batch in Batches(mix, 2)]
    assert sorted(key for batch in seen for key in batch) == sorted(reader.keys)


def test_manifest_keeps_the_whole_schema(folder: Path) -> None:
    stored = json.loads((folder / MANIFEST).read_bytes())
    assert stored["schema"]["field"][0]["name"] == "turns"
    assert ShardSet.open(folder).schema.sha256 == stored["schema_sha256"]


def test_a_foreign_tar_of_the_same_size_is_refused(folder: Path) -> None:
    path = folder / "test-000000.tar"
    size = path.stat().st_size
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as made:
        made.addfile(tarfile.TarInfo("k20.input.turns.pkl"), io.BytesIO())
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    with pytest.raises(SampleError, match=r"test-000000\.tar: k20: \w+: a damaged header, or another tar's index"):
        ShardSet.open(folder).samples("test")[0]
    (folder / "test-000000.index").unlink()
    with pytest.raises(SampleError, match="could run code"):
        ShardSet.open(folder).samples("test")[0]


def test_raw_members_and_their_lengths(folder: Path) -> None:
    reader = ShardSet.open(folder).samples("train", ALL)
    assert reader.members(1) == {**base("k1")[1], **notes("k1")[1]}
    assert reader.key(4) == "k11"
    lengths = reader.lengths(0)
    assert lengths["clip"].tolist() == [0, 200, 0]
    assert lengths["note"].tolist() == [0, len("secret of k1"), len("secret of k2")]
    bare = ShardSet.open(folder).samples("train", (Role.INPUT,), media=False)
    assert set(bare.members(1)) == {META, "input.turns.json"}
    assert set(bare.lengths(0)) == {"turns"}


def test_what_a_run_does_not_need_is_not_even_read(folder: Path) -> None:
    index = ShardSet.open(folder).samples("train")._open(0)[0].index
    tar, clip = folder / "train-000000.tar", index["k1"]["input.clip.mp4"]
    broken = bytearray(tar.read_bytes())
    broken[clip.offset - 512 : clip.offset + clip.size] = bytes(512 + clip.size)
    tar.write_bytes(broken)
    shards = ShardSet.open(folder)
    assert shards.samples("train", media=False)[1].targets["reply"] == "Oh k1"
    with pytest.raises(SampleError, match=r"train-000000\.tar: k1: clip: a damaged header"):
        shards.samples("train")[1]


def test_all_roles_in_one_tar(folder: Path) -> None:
    aligned = list(ShardSet.open(folder).samples("train", ALL))
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["inline"] = True
    for split, keys in {"train": [["k0", "k1", "k2"], ["k3", "k11"]], "test": [["k20"]]}.items():
        for record, shard in zip(manifest["splits"][split]["shards"], keys, strict=True):
            samples = [(key, {**base(key)[1], **notes(key)[1]}) for key in shard]
            written = write_tar(folder / f"{record['name']}.tar", samples)
            (folder / f"{record['name']}.privileged.tar").unlink()
            record["tars"] = {"": {"sha256": written.sha256, "size": written.size}}
    write_json(folder / MANIFEST, manifest)
    shards = ShardSet.open(folder)
    assert list(shards.samples("train", ALL)) == aligned
    assert shards.samples("train")[1].privileged is None
    assert not any("note" in name for name in shards.samples("train").members(1))


def test_an_index_that_is_missing_damaged_or_anothers_is_not_used(folder: Path) -> None:
    whole = list(ShardSet.open(folder).samples("train", ALL))
    index_path(folder / "train-000000.tar").unlink()
    index_path(folder / "train-000001.tar").write_bytes(b"junk")
    other = index_path(folder / "train-000001.privileged.tar").read_bytes()
    index_path(folder / "train-000000.privileged.tar").write_bytes(other)
    assert list(ShardSet.open(folder).samples("train", ALL)) == whole


def test_a_member_larger_than_allowed_is_not_read(folder: Path) -> None:
    reader = ShardSet.open(folder, settings=ReadSettings(max_member=150)).samples("train")
    with pytest.raises(SampleError, match=r"train-000000\.tar: k1: clip: has 200 bytes, more than max_member=150"):
        reader[1]
    assert reader[0].key == "k0"


def test_a_member_of_ten_gigabytes_that_is_really_there(folder: Path) -> None:
    key, whole = base("k20")
    rewrite(folder, "test-000000.tar", [(key, whole)])
    path, size = folder / "test-000000.tar", 10 * 1024**3
    with path.open("r+b") as file:
        file.seek(-1024, os.SEEK_END)
        info = tarfile.TarInfo(f"{key}.input.clip.mp4")
        info.size = size
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + size + 1024)  # a hole: nothing of it is on the disk
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["splits"]["test"]["shards"][0]["tars"][""]["size"] = path.stat().st_size
    write_json(folder / MANIFEST, manifest)
    with pytest.raises(
        SampleError, match=r"test-000000\.tar: k20: clip: has 10,737,418,240 bytes, more than max_member"
    ):
        ShardSet.open(folder).samples("test")[0]


def test_opening_a_thousand_shards_reads_no_tar(tmp_path: Path) -> None:
    records = []
    names = [META, "input.turns.json", "target.mood.json", "target.reply.txt"]
    for number in range(1000):
        name, builder = f"train-{number:06d}", IndexBuilder()
        for row in range(5):
            builder.sample(f"k{number}-{row}")
            for column, member in enumerate(names):
                builder.member(member, 512 + 4096 * row + 1024 * column, 9, 0)
        with (tmp_path / f"{name}.tar").open("wb") as file:
            file.truncate(1024**3)  # holes, that no walk would take for a tar
        record = TarRecord(sha256=f"{number:064x}", size=1024**3)
        builder.build(record.size, record.sha256).save(tmp_path / f"{name}.index")
        records.append(ShardRecord(name=name, samples=5, tars={"": record}))
    split = SplitRecord(samples=5000, seconds={}, shards=tuple(records))
    manifest = Manifest(schema=SCHEMA, schema_sha256=SCHEMA.sha256, splits={"train": split}, bad={}, tools={})
    write_json(tmp_path / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
    reader = ShardSet.open(tmp_path).samples("train")
    assert len(reader) == 5000
    assert reader.keys[-1] == "k999-4"
    for place in range(0, 5000, 5):
        with pytest.raises(SampleError, match=rf"train-{place // 5:06d}\.tar: k{place // 5}-0: \w+: a damaged header"):
            reader[place]
    assert len(os.listdir("/proc/self/fd")) < 200


def _same(reader: ShardReader, expected: list[dict[str, bytes]]) -> bool:
    return all(reader.members(place) == members for _ in range(20) for place, members in enumerate(expected))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_threads_and_processes_share_a_reader(folder: Path, method: str) -> None:
    reader = ShardSet.open(folder).samples("train", ALL)
    reader._files.limit = 1  # files are closed under each other's hands
    expected = [{**base(key)[1], **notes(key)[1]} for key in reader.keys]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(_same, [reader] * 16, [expected] * 16))
    with multiprocessing.get_context(method).Pool(2) as processes:
        assert all(processes.starmap(_same, [(reader, expected)] * 4))
    assert pickle.loads(pickle.dumps(reader)).keys == reader.keys


def test_a_damaged_teachers_record_is_named(folder: Path) -> None:
    (folder / "teacher.json").write_text('{"tars": {"../x": {}}}')
    with pytest.raises(UserError, match=r"teacher\.json is damaged. Run `pride teach` again"):
        ShardSet.open(folder).samples("test", teacher=True)
