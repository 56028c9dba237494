"""The training loop: one process on one device; stopped anywhere, it goes on.

A checkpoint is written at the end of each epoch; running the same command again continues from the
last one. The best checkpoint is chosen by the validation loss *without* notes.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from pride_mm.data.batch import Batch
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import Sample, ShardReader, ShardSet
from pride_mm.data.stream import Order
from pride_mm.errors import UserError
from pride_mm.files import write_json
from pride_mm.progress import Progress, silent
from pride_mm.schema import Kind, Role
from pride_mm.student import EncoderSettings, Student
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.cache import open_cache
from pride_mm.training import checkpoint
from pride_mm.training.distillation import Distillation
from pride_mm.training.history import History
from pride_mm.training.settings import RunSettings


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its steps, and the best validation loss without notes."""

    run: Path
    steps: int
    score: float
    resumed: bool


def train(settings: RunSettings, shards: ShardSet, out: Path, progress: Progress = silent) -> Outcome:
    """Train one student.

    Args:
        settings: the run.
        shards: with the tars that the run's losses need (notes, teacher's cache).
        out: the folder of runs; the run is ``out/NAME``.
        progress: called after each step.

    Raises:
        UserError: settings of another run under this name, or a tar or cache that is missing or does not fit.
    """
    run = out / settings.name
    _claim(run, settings, shards)
    accelerator = Accelerator(gradient_accumulation_steps=1)
    torch.manual_seed(settings.seed)
    session = _Session(settings, shards, run, accelerator)
    resumed = session.resume()
    while session.order.epoch < settings.optim.epochs:
        session.epoch(progress)
    return Outcome(run, session.step, checkpoint.read_state(checkpoint.best(run)).score, resumed)


def _claim(run: Path, settings: RunSettings, shards: ShardSet) -> None:
    """Write the run's settings, or see that they are the same as last time."""
    path = run / "settings.json"
    mine = {**settings.model_dump(mode="json"), "schema": shards.schema.sha256}
    if path.is_file() and json.loads(path.read_text()) != mine:
        raise UserError(
            f"{run} holds a run with other settings or another schema: give this one another name (--set name=...), "
            f"or delete the folder."
        )
    write_json(path, mine)


