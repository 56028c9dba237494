"""Real clips as items, good ones and broken ones."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pride_mm.schema import Schema, load_schema


@pytest.fixture(scope="session")
def schema() -> Schema:
    return load_schema("pride")


@pytest.fixture(scope="session")
def clip_items(data_dir: Path) -> list[dict[str, Any]]:
    """Twelve MOSI clips, a long one cut, and two RAVDESS recordings whose sound is a file of its own."""
    with (data_dir / "mosi_mini" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["duration"]) < 5][::20][:12]
    items = []
    for number, row in enumerate(rows):
        media: dict[str, Any] = {"path": str(data_dir / "mosi_mini" / row["file"])}
        if number == 0:
            media |= {"start": 0.4, "end": 0.9}
        inputs = {"video": media, "audio": media, "dialogue": [{"speaker": "speaker", "text": row["text"]}]}
        items.append(item(f"mosi_{number}", row["video_id"], inputs))
    sounds = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[:2]
    for number, sound in enumerate(sounds):
        turns = [{"speaker": "actor", "text": "Kids are talking by the door.", "start": 0.5, "end": 2.0}]
        items.append(item(f"rav_{number}", f"actor{number}", {"audio": {"path": str(sound)}, "dialogue": turns}))
    return items


def item(key: str, group: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    targets = {"emotion": "sad", "response": f"I hear you, {key}."}
    return {"id": key, "corpus": "real", "group": group, "inputs": inputs, "targets": targets, **more}


@pytest.fixture(scope="session")
def write_lines() -> Callable[..., Path]:
    def write(path: Path, lines: list[Any]) -> Path:
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    return write


@pytest.fixture(scope="session")
def note_lines() -> list[dict[str, Any]]:
    privileged = {
        "situation": "Her dog has died.",
        "turn_emotion": ["sad"],
        "shift": [{"start": 0.1, "end": 0.4, "label": "shift"}],
        "expression": 2,
    }
    return [{"item": "mosi_1", "privileged": privileged, "targets": {"emotion": "angry"}}]


@pytest.fixture(scope="session")
def packed(
    tmp_path_factory: pytest.TempPathFactory,
    clip_items: list[dict[str, Any]],
    note_lines: list[dict[str, Any]],
    schema: Schema,
    write_lines: Callable[..., Path],
) -> Path:
    """The good items, packed; not to be changed."""
    from pipelines.pack import PackSettings, pack
    from pride_mm.media import VideoPacking

    work = tmp_path_factory.mktemp("packed")
    items = write_lines(work / "items.jsonl", clip_items)
    notes = write_lines(work / "privileged.jsonl", note_lines)
    settings = PackSettings(shard_samples=5, video=VideoPacking(mode="copy"))
    pack([items], schema, work / "shards", [notes], settings, max_bad=0)
    return work / "shards"
