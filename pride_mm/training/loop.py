"""The training loop: one process on one device; stopped anywhere, it goes on.

A checkpoint is written at the end of each epoch; running the same command again continues from the
last one. The best checkpoint is chosen by the validation loss *without* notes.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from pride_mm.data.batch import Batch
from pride_mm.data.batches import Batches, Budget
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.corpora import measure_lengths
from pride_mm.data.loader import Loader
from pride_mm.data.mix import Mix
from pride_mm.data.shards import ShardReader, ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.files import write_json
from pride_mm.progress import Progress, silent
from pride_mm.schema import Schema
from pride_mm.student import EncoderSettings, Student
from pride_mm.student.backbone import load_backbone
from pride_mm.training import checkpoint
from pride_mm.training.adapters import add_adapters
from pride_mm.training.distillation import Distillation
from pride_mm.training.features import FeatureCache
from pride_mm.training.history import History
from pride_mm.training.material import Material
from pride_mm.training.settings import RunSettings
from pride_mm.training.step import take_gradient


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its steps, the best validation loss without notes, and what could not be read."""

    run: Path
    steps: int
    score: float
    resumed: bool
    bad: BadSamples


def train(
    settings: RunSettings, shards: ShardSet | Sequence[ShardSet], out: Path, progress: Progress = silent
) -> Outcome:
    """Train one student.

    Args:
        settings: the run.
        shards: with the tars that the run's losses need (notes, teacher's cache); several are mixed by
            ``data.weights``.
        out: the folder of runs; the run is ``out/NAME``.
        progress: called after each step.

    Raises:
        UserError: settings of another run under this name, or a tar or cache that is missing or does not fit.
    """
    run, sets = out / settings.name, [shards] if isinstance(shards, ShardSet) else list(shards)
    accelerator = Accelerator(gradient_accumulation_steps=1)
    torch.manual_seed(settings.seed)
    session = _Session(settings, sets, run, accelerator)
    resumed = session.resume()
    while session.order.epoch < settings.optim.epochs:
        session.epoch(progress)
    return Outcome(run, session.step, checkpoint.read_state(checkpoint.best(run)).score, resumed, session.loader.bad)


def _claim(run: Path, settings: RunSettings, schema: Schema, mix: Mix) -> None:
    """Write what the run is made of, or see that it is the same as last time."""
    path = run / "settings.json"
    mine = {**settings.model_dump(mode="json"), "schema": schema.sha256, "order": mix.describe()}
    before = json.loads(path.read_text()) if path.is_file() else mine
    if before != mine:
        differ = ", ".join(sorted(name for name in {*before, *mine} if before.get(name) != mine.get(name)))
        raise UserError(
            f"{run} holds a run with other settings, another schema or other shards (these differ: {differ}): give "
            f"this one another name (--set name=...), or delete the folder."
        )
    write_json(path, mine)


