"""Whether a student learns less from the default training proxies than from the clips they were made of.

``python -m benchmarks.proxies [--data DIR] [--work DIR] [--quick]``. MOSI and RAVDESS are packed once as they are and
once as proxies, and the same small student is trained by `pride_mm.training` on both with the same seeds. It is told
nothing and hears nothing; from the picture alone it answers who speaks and with which sentiment or emotion, of other
clips of the same speakers in validation. ``proxy_loss_difference`` is the mean over the seeds of its best validation
loss on proxies less that on the clips, in nats a token, ``_error`` the standard error of that mean; below zero proxies
are better. ``blind`` is trained without clips: what it loses (``seen``) is what there is to see, so a difference that
is small beside it means something. ``clips_to_proxies`` is what the same students, trained on clips, lose by being
shown proxies in validation: no chance of training is in it. With ``--work`` a stopped run goes on where it was.
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SETS = {"clips": "copy", "proxies": "proxy", "blind": "proxy"}
"""What is trained on, and the settings it is packed with."""
SCHEMA = """
name = "faces"
version = 1
description = "What only the picture tells. Two frames, so that training a student takes a minute on a CPU."
[[field]]
name = "video"
kind = "video"
role = "input"
frames = 2
size = 96
[[field]]
name = "dialogue"
kind = "dialogue"
role = "input"
[[field]]
name = "response"
kind = "text"
role = "target"
step = "response"
title = "Response"
guideline = "Who speaks, and how?"
"""


@dataclass(frozen=True)
class Size:
    """Clips of each corpus at most, passes over them, and how many seeds."""

    clips: int
    epochs: int
    seeds: int


FULL, QUICK = Size(400, 8, 3), Size(40, 2, 1)


def data_dir(given: Path | None) -> Path:
    """Where the real data lies: as told, ``PRIDE_DATA``, or the folder ``shared/data`` beside the checkout."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = (given or Path(os.environ.get("PRIDE_DATA", beside))).resolve()
    if not (folder / "mosi_mini").is_dir():
        sys.exit(f"Needs MOSI and RAVDESS: give their folder by --data or PRIDE_DATA (looked at {folder}).")
    return folder


