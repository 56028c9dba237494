"""What stands on both sides of a split is found in packed shards, and nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.pack import PackSettings, pack
from pipelines.quality.splits import check_splits
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples
from pride_mm.evaluation.audit import Check
from pride_mm.media import VideoPacking
from pride_mm.schema import load_schema

Write = Callable[..., Path]


def _item(key: str, group: str, split: str, text: str, **media: Path) -> dict[str, Any]:
    inputs: dict[str, Any] = {name: {"path": str(path)} for name, path in media.items()}
    inputs["dialogue"] = [{"speaker": "speaker", "text": text}]
    targets = {"emotion": "sad", "response": f"I hear you, {key}."}
    return {"id": key, "corpus": "real", "group": group, "split": split, "inputs": inputs, "targets": targets}


@pytest.fixture(scope="module")
def said(data_dir: Path) -> list[str]:
    """First turns of real dialogues, of at least twelve words each."""
    with (data_dir / "empathetic_dialogues" / "train.jsonl").open() as file:
        turns = (json.loads(line)["turns"][0]["text"] for line in file)
        return [text for text, _ in zip((turn for turn in turns if len(turn.split()) > 11), range(14), strict=False)]


@pytest.fixture(scope="module")
def clean(said: list[str], data_dir: Path) -> list[dict[str, Any]]:
    """Nine dialogues over three splits, and two recordings of the same words."""
    splits = ["train"] * 5 + ["valid"] * 2 + ["test"] * 2
    items = [_item(f"d{n}", f"group{n}", split, said[n]) for n, split in enumerate(splits)]
    sounds = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[:2]
    actors = "Kids are talking by the door, and the dogs are sitting there."
    return [
        *items,
        _item("sound0", "actor0", "train", actors, audio=sounds[0]),
        _item("sound1", "actor1", "test", actors, audio=sounds[1]),
    ]


def _audit(folder: Path, items: list[dict[str, Any]], write_lines: Write) -> list[Check]:
    settings = PackSettings(video=VideoPacking(mode="copy"), shard_samples=4)
    lines = write_lines(folder / "items.jsonl", items)
    pack([lines], load_schema("pride"), folder / "shards", [], settings, max_bad=0)
    return check_splits(ShardSet.open(folder / "shards"), BadSamples(0))


def test_splits_apart_are_clean(tmp_path: Path, clean: list[dict[str, Any]], write_lines: Write) -> None:
    checks = _audit(tmp_path, clean, write_lines)
    assert all(check.clean for check in checks)
    assert [check.looked for check in checks] == ["11 groups", "9 dialogues", "2 samples with one"]


def test_what_is_in_two_splits_is_found_with_both_keys(
    tmp_path: Path, clean: list[dict[str, Any]], said: list[str], data_dir: Path, write_lines: Write
) -> None:
    sound = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[0]
    first, *rest = said[1].split()
    planted = [
        _item("again", "other1", "test", said[0]),
        _item("nearly", "other2", "valid", f"Well, {first.lower()} {' '.join(rest)}".replace(".", " !")),
        _item("heard", "actor9", "test", "What is said here is of no matter at all to anyone.", audio=sound),
        _item("short", "other3", "train", "I am so sad."),
        _item("brief", "other4", "test", "I am so sad."),
        # within one split, people may say the same twice
        _item("twice", "other5", "train", said[2]),
    ]
    groups, dialogues, recordings = _audit(tmp_path, clean + planted, write_lines)
    assert groups.clean
    assert [set(re.findall(r"\w+ \(\w+\)", pair)) for pair in sorted(dialogues.found)] == [
        {"d0 (train)", "again (test)"},
        {"d1 (train)", "nearly (valid)"},
    ]
    assert recordings.found == ("sound0 (train) and heard (test)",)


def test_a_group_torn_apart_after_packing_is_found(
    tmp_path: Path, clean: list[dict[str, Any]], write_lines: Write
) -> None:
    """Packing keeps groups together, so the manifest of packed shards is what has to be spoilt."""
    items = [{**item, "group": "group0"} if item["id"] in ("d0", "d1", "d2", "d3", "d4") else item for item in clean]
    _audit(tmp_path, items, write_lines)
    path = tmp_path / "shards" / "manifest.json"
    manifest = json.loads(path.read_text())
    train, test = manifest["splits"]["train"], manifest["splits"]["test"]
    moved = train["shards"].pop()
    test["shards"].append(moved)
    train["samples"] -= moved["samples"]
    test["samples"] += moved["samples"]
    path.write_text(json.dumps(manifest))
    found = check_splits(ShardSet.open(tmp_path / "shards"), BadSamples(0))[0].found
    assert len(found) == 1
    assert re.fullmatch(r"d\d \(train\) and d\d \(test\)|d\d \(test\) and d\d \(train\)", found[0])
