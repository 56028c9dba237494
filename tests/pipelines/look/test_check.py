import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.look.check import check
from pride_mm.data.shards import MANIFEST, ShardSet, open_index
from pride_mm.data.tar import file_sha256, read_members
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import UserError

Members = dict[str, bytes]


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy of the good shards, to be broken."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def named(folder: Path) -> list[str]:
    return [str(finding) for finding in check(folder).findings]


def change(folder: Path, tar: str, edit: Callable[[str, Members], Members | None], honest: bool = True) -> None:
    """Rewrite a tar sample by sample; ``honest`` puts its new hash into the manifest."""
    path = folder / tar
    name, _, added = tar.removesuffix(".tar").partition(".")
    added = f".{added}" if added else ""
    index = open_index(path, ShardSet.open(folder).schema, added)
    samples = [(key, edit(key, read_members(path, key, entries))) for key, entries in index.items()]
    written = write_tar(path, [(key, members) for key, members in samples if members is not None])
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            if shard["name"] == name and honest:
                shard["tars"][added] = {"sha256": written.sha256, "size": written.size}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_video(folder: Path) -> tuple[str, str]:
    """A tar of train and a key in it that has a clip."""
    reader = ShardSet.open(folder).samples("train")
    place = next(place for place, sample in enumerate(reader) if "video" in sample.inputs)
    shards = [shard.name for shard, size in zip(reader.records, reader.sizes, strict=True) for _ in range(size)]
    return f"{shards[place]}.tar", reader.keys[place]


def test_good_shards_have_no_findings(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check(packed)
    assert (report.findings, report.samples, report.withheld) == ([], 14, 0)
    assert run(["check", str(packed)]) == 0
    assert "14 samples" in capsys.readouterr().out


def test_a_site_without_notes_passes(shards: Path) -> None:
    for path in shards.glob("*.privileged.tar"):
        path.unlink()
    report = check(shards)
    assert report.findings == []
    assert report.withheld >= 3


def test_one_flipped_byte_is_found(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shards / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any(line.startswith("train-000000.tar: its bytes are not") for line in named(shards))
    assert run(["check", str(shards)]) == 1
    assert "sha256" in capsys.readouterr().err


def test_a_broken_clip_is_named_by_tar_key_and_field(shards: Path) -> None:
    tar, key = with_video(shards)

    def halve(k: str, members: Members) -> Members:
        video = members["input.video.mp4"] if k == key else b""
        return members | ({"input.video.mp4": video[: len(video) // 2]} if video else {})

    change(shards, tar, halve)
    found = named(shards)
    assert len(found) == 1
    assert found[0].startswith(f"{tar}: {key}: video: ")


def test_values_that_do_not_fit_are_named_without_showing_notes(shards: Path) -> None:
    tar, key = with_video(shards)
    notes = tar.replace(".tar", ".privileged.tar")
    change(shards, tar, lambda k, m: m | {"target.emotion.json": b'{"present":true,"value":"mad"}'} if k == key else m)
    secret = b'{"present":true,"values":["my secret"]}'
    change(shards, notes, lambda k, m: m | {"privileged.turn_emotion.json": secret} if k == key else m)
    found = sorted(named(shards))
    assert len(found) == 2
    assert found[0].startswith(f"{notes}: {key}: turn_emotion: the given value is not")
    assert found[1].startswith(f"{tar}: {key}: emotion: 'mad' is not one of")


def test_a_missing_sample_a_missing_tar_and_strays_are_named(shards: Path) -> None:
    tar, key = with_video(shards)
    notes = tar.replace(".tar", ".privileged.tar")
    change(shards, notes, lambda k, m: None if k == key else m)
    (shards / "extra-000000.tar").write_bytes(b"")
    (shards / "train-000009.tar.partial").write_bytes(b"")
    found = named(shards)
    assert any(line.startswith(f"{notes}: {key}: this sample is") for line in found)
    assert any(line.startswith("extra-000000.tar: is not in the manifest") for line in found)
    assert any(line.startswith("train-000009.tar.partial: left half-written") for line in found)
    (shards / tar).unlink()
    assert f"{tar}: is missing" in named(shards)


def test_a_key_and_a_group_in_two_places(shards: Path) -> None:
    opened = ShardSet.open(shards)
    splits = [split for split in opened.splits if split != "train"]
    if not splits:
        pytest.skip("all groups of these clips went to train")
    other = opened.shards(splits[0])[0]
    tar = f"{other.name}.tar"
    key, group = opened.samples("train")[0].key, opened.samples("train")[0].meta["group"]
    source = opened.path(opened.shards("train")[0].name)
    stolen = read_members(source, key, open_index(source, opened.schema, "")[key])
    target = opened.samples(splits[0]).keys[0]
    index = open_index(shards / tar, opened.schema, "")
    samples = [(key, stolen) if k == target else (k, read_members(shards / tar, k, e)) for k, e in index.items()]
    write_tar(shards / tar, samples)
    found = named(shards)
    assert any(line.endswith("this key is in train-000000.tar, too") for line in found)
    assert any(line.endswith(f"group '{group}' is in split 'train', too") for line in found)


def test_no_manifest_is_misuse(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / MANIFEST).unlink()
    with pytest.raises(UserError, match="not complete"):
        check(shards)
    assert run(["check", str(shards)]) == 2
    assert "pride pack" in capsys.readouterr().err


def test_a_teachers_tar_that_holds_no_lesson(shards: Path) -> None:
    opened = ShardSet.open(shards)
    name = opened.shards("train")[0].name
    keys = opened.samples("train").keys[: opened.shards("train")[0].samples]
    write_tar(shards / f"{name}.teacher.tar", [(key, {"teacher.cache.safetensors": b"junk"}) for key in keys])
    found = named(shards)
    assert len(found) == len(keys)
    assert "pride teach" in found[0]
    assert file_sha256(shards / f"{name}.tar") == opened.shards("train")[0].tars[""].sha256