class _Session:
    """Everything alive while a run trains."""

    def __init__(self, settings: RunSettings, sets: Sequence[ShardSet], run: Path, accelerator: Accelerator) -> None:
        self.settings, self.run, self.accelerator = settings, run, accelerator
        model, self.tokenizer = load_backbone(settings.student.backbone)
        material = Material.gather(settings, sets, self.tokenizer)
        schema = material.schema
        student = Student.from_backbone(
            model,
            schema,
            settings.student.layers,
            _encoders(settings, schema),
            settings.student.latents,
            settings.student.fusion,
            settings.student.attended_layers,
        )
        student.config.system, student.config.max_context = settings.student.system, settings.data.max_context
        del model
        add_adapters(student, settings.student)
        if settings.student.recompute:
            student.backbone.activation_checkpointing_enable({"use_reentrant": False})
        _choose_kernel(student, settings.student.attention_kernel)
        if settings.student.compile:
            _compile(student)
        if settings.student.freeze_vocabulary:
            student.get_input_embeddings().requires_grad_(False)
            student.get_output_embeddings().requires_grad_(False)
        self.distillation = Distillation(
            student,
            schema,
            settings,
            material.cache.features if material.cache else 0,
            material.head.to(accelerator.device) if material.head else None,
            min(len(self.tokenizer), student.head.ids),
        )
        self.valid = material.valid()
        self.collator = Collator(
            InputCollator(schema, self.tokenizer, settings.student.system, settings.data.max_context),
            settings.data.max_response,
            settings.data.max_note,
            material.translation,
        )
        corpora, data = material.train(), settings.data
        mix = Mix(corpora.described, settings.seed)
        _claim(run, settings, schema, mix)
        budget = None
        if data.tokens is not None:
            cached, of = run / "lengths.safetensors", self.collator.sha256 + material.taught_sha256
            lengths = measure_lengths(material.train(media=False), self.collator.length, cached, of, data.workers)
            budget = Budget(data.tokens, lengths)
        rank, world = accelerator.process_index, accelerator.num_processes
        self.order = Batches(mix, data.batch_size, rank, world, budget=budget)
        self.loader = Loader(corpora, self.collator, self.order, data.workers, max_bad=data.max_bad)
        self.step = 0
        self.total = sum(self.order.steps(epoch) for epoch in range(settings.optim.epochs))
        self.optimizer = torch.optim.AdamW(
            self.distillation.groups(settings.optim), weight_decay=settings.optim.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.model, self.optimizer = accelerator.prepare(self.distillation, self.optimizer)
        self.features = FeatureCache(run / "features", student, int(data.features_gib * 2**30))
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
        self.step = state.step
        self.order.go(state.epoch, 0)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate, last_epoch=state.step - 1)
        self.history.rewind(state.step)
        return True

    def epoch(self, progress: Progress) -> None:
        """One pass over the training split, then validation and a checkpoint."""
        self.model.train()
        begun = time.perf_counter()
        for batch in self.loader:
            waited = time.perf_counter() - begun
            terms = self._train_step(self.features.fill(batch).to(self.accelerator.device))
            self.step += 1
            seconds = time.perf_counter() - begun
            self.history.add(
                self.step, "train", terms | {"data_wait": waited}, float(self.scheduler.get_last_lr()[0]), seconds
            )
            progress(self.step, self.total, f"loss {terms['total']:.3f}  {waited / seconds:.0%} waiting for data")
            begun = time.perf_counter()
        self._close_epoch()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        progress, every = self.step / max(1, self.total), self.settings.optim.norms_every
        norms = self.distillation.gradient_norms(batch, progress, self.step) if every and self.step % every == 0 else {}
        losses = take_gradient(
            self.distillation,
            batch,
            progress,
            self.step,
            self.settings.data.at_once,
            self.accelerator.backward,
            self.model,
        )
        if not torch.isfinite(losses["total"]):
            raise UserError(
                f"The loss is {losses['total'].item()} at step {self.step + 1} (samples {', '.join(batch.keys)}): "
                f"lower optim.lr, or look at these samples with 'pride show'."
            )
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.optim.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        terms = {name: float(value) for name, value in losses.items()}
        return terms | {"gradient_norm": float(norm)} | {f"gradient_norm.{name}": one for name, one in norms.items()}

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
        for batch in _whole(self.valid, self.collator, self.settings.data.batch_size):
            for name, (value, count) in self.distillation.measure(
                self.features.fill(batch).to(self.accelerator.device)
            ).items():
                sums[name] = sums.get(name, 0.0) + value * count
                counts[name] = counts.get(name, 0.0) + count
        means = {name: sums[name] / counts[name] for name in sums if counts[name]}
        if means:
            means["total"] = means.get("cross_entropy", 0.0) + self.settings.loss.at(1.0)["heads"] * means.get(
                "heads", 0.0
            )
        return means


def _whole(readers: Sequence[ShardReader], collator: Collator, size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    for reader in readers:
        for start in range(0, len(reader), size):
            yield collator(reader[start : start + size])


def _choose_kernel(student: Student, kernel: str) -> None:
    try:
        student.backbone.set_attn_implementation(kernel)
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"student.attention_kernel={kernel} is not to be had here ({reason}): leave it out for sdpa."
        ) from None


def _compile(student: Student) -> None:
    """Once for all lengths and batch sizes; names of parameters stay as they are."""
    compilers = os.environ.get("CXX", "c++"), "g++", "clang++", "cl"
    if not any(shutil.which(compiler) for compiler in compilers):
        raise UserError("student.compile wants a C++ compiler, and none is found here: install g++, or leave it out.")
    # the norm of each term's gradient goes back through one graph several times
    torch._functorch.config.donated_buffer = False
    student.backbone.base_model.compile(dynamic=True)


def _encoders(settings: RunSettings, schema: Schema) -> dict[str, EncoderSettings]:
    chosen = settings.student.encoders
    return {field.name: chosen[field.kind].plain for field in schema.inputs if field.kind in chosen}
