"""Two tiny runs on real dialogues and real sound, as ``pride train`` leaves them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pride_mm.data.shards import ShardSet
from pride_mm.files import write_json
from pride_mm.schema import load_schema
from pride_mm.student import Student, save_student
from pride_mm.student.backbone import load_backbone
from pride_mm.training import checkpoint
from pride_mm.training.history import History

torch.set_num_threads(1)  # these students are too small to be split over threads
NOTE = "quokkas heard the verdict of the tribunal yesterday"


def _items(data: Path) -> list[dict[str, Any]]:
    """Twelve dialogues (test), six more (train), and two recordings without a response (test)."""
    items = []
    with (data / "empathetic_dialogues" / "test.jsonl").open() as file:
        for number, line in zip(range(18), file, strict=False):
            words = json.dumps(json.loads(line))[20:200]
            targets = {"response": f"I hear you, that is number {number}.", "emotion": "sad" if number % 3 else "happy"}
            inputs = {"dialogue": [{"speaker": "a", "text": words}]}
            items.append(
                _item(f"ed_{number}", f"group{number // 2}", inputs, targets, "test" if number < 12 else "train")
            )
    for number, sound in enumerate(sorted((data / "ravdess" / "audio16k").glob("*.flac"))[:2]):
        inputs = {"audio": {"path": str(sound)}, "dialogue": [{"speaker": "actor", "text": "Dogs are at the door."}]}
        items.append(_item(f"rav_{number}", f"actor{number}", inputs, {"emotion": "angry"}, "test"))
    return items


def _item(key: str, group: str, inputs: Any, targets: Any, split: str) -> dict[str, Any]:
    return {"id": key, "corpus": "real", "group": group, "split": split, "inputs": inputs, "targets": targets}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    from pipelines.pack import PackSettings, pack
    from pride_mm.media import VideoPacking

    work = tmp_path_factory.mktemp("shards")
    items = _items(data_dir)
    notes = [{"item": item["id"], "privileged": {"situation": NOTE, "expression": 1}} for item in items[:6]]
    for name, lines in (("items", items), ("privileged", notes)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = PackSettings(video=VideoPacking(mode="copy"))
    pack([work / "items.jsonl"], load_schema("pride"), work / "out", [work / "privileged.jsonl"], settings, max_bad=0)
    return work / "out"


def make_run(folder: Path, small_model: Path, seed: int) -> Path:
    backbone, tokenizer = load_backbone(small_model)
    torch.manual_seed(seed)
    student = Student.from_backbone(backbone, load_schema("pride"), layers=2)
    student.config.max_context = 64
    with torch.no_grad():
        student.attention.gate.fill_(1.0)
    folder.mkdir(parents=True)
    write_json(folder / "settings.json", {"name": folder.name, "seed": seed, "data": {"max_response": 12}})
    history = History(folder / "metrics.jsonl")
    for step in range(1, 5):
        history.add(step, "train", {"total": 5 / step, "cross_entropy": 4 / step}, 1e-3, 0.1, 500.0)
    history.add(4, "valid", {"total": 1.5}, 1e-3, 0.1, 500.0)
    writer = checkpoint.Writer(folder, 1, lambda place, state: save_student(place, student, tokenizer, state))
    state = checkpoint.State(step=4, data={}, score=1.5, finished=True)
    writer.save(state, student.state_dict(), {"queue": torch.zeros(2)})
    writer.close()
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> list[Path]:
    work = tmp_path_factory.mktemp("runs")
    return [make_run(work / name, small_model, seed) for seed, name in enumerate(("one", "two<b>"))]


@pytest.fixture(scope="session")
def opened(shards: Path) -> ShardSet:
    return ShardSet.open(shards)