class _Session:
    """Everything alive while a run trains."""

    def __init__(self, settings: RunSettings, shards: ShardSet, run: Path, accelerator: Accelerator) -> None:
        self.settings, self.run, self.accelerator = settings, run, accelerator
        model, self.tokenizer = load_backbone(settings.student.backbone)
        student = Student.from_backbone(
            model, shards.schema, settings.student.layers, _encoders(settings, shards), settings.student.latents
        )
        student.config.system, student.config.max_context = settings.student.system, settings.data.max_context
        del model
        if settings.student.freeze_vocabulary:
            student.get_input_embeddings().requires_grad_(False)
            student.get_output_embeddings().requires_grad_(False)
        loss = settings.loss
        teaching = loss.kd > 0 or loss.mmd > 0
        cache = open_cache(shards, self.tokenizer, settings.data.max_response) if teaching else None
        reads_notes = loss.prior > 0 or loss.privileged > 0
        self.distillation = Distillation(student, shards.schema, settings, cache.features if cache else 0)
        roles = (Role.INPUT, Role.TARGET, *([Role.PRIVILEGED] if reads_notes else []))
        self.reader = shards.samples("train", roles, teacher=teaching)
        self.valid = shards.samples("valid", roles) if "valid" in shards.splits else None
        self.collator = Collator(
            InputCollator(shards.schema, self.tokenizer, settings.student.system, settings.data.max_context),
            settings.data.max_response,
            settings.data.max_note,
        )
        self.order = Order(
            len(self.reader),
            settings.data.batch_size,
            settings.seed,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.step = 0
        self.total = len(self.order) * settings.optim.epochs
        self.optimizer = torch.optim.AdamW(
            self.distillation.groups(settings.optim), weight_decay=settings.optim.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.model, self.optimizer = accelerator.prepare(self.distillation, self.optimizer)
        self.history = History(run / "metrics.jsonl")

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a tenth."""
        warmup = min(self.settings.optim.warmup, max(1, self.total // 10))
        if step < warmup:
            return (step + 1) / warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total - warmup)))

    def resume(self) -> bool:
        """Go on from the newest checkpoint, if there is one."""
        found = checkpoint.checkpoints(self.run)
        if not found:
            self.history.rewind(0)
            return False
        state, tensors = checkpoint.read_state(found[-1]), checkpoint.load_tensors(found[-1])
        self.distillation.load_training_state(tensors, found[-1] / "student")
        checkpoint.restore_optimizer(self.optimizer, tensors)
        torch.set_rng_state(tensors["random"])
        self.step, self.order.epoch = state.step, state.epoch
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate, last_epoch=state.step - 1)
        self.history.rewind(state.step)
        return True

    def epoch(self, progress: Progress) -> None:
        """One pass over the training split, then validation and a checkpoint."""
        self.model.train()
        loader: DataLoader[Sample] = DataLoader(
            cast(Dataset[Sample], self.reader),
            batch_sampler=self.order,
            collate_fn=self.collator,
            num_workers=self.settings.data.workers,
        )
        batches = iter(loader)
        for _ in range(len(self.order) - self.order.position):
            begun = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - begun
            terms = self._train_step(batch.to(self.accelerator.device))
            self.order.consumed()
            self.step += 1
            seconds = time.perf_counter() - begun
            self.history.add(
                self.step, "train", terms | {"data_wait": waited}, float(self.scheduler.get_last_lr()[0]), seconds
            )
            progress(self.step, self.total, f"loss {terms['total']:.3f}  {waited / seconds:.0%} waiting for data")
        self._close_epoch()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        losses = self.model(batch, progress=self.step / max(1, self.total))
        total = losses["total"]
        if not torch.isfinite(total):
            raise UserError(
                f"The loss is {total.item()} at step {self.step + 1} (samples {', '.join(batch.keys)}): "
                f"lower optim.lr, or look at these samples with 'pride show'."
            )
        self.accelerator.backward(total)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.optim.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {name: float(value.detach()) for name, value in losses.items()} | {"gradient_norm": float(norm)}

    def _close_epoch(self) -> None:
        begun = time.perf_counter()
        terms = self.validate()
        self.history.add(self.step, "valid", terms, float(self.scheduler.get_last_lr()[0]), time.perf_counter() - begun)
        if not self.accelerator.is_main_process:
            return
        state = checkpoint.State(
            step=self.step,
            epoch=self.order.epoch,
            # without a validation split the newest is the best
            score=terms.get("total", -float(self.step)),
            finished=self.order.epoch >= self.settings.optim.epochs,
        )
        tensors = self.distillation.training_state() | checkpoint.optimizer_tensors(self.optimizer)
        tensors["random"] = torch.get_rng_state()
        checkpoint.save(self.run, state, self.distillation.student, self.tokenizer, tensors)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Losses without notes on the validation split, weighted by what they count; ``total`` chooses the best."""
        self.model.eval()
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for batch in _whole(self.valid, self.collator, self.settings.data.batch_size) if self.valid else ():
            for name, (value, count) in self.distillation.measure(batch.to(self.accelerator.device)).items():
                sums[name] = sums.get(name, 0.0) + value * count
                counts[name] = counts.get(name, 0.0) + count
        means = {name: sums[name] / counts[name] for name in sums if counts[name]}
        if means:
            means["total"] = means.get("cross_entropy", 0.0) + self.settings.loss.heads * means.get("heads", 0.0)
        return means


def _whole(reader: ShardReader, collator: Collator, size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    for start in range(0, len(reader), size):
        yield collator(reader[start : start + size])


def _encoders(settings: RunSettings, shards: ShardSet) -> dict[str, EncoderSettings]:
    chosen = {Kind.VIDEO: settings.student.video, Kind.AUDIO: settings.student.audio}
    return {field.name: chosen[field.kind] for field in shards.schema.inputs if field.kind in chosen}
