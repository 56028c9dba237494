"""The newest notes into shards that are there; shards to a real S3 API; all roles in one tar."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.look.check import check
from pipelines.pack import PackSettings, pack, rejoin_notes
from pipelines.pack import notes as notes_module
from pride_mm.data.manifest import read_manifest
from pride_mm.data.shards import ShardSet
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import UserError
from pride_mm.media import VideoPacking
from pride_mm.schema import Role, Schema

Lines = Callable[..., Path]
SETTINGS = PackSettings(shard_samples=5, video=VideoPacking(mode="copy"))
NEWER = [
    {"item": "mosi_1", "privileged": {"situation": "Her cat has died.", "turn_emotion": ["sad"]}},
    {"item": "mosi_2", "privileged": {"expression": 1}, "targets": {"emotion": "angry"}},
    {"item": "elsewhere", "privileged": {"situation": "Unused."}},
]


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def test_only_the_notes_change_and_are_those_of_a_full_pack(
    shards: Path, clip_items: list[dict[str, Any]], schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    before, newer = hashes(shards), write_lines(tmp_path / "newer.jsonl", NEWER)
    teachers = [f"{shard.name}.teacher.tar" for shard in ShardSet.open(shards).shards()]
    for teacher in teachers:
        write_tar(shards / teacher, [])
    result = rejoin_notes(shards, [newer])
    assert (result.changed, result.notes_unused, result.bad.errors, result.mended) == (2, 1, [], [])
    assert result.targets == [("mosi_2", "emotion")], "a target that was packed stays, and is named"
    left = [teacher for teacher in teachers if (shards / teacher).exists()]
    assert len(left) == len(teachers) - result.rewritten == len(teachers) - result.teacher_removed
    for teacher in left:
        (shards / teacher).unlink()
        (shards / teacher).with_suffix(".index").unlink()
    after = hashes(shards)
    changed = {name for name in before if before[name] != after[name]}
    assert {name.partition(".")[2] for name in changed} == {"json", "privileged.tar", "privileged.index"}
    # what a pack from the beginning writes for the same notes, but for the target
    items = write_lines(tmp_path / "items.jsonl", clip_items)
    pack([items], schema, tmp_path / "anew", [newer], SETTINGS)
    anew = hashes(tmp_path / "anew")
    assert {n: h for n, h in anew.items() if "privileged" in n} == {n: h for n, h in after.items() if "privileged" in n}
    assert not check(shards).findings
    again = rejoin_notes(shards, [newer])
    assert (again.changed, again.rewritten) == (0, 0)


def test_notes_that_are_missing_or_out_of_order_are_named_and_mended(
    shards: Path, note_lines: list[dict[str, Any]], write_lines: Lines, tmp_path: Path
) -> None:
    before = hashes(shards)
    notes = write_lines(tmp_path / "same.jsonl", note_lines)
    (first, *_), added = ShardSet.open(shards).shards(), ".privileged.tar"
    (shards / f"{first.name}{added}").unlink()
    result = rejoin_notes(shards, [notes])
    assert len(result.mended) == 1
    assert result.mended[0].startswith(f"{first.name}{added}: is missing")
    assert hashes(shards) == before


def test_stopped_while_the_tars_change_places_it_is_brought_to_its_end(
    shards: Path, write_lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = write_lines(tmp_path / "newer.jsonl", NEWER)
    whole = Path(shutil.copytree(shards, tmp_path / "whole"))
    rejoin_notes(whole, [newer])
    real, puts = notes_module.place_of, []

    def stops_at_the_second(out: Path) -> Any:
        place = real(out)
        put = place.put

        def stopped(path: Path, name: str) -> None:
            puts.append(name)
            if len(puts) == 2:
                raise KeyboardInterrupt
            put(path, name)

        place.put = stopped  # type: ignore[method-assign]
        return place

    monkeypatch.setattr(notes_module, "place_of", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        rejoin_notes(shards, [newer])
    monkeypatch.undo()
    with pytest.raises(UserError, match="not complete"):
        ShardSet.open(shards)
    rejoin_notes(shards, [newer])
    assert hashes(shards) == hashes(whole)


def test_what_has_no_notes_of_its_own_is_refused(
    schema: Schema,
    clip_items: list[dict[str, Any]],
    write_lines: Lines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items, notes = write_lines(tmp_path / "items.jsonl", clip_items[:2]), write_lines(tmp_path / "n.jsonl", NEWER[:1])
    pack([items], schema, tmp_path / "inline", [notes], SETTINGS, inline=True)
    tars = sorted(path.name for path in (tmp_path / "inline").glob("*.tar"))
    assert tars
    assert not any("privileged" in name for name in tars)
    shards = ShardSet.open(tmp_path / "inline")
    split, place = shards.find("mosi_1")
    assert shards.samples(split, tuple(Role))[place].privileged["situation"] == "Her cat has died."  # type: ignore[index]
    assert run(["pack", "--only", "privileged", "--notes", str(notes), "--out", str(tmp_path / "inline")]) == 2
    assert "pack it anew" in capsys.readouterr().err
    assert run(["pack", "--only", "input", "--out", str(tmp_path / "inline")]) == 2
    assert run(["pack", "--only", "privileged", "--out", str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "nowhere").exists()


def test_to_s3_and_new_notes_there(
    s3: str,
    packed: Path,
    clip_items: list[dict[str, Any]],
    note_lines: list[dict[str, Any]],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
) -> None:
    import fsspec

    items, notes = write_lines(tmp_path / "i.jsonl", clip_items), write_lines(tmp_path / "n.jsonl", note_lines)
    pack([items], schema, f"{s3}/set", [notes], SETTINGS, work=tmp_path / "work")
    files, root = fsspec.core.url_to_fs(f"{s3}/set")
    there = {Path(path).name: hashlib.sha256(files.cat_file(path)).hexdigest() for path in files.ls(root, detail=False)}
    assert there == hashes(packed)
    assert not (tmp_path / "work").exists()
    assert json.loads(files.cat_file(f"{root}/manifest.json")) == read_manifest(packed).model_dump(
        mode="json", by_alias=True
    )
    newer = write_lines(tmp_path / "newer.jsonl", NEWER)
    result = rejoin_notes(f"{s3}/set", [newer], work=tmp_path / "work")
    assert result.changed == 2
    rejoin_notes(Path(shutil.copytree(packed, tmp_path / "here")), [newer])
    there = {Path(path).name: hashlib.sha256(files.cat_file(path)).hexdigest() for path in files.ls(root, detail=False)}
    assert there == hashes(tmp_path / "here")
