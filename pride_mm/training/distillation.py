"""One training step's losses: the student, and what only training needs beside it.

The student itself knows nothing privileged; the privileged path, the projection and the queue live
here and are never exported. The teacher is not here at all: its words come with the batch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pride_mm.data.batch import Batch, Padded
from pride_mm.losses.alignment import correct, feature_projection, heads_loss
from pride_mm.losses.fused import FusedLoss, fused_objective
from pride_mm.losses.mmd import mmd, pooled_states
from pride_mm.losses.reverse_kl import SparseTeacher
from pride_mm.schema import Schema
from pride_mm.student import Student, StudentOutput
from pride_mm.training.privileged import PrivilegedPath
from pride_mm.training.queue import FeatureQueue
from pride_mm.training.settings import OptimSettings, RunSettings

QUEUE = 64
"""Pooled responses that an MMD estimate remembers."""


class Distillation(nn.Module):
    """The objective of DESIGN section 6 on one batch.

    Args:
        student: trained here, saved and shipped by itself.
        schema: names the privileged fields.
        settings: the weights of the terms.
        teacher_width: width of the teacher's features; 0 where there is no teacher.
    """

    def __init__(self, student: Student, schema: Schema, settings: RunSettings, teacher_width: int) -> None:
        super().__init__()
        self.student, self.schema, self.weights = student, schema, settings.loss
        width = student.config.width
        self.path = None
        if self.weights.prior > 0 or self.weights.privileged > 0:
            self.path = PrivilegedPath(
                tuple(field.name for field in schema.privileged),
                width,
                student.config.latents,
                field_dropout=settings.privileged.field_dropout,
                row_dropout=settings.privileged.row_dropout,
                seed=settings.seed,
            )
        aligned = self.weights.mmd > 0 and teacher_width > 0
        self.projection = feature_projection(width, teacher_width) if aligned else None
        self.queue = FeatureQueue(QUEUE, width, teacher_width) if aligned else None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The terms by name and their weighted ``total``; ``progress`` is the part of training that is done."""
        response = self._response(batch)
        deploy = self.student.respond(batch.inputs, response)
        fused = self._fused(batch, response, deploy, self.weights.ce, self.weights.kd)
        total = fused.total
        terms = {"cross_entropy": fused.cross_entropy, "reverse_kl": fused.reverse_kl}
        if deploy.logits:
            terms["heads"] = heads_loss(deploy.logits, batch.targets)
            total = total + self.weights.heads * terms["heads"]
        if self.projection is not None:
            terms["mmd"] = self._mmd(batch, response, deploy)
            total = total + self.weights.mmd * terms["mmd"]
        if self.path is not None and batch.privileged is not None:
            added, noted = self._privileged(batch, response, deploy, progress)
            total, terms = total + added, terms | noted
        return {"total": total} | {name: value.detach() for name, value in terms.items()}

    def _response(self, batch: Batch) -> Padded:
        return batch.targets[self.schema.response.name]

    def _fused(
        self, batch: Batch, response: Padded, output: StudentOutput, ce_weight: float, kd_weight: float
    ) -> FusedLoss:
        teaching, mask = batch.teaching, response.mask
        expert = mask if teaching is None else mask & ~teaching.written[:, None]
        distilled = teaching if kd_weight > 0 else None
        return fused_objective(
            output.hidden.flatten(0, 1),
            self.student.output_weight,
            response.values.flatten(),
            expert.flatten(),
            SparseTeacher.from_teaching(distilled) if distilled is not None else None,
            (distilled.mask & mask).flatten() if distilled is not None else None,
            ce_weight,
            kd_weight,
            self.weights.temperature,
        )

    def _mmd(self, batch: Batch, response: Padded, deploy: StudentOutput) -> Tensor:
        assert self.projection is not None
        assert self.queue is not None
        if batch.teaching is None:
            return deploy.hidden[:0].sum()
        rows = batch.teaching.mask.any(1)
        mine, theirs = pooled_states(deploy.hidden, response.mask)[rows], batch.teaching.features[rows]
        students, teachers = self.queue.join(mine, theirs)
        if self.training:
            self.queue.remember(mine, theirs)
        return mmd(self.projection(students), teachers)

    def _privileged(
        self, batch: Batch, response: Padded, deploy: StudentOutput, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.path is not None
        assert batch.privileged is not None
        latents = self.path.encode(batch.privileged, self.student.get_input_embeddings())
        prior = self.path.prior_loss(deploy.sources.predicted, latents)
        total, terms = self.weights.prior * prior, {"prior": prior}
        rows = self.path.choose(latents, progress)
        if self.weights.privileged > 0 and len(rows):
            # only the rows that read are passed again; the others would repeat the deploy pass
            part = batch.rows(rows)
            noted = self.student.respond(
                part.inputs, self._response(part), self.path.read(latents.rows(rows)), deploy.sources.rows(rows)
            )
            fused = self._fused(part, self._response(part), noted, 1.0, self.weights.kd)
            total = total + self.weights.privileged * fused.total
            terms["privileged"] = fused.cross_entropy
        return total, terms

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Validation without notes: each value with the number of things it is a mean over.

        ``privileged`` is the cross-entropy with the notes, where there are some: a measure of the gap, by
        which nothing is ever chosen.
        """
        response = self._response(batch)
        deploy = self.student.respond(batch.inputs, response)
        tokens = float(response.mask.sum())
        entropy = float(self._fused(batch, response, deploy, 1.0, 0.0).cross_entropy)
        found = {"cross_entropy": (entropy, tokens)}
        for name, logits in deploy.logits.items():
            right = correct(logits, batch.targets[name])
            known = float((right >= 0).sum())
            found[f"accuracy.{name}"] = (float((right == 1).sum()) / max(known, 1.0), known)
        if deploy.logits:
            found["heads"] = (float(heads_loss(deploy.logits, batch.targets)), float(len(batch)))
        if self.path is not None and batch.privileged is not None:
            latents = self.path.encode(batch.privileged, self.student.get_input_embeddings())
            noted = self.student.respond(batch.inputs, response, self.path.read(latents), deploy.sources)
            found["privileged"] = (float(self._fused(batch, response, noted, 1.0, 0.0).cross_entropy), tokens)
        return found

    def groups(self, optim: OptimSettings) -> list[dict[str, Any]]:
        """Parameter groups: the backbone at ``lr``, what starts from nothing at ``fresh_lr``."""
        backbone = {id(parameter) for parameter in self.student.backbone.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in trained if id(p) in backbone], "lr": optim.lr},
            {"params": [p for p in trained if id(p) not in backbone], "lr": optim.fresh_lr},
        ]

    def training_state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the student's own folder."""
        state = {
            f"training.{name}": value for name, value in self.state_dict().items() if not name.startswith("student.")
        }
        return state | ({"path_random": self.path.generator.get_state()} if self.path is not None else {})

    def load_training_state(self, tensors: Mapping[str, Tensor], student: Path) -> None:
        """Restore the student from its folder and the rest from ``training_state``."""
        from safetensors.torch import load_model

        load_model(self.student, student / "model.safetensors")
        state = {
            name.removeprefix("training."): value for name, value in tensors.items() if name.startswith("training.")
        }
        self.load_state_dict(state, strict=False)
        if self.path is not None:
            self.path.generator.set_state(tensors["path_random"])
