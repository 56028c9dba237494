"""A training step of dual alignment beside plain fine-tuning.

``python -m benchmarks.step [--quick] [--data DIR]``. Real dialogues of EmpatheticDialogues with their situations as
notes, taught by SmolLM2-135M; students are six of its layers. ``fine-tuning`` is ``transformers``' own loss of the
same backbone on the same tokens; the others are ours: ``ours, plain`` with cross-entropy alone, ``top-k`` with reverse
KL to the cache and MMD, ``privileged`` with the pass that reads notes, too. Contenders take turns on the same batch;
each step is forward, backward and AdamW. Medians of CPU seconds count, which neighbours don't lengthen.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

BACKBONE, LAYERS = "smollm2-135m", 6
TERMS: dict[str, dict[str, float]] = {
    "ours, plain": {"kd": 0.0, "mmd": 0.0, "prior": 0.0, "privileged": 0.0},
    "top-k": {"kd": 0.5, "mmd": 0.1, "prior": 0.0, "privileged": 0.0},
    "privileged": {"kd": 0.5, "mmd": 0.1, "prior": 0.1, "privileged": 0.25},
}


@dataclass(frozen=True)
class Size:
    """Batches, samples in one, and how often each is taken."""

    batches: int
    rows: int
    rounds: int


FULL, QUICK = Size(3, 8, 2), Size(1, 8, 1)


def data_dir(given: Path | None) -> Path:
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = (given or Path(os.environ.get("PRIDE_DATA", beside))).resolve() / "empathetic_dialogues"
    if not folder.is_dir():
        sys.exit(f"Needs EmpatheticDialogues: give its parent folder by --data or PRIDE_DATA (looked at {folder}).")
    return folder


def taught_batches(data: Path, work: Path, size: Size) -> tuple[Any, list[Any]]:
    """The taught set of shards, and batches of it."""
    from pipelines.cli import run
    from pride_mm.data.collate import Collator, InputCollator
    from pride_mm.data.shards import ShardSet
    from pride_mm.schema import Role
    from pride_mm.student.backbone import load_backbone

    wanted = size.batches * size.rows
    run(["ingest", "empathetic_dialogues", str(data / "train.jsonl"), "--out", str(work), "--limit", str(wanted)])
    notes = work / "privileged.jsonl"
    with notes.open("w") as file:
        for line in (work / "annotations.jsonl").read_text().splitlines():
            annotation = json.loads(line)
            note = {"item": annotation["item"], "privileged": {"situation": annotation["values"]["situation"]}}
            file.write(json.dumps(note) + "\n")
    schema = ["--schema", "empathetic_dialogues"]
    run(["pack", str(work / "items.jsonl"), "--notes", str(notes), "--out", str(work / "shards"), *schema])
    run(["teach", str(work / "shards"), "--model", BACKBONE])
    shards = ShardSet.open(work / "shards")
    _, tokenizer = load_backbone(BACKBONE)
    collate = Collator(InputCollator(shards.schema, tokenizer, "Answer with warmth.", 128), 48, 48)
    samples = shards.samples("train", (Role.INPUT, Role.TARGET, Role.PRIVILEGED), teacher=True)[:wanted]
    return shards, [collate(samples[start : start + size.rows]) for start in range(0, wanted, size.rows)]


def _trainer(model: torch.nn.Module, take: Callable[[Any], None], settings: Any) -> Callable[[Any], None]:
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)

    def step(batch: Any) -> None:
        take(batch)
        torch.nn.utils.clip_grad_norm_(wanted, settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _contenders(shards: Any) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """What takes one training step, by name."""
    from pride_mm.losses.alignment import DualAlignment
    from pride_mm.student import Student
    from pride_mm.student.backbone import load_backbone
    from pride_mm.training.distillation import Distillation
    from pride_mm.training.settings import OptimSettings, RunSettings
    from pride_mm.training.step import take_gradient

    def student() -> Student:
        made = Student.from_backbone(load_backbone(BACKBONE)[0], shards.schema, LAYERS)
        made.get_input_embeddings().requires_grad_(False)
        made.get_output_embeddings().requires_grad_(False)
        return made

    optim, plain = OptimSettings(), student().backbone.train()
    names = shards.schema.dialogue.name, shards.schema.response.name

    def fine_tune(batch: Any) -> None:
        context, response = batch.inputs[names[0]], batch.targets[names[1]]
        ids, mask = torch.cat([context.values, response.values], 1), torch.cat([context.mask, response.mask], 1)
        labels = ids.masked_fill(~mask, -100)
        labels[:, : context.values.shape[1]] = -100
        plain(input_ids=ids, attention_mask=mask.long(), labels=labels).loss.backward()

    yield "fine-tuning", _trainer(plain, fine_tune, optim)
    for name, terms in TERMS.items():
        settings = RunSettings(name="bench", loss=DualAlignment(**terms))
        module = Distillation(student(), shards.schema, settings, 576).train()
        yield name, _trainer(module, lambda batch, module=module: take_gradient(module, batch, 0.3, 7), optim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one batch, one round")
    parser.add_argument("--data", type=Path, help="the folder above EmpatheticDialogues; default: PRIDE_DATA")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    from pride_mm.memory import keep_freed_memory

    keep_freed_memory()
    with tempfile.TemporaryDirectory() as work:
        shards, batches = taught_batches(data_dir(given.data), Path(work), size)
        steps = dict(_contenders(shards))
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(size.rounds + 1):
            for batch in batches:
                for name, step in steps.items():
                    begun = time.process_time()
                    step(batch)
                    if turn:  # the first round warms up
                        seconds[name].append(time.process_time() - begun)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    for name, median in medians.items():
        print(f"{name:12}{median:8.3f} s a step")
    ratios = {
        "topk_vs_fine_tuning": medians["top-k"] / medians["fine-tuning"],
        "privileged_vs_fine_tuning": medians["privileged"] / medians["fine-tuning"],
        "topk_vs_our_plain": medians["top-k"] / medians["ours, plain"],
        "privileged_vs_our_plain": medians["privileged"] / medians["ours, plain"],
    }
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in ("torch", "transformers")}
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    print(json.dumps({"benchmark": "step", "ratios": rounded, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