def _clips(data: Path, limit: int) -> Iterator[tuple[Path, str, str]]:
    """Each clip with its speaker and what it shows; of each corpus evenly spaced, so that all speakers are there."""
    for name, speaker, shown in (("mosi_mini", "video_id", "annotation"), ("ravdess", "actor", "emotion")):
        with (data / name / "manifest.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["file"].endswith(".mp4")]
        for row in rows[:: -(-len(rows) // limit)]:
            yield data / name / row["file"], row[speaker], row[shown].lower()


def _write_items(path: Path, data: Path, size: Size, blind: bool) -> None:
    """Items that ask for what only the picture tells; the fourth clip of each speaker is for validation."""
    letters: dict[str, str] = {}
    seen: Counter[str] = Counter()
    with path.open("w") as file:
        for number, (clip, speaker, shown) in enumerate(_clips(data, size.clips)):
            letter = letters.setdefault(speaker, chr(ord("A") + len(letters)))
            seen[speaker] += 1
            inputs: dict[str, Any] = {"dialogue": [{"speaker": "a", "text": "Who?"}]}
            item = {
                "id": f"clip_{number:04d}",
                "corpus": "faces",
                "group": f"clip_{number:04d}",
                "split": "train" if seen[speaker] % 4 else "valid",
                "inputs": inputs if blind else inputs | {"video": {"path": str(clip)}},
                "targets": {"response": f"{letter}, {shown}."},
            }
            file.write(json.dumps(item) + "\n")


def pack_clips(data: Path, work: Path, name: str, size: Size) -> None:
    """Write the shards; those that are there are kept."""
    from pipelines.pack import PackSettings, pack
    from pride_mm.config import find_config, load_settings
    from pride_mm.schema import load_schema

    items = work / f"{name}.jsonl"
    _write_items(items, data, size, name == "blind")
    (work / "faces.toml").write_text(SCHEMA)
    chosen = load_settings(PackSettings, find_config("pack", SETS[name]))
    pack([items], load_schema(str(work / "faces.toml")), work / name, settings=chosen, max_bad=0)


def _trained(data: Path, work: Path, name: str, seed: int, size: Size) -> float:
    """The best validation loss of one student, in nats a token."""
    from pride_mm.data.shards import ShardSet
    from pride_mm.losses.alignment import DualAlignment
    from pride_mm.training import loop
    from pride_mm.training.settings import DataSettings, OptimSettings, RunSettings, StudentSettings

    settings = RunSettings(
        name=f"{name}-{seed}",
        seed=seed,
        student=StudentSettings(backbone=str(data / "stories260k-hf"), freeze_vocabulary=False),
        data=DataSettings(batch_size=8, max_context=32, max_response=16, workers=1),
        optim=OptimSettings(lr=1e-3, fresh_lr=1e-3, epochs=size.epochs),
        loss=DualAlignment(kd=0, mmd=0, prior=0, heads=0),
    )
    return loop.train(settings, ShardSet.open(work / name), work / "runs").score


def _carried(work: Path, seed: int) -> float:
    """What a student that was trained on clips loses by being shown their proxies, in nats a token."""
    from pride_mm.data.collate import Collator, InputCollator
    from pride_mm.data.shards import ShardSet
    from pride_mm.student import load_student
    from pride_mm.training.checkpoint import student_folder
    from pride_mm.training.distillation import Distillation
    from pride_mm.training.settings import RunSettings

    student, tokenizer, _ = load_student(student_folder(work / "runs" / f"clips-{seed}"))
    losses = []
    for name in ("clips", "proxies"):
        shards = ShardSet.open(work / name)
        settings = RunSettings.model_validate({"name": name, "loss": {"prior": 0, "kd": 0, "mmd": 0}})
        module = Distillation(student, shards.schema, settings, 0).eval()
        collate = Collator(InputCollator(shards.schema, tokenizer, "", 32), 16, 16)
        samples = shards.samples("valid")
        found = [
            module.measure(collate(samples[start : start + 8]))["cross_entropy"] for start in range(0, len(samples), 8)
        ]
        losses.append(sum(loss * count for loss, count in found) / sum(count for _, count in found))
    return losses[1] - losses[0]


def _measured(data: Path, work: Path, size: Size) -> dict[str, float]:
    for name in SETS:
        pack_clips(data, work, name, size)
    losses: dict[str, list[float]] = {name: [] for name in SETS}
    print(f"validation loss, nats a token\n{'seed':6}" + "".join(f"{name:>10}" for name in SETS) + f"{'s':>8}")
    for seed in range(size.seeds):
        begin = time.perf_counter()
        for name, found in losses.items():
            found.append(_trained(data, work, name, seed, size))
        row = "".join(f"{found[-1]:10.4f}" for found in losses.values())
        print(f"{seed:<6}{row}{time.perf_counter() - begin:8.0f}", flush=True)
    differences = [proxy - clip for proxy, clip in zip(losses["proxies"], losses["clips"], strict=True)]
    carried = [_carried(work, seed) for seed in range(size.seeds)]
    ratios = {
        "proxy_loss_difference": statistics.mean(differences),
        "clips_to_proxies": statistics.mean(carried),
        "clips_loss": statistics.mean(losses["clips"]),
        "seen": statistics.mean(losses["blind"]) - statistics.mean(losses["clips"]),
    }
    if size.seeds > 1:
        ratios["proxy_loss_difference_error"] = statistics.stdev(differences) / size.seeds**0.5
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of mosi_mini, ravdess and stories260k-hf")
    parser.add_argument("--work", type=Path, help="folder that is kept; a stopped run goes on there")
    parser.add_argument("--quick", action="store_true", help="few clips, two epochs, one seed")
    given = parser.parse_args()
    data, size = data_dir(given.data), QUICK if given.quick else FULL
    with tempfile.TemporaryDirectory() as made:
        work = (given.work or Path(made)) / ("quick" if given.quick else "full")
        work.mkdir(parents=True, exist_ok=True)
        ratios = {name: round(value, 4) for name, value in _measured(data, work, size).items()}
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    versions = {"python": sys.version.split()[0], "torch": version("torch")}
    print(json.dumps({"benchmark": "proxies", "ratios": ratios, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
