"""Tars of notes that only a key opens: packed, read, checked, shown, rewritten, and refused where they should be."""

import hashlib
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.look.check import check
from pipelines.pack import PackSettings, pack, rejoin_notes
from pride_mm.data.manifest import read_manifest
from pride_mm.data.seal import NOTES_KEY
from pride_mm.data.shards import ShardSet
from pride_mm.data.tar import index_tar
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import SampleError, UserError
from pride_mm.media import VideoPacking
from pride_mm.schema import Role, Schema

Lines = Callable[..., Path]
SETTINGS = PackSettings(shard_samples=5, video=VideoPacking(mode="copy"))
KEY = bytes(range(32)).hex()
SECRET = "Her dog has died."


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTES_KEY, KEY)


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


@pytest.fixture
def sealed(shards: Path) -> Path:
    rejoin_notes(shards, [], encrypt=True)
    return shards


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def noted(folder: Path) -> list[Any]:
    opened = ShardSet.open(folder)
    return [sample for split in opened.splits for sample in opened.samples(split, tuple(Role), media=False)]


def test_a_sealed_set_is_the_same_each_time_and_reads_as_the_plain_one(
    sealed: Path,
    packed: Path,
    clip_items: list[dict[str, Any]],
    note_lines: list[dict[str, Any]],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
) -> None:
    items, notes = write_lines(tmp_path / "i.jsonl", clip_items), write_lines(tmp_path / "n.jsonl", note_lines)
    pack([items], schema, tmp_path / "anew", [notes], SETTINGS, encrypt=True)
    assert hashes(tmp_path / "anew") == hashes(sealed)
    assert noted(sealed) == noted(packed)
    assert any(SECRET.encode() in path.read_bytes() for path in packed.glob("*.privileged.tar"))
    assert not any(SECRET.encode() in path.read_bytes() for path in sealed.iterdir())
    assert not check(sealed).findings
    assert {n: h for n, h in hashes(sealed).items() if "privileged" not in n and n != "manifest.json"} == {
        n: h for n, h in hashes(packed).items() if "privileged" not in n and n != "manifest.json"
    }, "nothing else is touched"
    for path in (*sealed.glob("*.privileged.tar"), *packed.glob("*.privileged.tar")):
        assert not path.stat().st_mode & stat.S_IRWXO, "notes are not for others, sealed or not"


def test_what_is_not_sealed_any_more_is_what_it_was_and_a_teacher_stays(sealed: Path, packed: Path) -> None:
    teachers = [f"{shard.name}.teacher.tar" for shard in ShardSet.open(sealed).shards()]
    for teacher in teachers:
        write_tar(sealed / teacher, [])
    result = rejoin_notes(sealed, [], encrypt=False)
    assert (result.changed, result.teacher_removed) == (0, 0)
    assert result.rewritten == len(teachers)
    assert {n: h for n, h in hashes(sealed).items() if "teacher" not in n} == hashes(packed)


def test_newer_notes_stay_sealed(sealed: Path, write_lines: Lines, tmp_path: Path) -> None:
    newer = write_lines(tmp_path / "n.jsonl", [{"item": "mosi_1", "privileged": {"situation": "Her cat has died."}}])
    assert rejoin_notes(sealed, [newer]).changed == 1
    assert read_manifest(sealed).sealed
    assert "Her cat has died." in {sample.privileged.get("situation") for sample in noted(sealed)}
    assert not any(b"Her cat has died." in path.read_bytes() for path in sealed.iterdir())


def test_without_the_key_everything_but_notes_is_read(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(NOTES_KEY)
    assert run(["check", str(sealed)]) == 0
    assert "4 tars of notes are encrypted: without the key only their bytes were compared." in capfd.readouterr().out
    assert run(["show", str(sealed), "--out", str(tmp_path / "a.html")]) == 0
    assert run(["stats", str(sealed)]) == 0
    assert "not here" in capfd.readouterr().out
    name = read_manifest(sealed).sealed.key  # type: ignore[union-attr]
    assert run(["show", str(sealed), "--notes", "--out", str(tmp_path / "b.html")]) == 2
    assert f"The notes of {sealed} are encrypted: put the key '{name}' into PRIDE_NOTES_KEY" in capfd.readouterr().err
    with pytest.raises(UserError, match="are encrypted: put the key"):
        ShardSet.open(sealed).samples("train", tuple(Role))
    with pytest.raises(UserError, match="These notes cannot be kept"):
        rejoin_notes(sealed, [], encrypt=False)
    monkeypatch.setenv(NOTES_KEY, "00" * 32)
    for words in (["check"], ["stats"], ["show", "--notes"]):
        assert run([words[0], str(sealed), *words[1:]]) == 2
        assert f"were encrypted with the key '{name}'" in capfd.readouterr().err


def test_a_byte_that_was_changed_is_named_and_notes_are_never_taken_plain(
    sealed: Path, packed: Path, schema: Schema
) -> None:
    (shard, *_), known = ShardSet.open(sealed).shards(), {"meta.notes.json"}
    tar = sealed / f"{shard.name}.privileged.tar"
    from pride_mm.data.sample import tar_members

    known = tar_members(schema, [Role.PRIVILEGED])  # type: ignore[assignment]
    index = index_tar(tar, known)
    key = next(iter(index))
    data = bytearray(tar.read_bytes())
    data[index[key]["privileged.situation.txt"].offset + 20] ^= 1
    tar.write_bytes(data)
    reader = ShardSet.open(sealed).samples(shard.name.rpartition("-")[0], tuple(Role), media=False)
    with pytest.raises(SampleError, match=f"^{tar.name}: {key}: situation: the key doesn't open it"):
        reader[reader.keys.index(key)]
    found = [str(finding) for finding in check(sealed).findings]
    assert any("situation: the key doesn't open it" in finding for finding in found)
    assert any("sha256 differs" in finding for finding in found)
    # a plain tar in its place, of the same size: not believed
    plain = bytearray((packed / tar.name).read_bytes())
    tar.write_bytes(plain.ljust(len(data), b"\0"))
    tar.with_suffix(".index").unlink()
    reader = ShardSet.open(sealed).samples(shard.name.rpartition("-")[0], tuple(Role), media=False)
    with pytest.raises(SampleError, match="the key doesn't open it"):
        reader[0]


def test_it_is_said_whether_a_sealed_set_is_packed_anew_in_plain(
    sealed: Path,
    clip_items: list[dict[str, Any]],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = write_lines(tmp_path / "i.jsonl", clip_items[:2])
    with pytest.raises(UserError, match=r"are encrypted: say --encrypt, or --no-encrypt to write them plain"):
        pack([items], schema, sealed, settings=SETTINGS)
    assert read_manifest(sealed).sealed, "it is as it was"
    with pytest.raises(UserError, match=r"with --inline there are none"):
        pack([items], schema, tmp_path / "other", settings=SETTINGS, encrypt=True, inline=True)
    monkeypatch.delenv(NOTES_KEY)
    with pytest.raises(UserError, match="There is no key to encrypt notes with"):
        pack([items], schema, tmp_path / "other", settings=SETTINGS, encrypt=True)
    pack([items], schema, sealed, settings=SETTINGS, encrypt=False)
    assert read_manifest(sealed).sealed is None
