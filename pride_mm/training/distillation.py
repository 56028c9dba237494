"""One training step's losses: the student, and what only training needs beside it.

The student itself knows nothing privileged; the privileged path, the projection and the queue live
here and are never exported. The teacher is not here at all: its words come with the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from pride_mm.data.batch import Batch, Padded, Teaching
from pride_mm.head import Head
from pride_mm.losses.alignment import NOTE_TERMS, POOLED, TERMS, correct, count_targets, feature_projection, heads_loss
from pride_mm.losses.divergence import Divergence
from pride_mm.losses.fused import FusedLoss, fused_objective
from pride_mm.losses.mmd import mmd, pooled_states
from pride_mm.losses.pairing import cka_loss, cosine_loss
from pride_mm.losses.ranks import across_ranks
from pride_mm.losses.teachers import SparseTeacher, StatesTeacher, Teacher
from pride_mm.precision import wide
from pride_mm.schema import Schema
from pride_mm.student import Sources, Student, StudentOutput
from pride_mm.student.sources import Read
from pride_mm.training.adapters import adapter_tensors, restore_student
from pride_mm.training.chances import Chances
from pride_mm.training.privileged import PrivilegedPath
from pride_mm.training.queue import FeatureQueue
from pride_mm.training.ranks import sum_over_ranks, world
from pride_mm.training.settings import RunSettings
from pride_mm.training.sharding import alike, is_spread, layers, reached, spread

QUEUE = 64
"""Pooled responses that an MMD estimate remembers."""
NOTED = "noted."


@dataclass(frozen=True)
class Whole:
    """The batch of a step, of which what is passed is a part.

    Attributes:
        counts: what each mean is taken over, as of ``Distillation.counts``; with ranks, the mean of their counts, since
            data parallelism takes the mean of their gradients.
        pull: where responses are compared with each other, the gradient of those terms for this part's pooled rows
            ``(R, D)`` (GradCache, arXiv 2101.06983); None where this part is the whole.
    """

    counts: Mapping[str, float]
    pull: Tensor | None = None


class Distillation(nn.Module):
    """The objective of DESIGN section 6 on one batch.

    Args:
        student: trained here, saved and shipped by itself.
        schema: names the privileged fields.
        settings: the weights of the terms.
        teacher_width: width of the teacher's features; 0 where there is no teacher.
        teacher_head: makes logits of the teacher's states, where these are what was cached.
        vocabulary: how many ids the tokenizer has; what a head is padded with is in no softmax. None is all.
    """

    def __init__(
        self,
        student: Student,
        schema: Schema,
        settings: RunSettings,
        teacher_width: int,
        teacher_head: Head | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        self.student, self.schema, self.loss, self.seed = student, schema, settings.loss, settings.seed
        self.precision, self.is_spread = settings.optim.precision, False
        self.unused: dict[str, float] = {}
        self.teacher_width, self.teacher_head, self.vocabulary = teacher_width, teacher_head, vocabulary
        width = student.config.width
        self.path = None
        if self.loss.uses(*NOTE_TERMS):
            self.path = PrivilegedPath(
                tuple(field.name for field in schema.privileged),
                width,
                student.config.latents,
                field_dropout=settings.privileged.field_dropout,
                row_dropout=settings.privileged.row_dropout,
                seed=settings.seed,
                place=settings.privileged.place_in(student.config.fusion),
            )
        projected = self.loss.uses("mmd", "cosine") and teacher_width > 0
        self.projection = feature_projection(width, teacher_width) if projected else None
        self.queue = FeatureQueue(QUEUE, width, teacher_width) if teacher_width and self.loss.uses("mmd") else None

    def spread(self, device: torch.device) -> None:
        """Spread all weights over the ranks; from now on each rank makes as many passes as any other.

        Frozen encoders stay whole: what they make of media is computed, and kept, outside of any pass.
        """
        self.to(device).is_spread = True
        depth = self.student.config.get_text_config().num_hidden_layers
        frozen = {parameter for parameter in self.student.encoders.parameters() if not parameter.requires_grad}
        spread(self, layers(self.student.backbone, depth), frozen, device)
        register_fsdp_forward_method(self, "measure")

    def forward(
        self, batch: Batch, progress: float, step: int = 0, whole: Whole | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What to take the gradient of, and for the log the terms by name and their weighted ``total``.

        Args:
            batch: what goes through the student at once.
            progress: the part of training that is done, on which weights may depend.
            step: the number of this step, on which chances depend.
            whole: the batch of which this is a part; the parts' terms and gradients then add up to the whole's.
        """
        parts, terms = self._parts(batch, progress, step, whole)
        total = sum(parts.values(), torch.zeros((), device=batch.inputs[self.schema.dialogue.name].values.device))
        if self.is_spread:  # where a rank has no clip, what sees has a gradient all the same: ranks add theirs up
            used = reached(total)
            trained = [one for one in self.named_parameters() if one[1].requires_grad and not is_spread(one[1])]
            self.unused = {name: float(id(one) not in used) for name, one in trained}
            total = total + 0.0 * sum(one.flatten()[:1].sum() for name, one in trained if self.unused[name])
        # a pull has the gradient of its terms and not their value, which is the whole's
        value = total - parts["pull"] if "pull" in parts else total
        return total, {name: term.detach() for name, term in {"total": value, **terms}.items()}

    def forget_unused(self) -> None:
        """What no rank has used has no gradient instead of zeros, as without ranks: the optimiser lets it be."""
        parameters = dict(self.named_parameters())
        for name, ranks in sum_over_ranks(self.unused, next(self.parameters()).device).items():
            if ranks == world():
                parameters[name].grad = None

    def _parts(
        self, batch: Batch, progress: float, step: int, whole: Whole | None = None, apart: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What adds up to the total, weighted; and each term's value.

        Cross-entropy and divergence are one part, unless they are wanted ``apart``.
        """
        weights, response, chances = self.loss.at(progress), self._response(batch), self._chances(batch, step)
        counts = self.counts(batch, progress, step) if whole is None else whole.counts
        deploy = self._respond(batch.inputs, response)
        fused = self._fused(batch, response, deploy, weights["ce"], weights["kd"], counts)
        terms = {"cross_entropy": fused.cross_entropy, self.loss.divergence: fused.divergence}
        parts = {"fused": fused.total}
        if apart:
            parts = {
                "ce": self._fused(batch, response, deploy, weights["ce"], 0.0, counts).total,
                "kd": self._fused(batch, response, deploy, 0.0, weights["kd"], counts).total,
            }
        if deploy.logits:
            terms["heads"] = heads_loss(deploy.logits, batch.targets, counts, "heads.")
        if whole is None or whole.pull is None:
            terms |= self.feature_terms(*self._pooled(batch, deploy), remember=self.training and not apart)
        else:
            parts["pull"] = (self._pooled(batch, deploy)[0] * whole.pull).sum()
        parts |= {name: weights[name] * term for name, term in terms.items() if name in weights}
        if self.path is not None and batch.privileged is not None:
            added, noted = self._privileged(batch, response, deploy, progress, chances, counts)
            parts, terms = parts | added, terms | noted
        return parts, terms

    def counts(self, batch: Batch, progress: float, step: int) -> dict[str, float]:
        """What each mean is taken over; the counts of parts add up to those of the whole."""
        counts = self._counts(batch)
        if self.path is not None and batch.privileged is not None:
            chances = self._chances(batch, step)
            present = torch.cat(list(self.path.shown(batch.privileged, chances).values()), 1).any(1)
            counts["prior"] = float(present.sum())
            part = batch.rows(self.path.choose(present, progress, chances))
            counts |= self._counts(part, NOTED)
            counts["consistency"] = float(self._response(part).mask.sum())
        return counts

    def _counts(self, batch: Batch, kind: str = "") -> dict[str, float]:
        """Of one pass: tokens of its responses, and rows that have each target."""
        expert, distilled = self._masks(batch, self._response(batch))
        heads = count_targets(self.student.target_heads, batch.targets)
        counts = {"ce": float(expert.sum()), "kd": float(distilled.sum())}
        counts |= {f"heads.{name}": count for name, count in heads.items()}
        return {f"{kind}{name}": count for name, count in counts.items()}

    def _masks(self, batch: Batch, response: Padded) -> tuple[Tensor, Tensor]:
        """The tokens that are an expert's word, and those that the teacher has spoken on."""
        if batch.teaching is None:
            return response.mask, torch.zeros_like(response.mask)
        return response.mask & ~batch.teaching.written[:, None], response.mask & batch.teaching.mask

    def _chances(self, batch: Batch, step: int) -> Chances | None:
        return Chances(self.seed, step, batch.keys) if self.training else None

    def gradient_norms(self, batch: Batch, progress: float, step: int) -> dict[str, float]:
        """How strongly each weighted term pulls at what is trained: the norm of its gradient, by the term's name.

        Costs a step, and leaves gradients and the queue as they are.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        parts, _ = self._parts(batch, progress, step, apart=True)
        norms = {}
        for name, part in parts.items():
            if part.requires_grad:
                pulls = torch.autograd.grad(part, trained, retain_graph=True, allow_unused=True)
                norms[name] = float(torch.stack([pull.norm() for pull in pulls if pull is not None]).norm())
        return norms

    def _respond(
        self, inputs: Mapping[str, Padded], response: Padded, read: Read | None = None, sources: Sources | None = None
    ) -> StudentOutput:
        """The student in the precision of the run; nothing of the losses is within."""
        device = response.values.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.student.respond(inputs, response, read, sources)

    def _response(self, batch: Batch) -> Padded:
        return batch.targets[self.schema.response.name]

    def _fused(
        self,
        batch: Batch,
        response: Padded,
        output: StudentOutput,
        ce_weight: float,
        kd_weight: float,
        counts: Mapping[str, float],
        kind: str = "",
    ) -> FusedLoss:
        expert, distilled = self._masks(batch, response)
        teaching = batch.teaching if kd_weight > 0 else None
        return fused_objective(
            output.hidden.flatten(0, 1),
            replace(self.student.head, vocabulary=self.vocabulary),
            response.values.flatten(),
            expert.flatten(),
            self._teacher(teaching) if teaching is not None else None,
            distilled.flatten(),
            self.loss.chosen,
            ce_weight,
            kd_weight,
            self.loss.temperature,
            counts=(counts[f"{kind}ce"], counts[f"{kind}kd"]),
        )

    def _teacher(self, teaching: Teaching) -> Teacher:
        if teaching.states is None:
            return SparseTeacher.from_teaching(teaching)
        assert self.teacher_head is not None, "states are of use with the head that they were made for"
        return StatesTeacher(teaching.states.flatten(0, 1), self.teacher_head.to(teaching.states.device))

    @property
    def pools(self) -> bool:
        """Whether a term compares whole responses with each other, so that parts of a batch don't stand alone."""
        return self.teacher_width > 0 and self.loss.uses(*POOLED)

    def pooled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A feature vector of each response that the teacher has spoken on: the student's, and the teacher's."""
        return self._pooled(batch, self._respond(batch.inputs, self._response(batch)))

    def _pooled(self, batch: Batch, deploy: StudentOutput) -> tuple[Tensor, Tensor]:
        response, teaching = self._response(batch), batch.teaching
        if teaching is None:
            return deploy.hidden[:0, 0].to(wide(deploy.hidden)), deploy.hidden.new_zeros(0, self.teacher_width)
        rows = teaching.mask.any(1)
        return pooled_states(deploy.hidden, response.mask)[rows], teaching.features[rows]

    def feature_terms(self, mine: Tensor, theirs: Tensor, remember: bool) -> dict[str, Tensor]:
        """What compares pooled features with the teacher's, over the rows of all ranks."""
        if not self.pools:
            return {}
        mine, theirs = across_ranks(mine), across_ranks(theirs)
        names = [name for name in POOLED if self.loss.uses(name)]
        if not len(mine):
            return dict.fromkeys(names, mine.sum())
        terms = {}
        if self.queue is not None:
            assert self.projection is not None
            students, teachers = self.queue.join(mine, theirs)
            if remember:
                self.queue.remember(mine, theirs)
            terms["mmd"] = mmd(self.projection(students), teachers)
        if "cka" in names:
            terms["cka"] = cka_loss(mine, theirs)
        if "cosine" in names:
            assert self.projection is not None
            terms["cosine"] = cosine_loss(self.projection(mine), theirs)
        return terms

    def _privileged(
        self,
        batch: Batch,
        response: Padded,
        deploy: StudentOutput,
        progress: float,
        chances: Chances | None,
        counts: Mapping[str, float],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weighted parts of the notes' terms, and the terms."""
        assert self.path is not None
        assert batch.privileged is not None
        weights = self.loss.at(progress)
        latents = self.path.encode(batch.privileged, self.student.get_input_embeddings(), chances)
        prior = self.path.prior_loss(deploy.sources.predicted, latents, counts["prior"])
        parts, terms = {"prior": weights["prior"] * prior}, {"prior": prior}
        rows = self.path.choose(latents.present, progress, chances)
        reads = len(rows) > 0
        if weights["privileged"] + weights["consistency"] > 0 and (reads or self.is_spread):
            if not reads:
                return parts | {"privileged": 0.0 * self._respond(batch.inputs, response).hidden.sum()}, terms
            # only the rows that read are passed again; the others would repeat the deploy pass
            part = batch.rows(rows)
            read, sources = self.path.join(latents.rows(rows), deploy.sources.rows(rows))
            noted = self._respond(part.inputs, self._response(part), read, sources)
            fused = self._fused(part, self._response(part), noted, 1.0, weights["kd"], counts, NOTED)
            parts["privileged"] = weights["privileged"] * fused.total
            terms["privileged"] = fused.cross_entropy
            terms[f"privileged_{self.loss.divergence}"] = fused.divergence
            if noted.logits:
                terms["privileged_heads"] = heads_loss(noted.logits, part.targets, counts, f"{NOTED}heads.")
                parts["privileged"] += weights["privileged"] * weights["heads"] * terms["privileged_heads"]
            if weights["consistency"] > 0:
                terms["consistency"] = self._consistency(part, deploy.hidden[rows], noted.hidden, counts)
                parts["consistency"] = weights["consistency"] * terms["consistency"]
        return parts, terms

    def _consistency(self, part: Batch, deploy: Tensor, noted: Tensor, counts: Mapping[str, float]) -> Tensor:
        """KL of what the student says without notes from what it says with them, which it learns nothing by."""
        response, head = self._response(part), replace(self.student.head, vocabulary=self.vocabulary)
        return fused_objective(
            deploy.flatten(0, 1),
            head,
            response.values.flatten(),
            torch.zeros_like(response.mask).flatten(),
            StatesTeacher(noted.detach().flatten(0, 1), head),
            response.mask.flatten(),
            Divergence(name="forward_kl"),
            ce_weight=0.0,
            counts=(0.0, counts["consistency"]),
        ).total

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Validation without notes: each value with the number of things it is a mean over.

        ``privileged`` is the cross-entropy with the notes, where there are some, and ``gap`` what they are worth:
        that without them less that with them. Nothing is ever chosen by either.
        """
        response = self._response(batch)
        deploy = self._respond(batch.inputs, response)
        counts = self._counts(batch)
        tokens = counts["ce"]
        entropy = float(self._fused(batch, response, deploy, 1.0, 0.0, counts).cross_entropy)
        found = {"cross_entropy": (entropy, tokens)}
        for name, logits in deploy.logits.items():
            right = correct(logits, batch.targets[name])
            known = float((right >= 0).sum())
            found[f"accuracy.{name}"] = (float((right == 1).sum()) / max(known, 1.0), known)
        if deploy.logits:
            found["heads"] = (float(heads_loss(deploy.logits, batch.targets, counts, "heads.")), float(len(batch)))
        if self.path is not None and batch.privileged is not None:
            latents = self.path.encode(batch.privileged, self.student.get_input_embeddings())
            read, sources = self.path.join(latents, deploy.sources)
            noted = self._respond(batch.inputs, response, read, sources)
            with_notes = float(self._fused(batch, response, noted, 1.0, 0.0, counts).cross_entropy)
            found |= {"privileged": (with_notes, tokens), "gap": (entropy - with_notes, tokens)}
        return found

    @property
    def term_names(self) -> list[str]:
        """What ``forward`` and ``gradient_norms`` may name, on any batch."""
        divergence = self.loss.divergence
        noted = [f"privileged_{divergence}", "privileged_heads"]
        return list(dict.fromkeys(["total", "cross_entropy", divergence, *noted, *TERMS]))

    @property
    def measured_names(self) -> list[str]:
        """What ``measure`` may name."""
        heads = (f"accuracy.{name}" for name in self.student.target_heads)
        return ["cross_entropy", *heads, "heads", "privileged", "gap"]

    def training_state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the student's own folder."""
        mine = {name: value for name, value in self.state_dict().items() if not name.startswith("student.")}
        return adapter_tensors(self.student) | {f"training.{name}": value for name, value in mine.items()}

    def load_training_state(self, tensors: Mapping[str, Tensor], student: Path) -> None:
        """Restore the student from its folder and the rest from ``training_state``."""
        restore_student(self.student, load_file(student / "model.safetensors"), tensors)
        state = {
            name.removeprefix("training."): value for name, value in tensors.items() if name.startswith("training.")
        }
        mine = self.state_dict()
        self.load_state_dict({name: alike(value, mine[name]) for name, value in state.items()}, strict=False)
