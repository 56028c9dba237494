import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from pride_mm.data.members import META, encode_value, suffix
from pride_mm.data.shards import MANIFEST, Manifest, ShardRecord, ShardSet, SplitRecord, TarRecord
from pride_mm.data.stream import Order
from pride_mm.data.tar import write_tar
from pride_mm.data.teaching import MEMBER
from pride_mm.errors import SampleError, UserError
from pride_mm.files import write_json
from pride_mm.schema import Role, Schema, parse_value

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
    found = {suffix(f): encode_value(f, values.get(f.name)) for f in SCHEMA.of(role)}
    return {name: data for name, data in found.items() if data is not None}


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
    with pytest.raises(UserError, match=reason):
        shards.samples("train", ALL)


def test_a_member_that_does_not_fit_names_tar_key_and_field(folder: Path) -> None:
    key, whole = base("k20")
    rewrite(folder, "test-000000.tar", [(key, {**whole, "target.mood.json": b'{"present":true,"value":"mad"}'})])
    reader = ShardSet.open(folder).samples("test")
    with pytest.raises(SampleError, match=r"test-000000\.tar: k20: mood: 'mad' is not one of: sad, glad"):
        reader[0]
    lacking = {name: data for name, data in whole.items() if name != "target.mood.json"}
    rewrite(folder, "test-000000.tar", [(key, lacking)])
    with pytest.raises(UserError, match=r"k20: mood: member 'target.mood.json' is missing"):
        ShardSet.open(folder).samples("test")


def test_a_privileged_member_in_the_base_tar_is_refused(folder: Path) -> None:
    key, whole = base("k20")
    rewrite(folder, "test-000000.tar", [(key, {**whole, "privileged.note.txt": b"secret"})])
    with pytest.raises(UserError, match="k20: note: no member of this tar"):
        ShardSet.open(folder).samples("test")


def test_it_streams_through_workers_in_the_exact_order(folder: Path) -> None:
    reader = ShardSet.open(folder).samples("train", ALL)
    order = Order(len(reader), 2, seed=3)
    loader = DataLoader(reader, batch_sampler=order, num_workers=2, collate_fn=lambda batch: [s.key for s in batch])
    seen = list(loader)
    assert seen == [[reader.keys[place] for place in batch] for batch in order]
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
    with pytest.raises(UserError, match="could run code"):
        ShardSet.open(folder).samples("test")
