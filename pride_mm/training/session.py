"""What a run is made of: built once of its settings, its shards and the backbone."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from pride_mm.data.batch import Batch
from pride_mm.data.batches import Batches, Budget
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.corpora import measure_lengths
from pride_mm.data.loader import Loader
from pride_mm.data.mix import Mix
from pride_mm.data.shards import ShardReader, ShardSet
from pride_mm.errors import UserError
from pride_mm.files import write_json
from pride_mm.schema import Schema
from pride_mm.student import EncoderSettings, Student
from pride_mm.student.backbone import load_backbone
from pride_mm.training.adapters import add_adapters
from pride_mm.training.average import Average
from pride_mm.training.distillation import Distillation
from pride_mm.training.features import FeatureCache
from pride_mm.training.live import LiveTeacher
from pride_mm.training.material import Material
from pride_mm.training.optimizer import build_optimizer, rate
from pride_mm.training.settings import RunSettings

_MAY_DIFFER = {"checkpoint", "ranks", "answers", "trackers"}
"""Settings that change nothing in what a run becomes."""


@dataclass
class Session:
    """Everything alive while a run trains, on this rank.

    Attributes:
        distillation: the objective with the student in it.
        model: the same as it is called in training, wrapped for its ranks.
        loader: batches of the train split, of this rank, and where in them it is.
        valid: the validation splits.
        total: steps of the whole run.
        live: the teacher, where it is asked in training.
    """

    settings: RunSettings
    accelerator: Accelerator
    tokenizer: Any
    distillation: Distillation
    model: Any
    collator: Collator
    loader: Loader[Batch]
    valid: list[ShardReader]
    optimizer: Any
    scheduler: torch.optim.lr_scheduler.LambdaLR
    features: FeatureCache
    total: int
    average: Average | None = None
    live: LiveTeacher | None = None

    @classmethod
    def build(cls, settings: RunSettings, sets: Sequence[ShardSet], run: Path, accelerator: Accelerator) -> "Session":
        """Raises UserError where settings, shards, caches and what is in ``run`` don't fit each other."""
        torch.manual_seed(settings.seed)
        backbone, tokenizer = load_backbone(settings.student.backbone)
        material = Material.gather(settings, sets, tokenizer)
        student, data = _student(backbone, settings, material.schema), settings.data
        del backbone
        collator = Collator(
            InputCollator(material.schema, tokenizer, settings.student.system, data.max_context),
            data.max_response,
            data.max_note,
            material.translation,
        )
        live, reading = None, collator
        head, width = material.head, material.cache.features if material.cache else 0
        if settings.teacher is not None:
            live = LiveTeacher.load(settings.teacher, material.schema, collator, settings.seed, accelerator.device)
            head, width = live.teacher.head, live.teacher.width
            reading = replace(collator, ask=live.asking)
        distillation = Distillation(
            student,
            material.schema,
            settings,
            width,
            head.to(accelerator.device) if head else None,
            min(len(tokenizer), student.head.ids),
        )
        media = bool(student.encoders)
        corpora = material.train(media)
        mix = Mix(corpora.described, settings.seed)
        with accelerator.main_process_first():
            _claim(run, settings, material.schema, mix, live)
            budget = _budget(settings, material, collator, run)
        rank, world = accelerator.process_index, accelerator.num_processes
        order = Batches(mix, share(data.batch_size, world), rank, world, budget=budget)
        total = sum(order.steps(epoch) for epoch in range(settings.optim.epochs))
        spread = settings.ranks.weights == "spread" and world > 1
        if spread:
            check_spread(settings)
            distillation.spread(accelerator.device)
        plain = build_optimizer(distillation, settings.optim)
        optimizer = accelerator.prepare(plain)
        model = distillation if spread else accelerator.prepare(distillation)
        return cls(
            settings=settings,
            accelerator=accelerator,
            tokenizer=tokenizer,
            distillation=distillation,
            model=model,
            collator=collator,
            loader=Loader(corpora, reading, order, data.workers, max_bad=data.max_bad),
            valid=material.valid(media),
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.LambdaLR(plain, partial(rate, settings.optim, total)),
            features=FeatureCache(run / "features", student, int(data.features_gib * 2**30 / world)),
            total=total,
            average=None if settings.optim.average is None else Average(student, settings.optim.average),
            live=live,
        )

    @contextmanager
    def averaged(self) -> Iterator[dict[str, Tensor]]:
        """While the block lasts, the student has its average, where there is one; gives what it has otherwise."""
        if self.average is None:
            yield {}
            return
        with self.average.worn():
            yield self.average.tensors()

    def set_rate(self, step: int) -> None:
        """The learning rates after so many steps."""
        scheduler = self.scheduler
        scheduler.last_epoch = step
        rates = [base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
        for group, lr in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        scheduler._last_lr = rates


def _student(backbone: Any, settings: RunSettings, schema: Schema) -> Student:
    chosen = settings.student
    student = Student.from_backbone(
        backbone,
        schema,
        chosen.layers,
        _encoders(settings, schema),
        chosen.latents,
        chosen.fusion,
        chosen.attended_layers,
    )
    student.config.system, student.config.max_context = chosen.system, settings.data.max_context
    add_adapters(student, chosen)
    if chosen.recompute:
        student.backbone.activation_checkpointing_enable({"use_reentrant": False})
    _choose_kernel(student, chosen.attention_kernel)
    if chosen.compile:
        _compile(student)
    if chosen.freeze_vocabulary:
        student.get_input_embeddings().requires_grad_(False)
        student.get_output_embeddings().requires_grad_(False)
    return student


def _encoders(settings: RunSettings, schema: Schema) -> dict[str, EncoderSettings]:
    chosen = settings.student.encoders
    return {field.name: chosen[field.kind].plain for field in schema.inputs if field.kind in chosen}


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


def _claim(run: Path, settings: RunSettings, schema: Schema, mix: Mix, live: LiveTeacher | None) -> None:
    """Write what the run is made of, or see that it is the same as last time; how it is saved and shared may differ."""
    path = run / "settings.json"
    mine = {**settings.model_dump(mode="json"), "schema": schema.sha256, "order": mix.describe()}
    if live is not None:
        mine |= {"teacher_sha256": live.teacher.weights_sha256(), "prompt_sha256": live.prompt.sha256}
    before = json.loads(path.read_text()) if path.is_file() else mine
    differ = {name for name in {*before, *mine} if before.get(name) != mine.get(name)} - _MAY_DIFFER
    if differ:
        raise UserError(
            f"{run} holds a run with other settings, another schema or other shards (these differ: "
            f"{', '.join(sorted(differ))}): give this one another name (--set name=...), or delete the folder."
        )
    if before != mine or not path.is_file():
        write_json(path, mine)


def check_spread(settings: RunSettings) -> None:
    """Raises UserError where settings don't go with spread weights."""
    wrong = {
        "data.at_once": settings.data.at_once is not None,
        "student.compile": settings.student.compile,
        "teacher.on_policy": settings.teacher is not None and settings.teacher.on_policy > 0,
    }
    if any(wrong.values()):
        raise UserError(
            f"ranks.weights=spread goes without {' and '.join(name for name, given in wrong.items() if given)}: leave "
            "that out, or take ranks.weights=copied."
        )


def share(batch_size: int, world: int) -> int:
    """Each rank's part of a step, so that a run is the same on any number of ranks."""
    each, left = divmod(batch_size, world)
    if left:
        raise UserError(
            f"data.batch_size={batch_size} is shared by {world} ranks and is no multiple of that: give one that is, "
            f"such as {(each + 1) * world}."
        )
    return each


def _budget(settings: RunSettings, material: Material, collator: Collator, run: Path) -> Budget | None:
    data = settings.data
    if data.tokens is None:
        return None
    cached, of = run / "lengths.safetensors", collator.sha256 + material.taught_sha256
    return Budget(data.tokens, measure_lengths(material.train(media=False), collator.length, cached, of, data.workers))
