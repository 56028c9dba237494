"""The training loop, on one process or on as many as torchrun or ``accelerate launch`` start.

Stopped anywhere, it goes on from its newest checkpoint when it is run again: what is by chance in a step depends on
the seed and the step alone, the data on their position. The best checkpoint is chosen by the validation loss
*without* notes.
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration
from torch.profiler import record_function

from pride_mm.data.batch import Batch
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples
from pride_mm.processes import join_processes
from pride_mm.progress import Progress, silent
from pride_mm.student import save_student
from pride_mm.training import checkpoint
from pride_mm.training.adapters import merged_state
from pride_mm.training.answers import ANSWERS, Answers
from pride_mm.training.checkpoint import UNKNOWN, State
from pride_mm.training.finite import set_aside
from pride_mm.training.reporting import Report, count_tokens
from pride_mm.training.session import Session
from pride_mm.training.settings import RunSettings
from pride_mm.training.sharding import whole
from pride_mm.training.step import take_gradient
from pride_mm.training.stopping import Stop
from pride_mm.training.tracing import Tracer
from pride_mm.training.trackers import flat, known_trackers
from pride_mm.training.validation import validate


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its steps, the best validation loss without notes, and what could not be read."""

    run: Path
    steps: int
    score: float
    resumed: bool
    bad: BadSamples
    finished: bool = True


def train(
    settings: RunSettings,
    shards: ShardSet | Sequence[ShardSet],
    out: Path,
    progress: Progress = silent,
    profiled: bool = False,
) -> Outcome:
    """Train one student, until it is done or a scheduler asks for the machine (SIGTERM, SIGUSR1).

    Args:
        settings: the run.
        shards: with the tars that the run's losses need (notes, teacher's cache); several are mixed by
            ``data.weights``.
        out: the folder of runs; the run is ``out/NAME``.
        progress: called after each step.
        profiled: look at a few steps, and leave in the run's folder where their time went.

    Raises:
        UserError: settings of another run under this name, a tar or cache that is missing or does not fit, a loss that
            is no number, or a checkpoint that cannot be written.
    """
    run, sets = out / settings.name, [shards] if isinstance(shards, ShardSet) else list(shards)
    # a rank may have no row with notes, or no clip
    wrapper = DistributedDataParallelKwargs(find_unused_parameters=True)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        join_processes("nccl" if torch.cuda.is_available() else "gloo")
    # Accelerate believes in ranks without a GPU only where that is said
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[wrapper],
        log_with=known_trackers(settings.trackers),
        project_config=ProjectConfiguration(str(run), logging_dir=str(out / "tensorboard")),
    )
    session = Session.build(settings, sets, run, accelerator)
    accelerator.init_trackers(settings.name, flat(settings))
    loop = _Loop(session, run, Tracer(run if profiled and accelerator.is_main_process else None))
    resumed = loop.resume()
    with Stop() as stop, loop.tracer.looking():
        try:
            loop.go(stop, progress)
        finally:
            loop.writer.close()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    score = checkpoint.read_state(checkpoint.best(run)).score
    return Outcome(run, loop.step, score, resumed, session.loader.bad, loop.finished)


class _Loop:
    """A session in motion."""

    def __init__(self, session: Session, run: Path, tracer: Tracer) -> None:
        self.session, self.run, self.settings, self.tracer = session, run, session.settings, tracer
        self.device, self.main = session.accelerator.device, session.accelerator.is_main_process
        self.report = Report(session, run)
        self.step, self.best, self.waited, self.finished = 0, UNKNOWN, 0, False
        self.saved = time.monotonic()
        self.answers = Answers(run / ANSWERS, session.valid, self.settings.answers, session.collator)

        def student(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
            save_student(folder, session.distillation.student, session.tokenizer, tensors)

        self.writer = checkpoint.Writer(run, self.settings.checkpoint.keep, student)

    def resume(self) -> bool:
        """Go on from the newest checkpoint that is whole, if there is one."""
        with self.session.accelerator.main_process_first():
            found = checkpoint.newest_whole(self.run)
        self.report.rewind(0 if found is None else checkpoint.read_state(found).step)
        if found is None:
            return False
        state, tensors = checkpoint.read_state(found), checkpoint.load_tensors(found)
        self.session.distillation.load_training_state(tensors, found / "student")
        if self.session.average is not None:
            self.session.average.restore(tensors)
        checkpoint.restore_optimizer(self.session.optimizer, tensors)
        self.session.set_rate(state.step)
        self.session.loader.load_state_dict(state.data)
        self.step, self.waited, self.finished = state.step, state.waited, state.finished
        self.best = min((checkpoint.read_state(one).score for one in checkpoint.checkpoints(self.run)), default=UNKNOWN)
        return True

    def go(self, stop: Stop, progress: Progress) -> None:
        """Train until the last epoch has ended, nothing gets better any more, or it is asked to stop."""
        order = self.session.loader.batches
        asked = False
        while not self.finished and not asked:
            epoch = order.epoch
            asked = self._train_epoch(stop, progress)
            if order.epoch == epoch:
                self._save(UNKNOWN)
                return
            with self.session.averaged():
                score = self._validated()
            self.waited = 0 if score < self.best else self.waited + 1
            self.best = min(score, self.best)
            patience = self.settings.optim.patience
            self.finished = order.epoch >= self.settings.optim.epochs or (
                patience is not None and self.waited >= patience
            )
            self._save(score)

    def _train_epoch(self, stop: Stop, progress: Progress) -> bool:
        """The rest of an epoch, or less where it is asked to stop; returns whether it was."""
        session = self.session
        session.model.train()
        epoch, begun = session.loader.batches.epoch, time.perf_counter()
        for batch in session.loader:
            waited = time.perf_counter() - begun
            terms = self._train_step(session.features.fill(batch).to(self.device))
            self.step += 1
            asked = {"asked": float(stop.asked), "due": float(self.main and self._due())}
            terms |= {"data_wait": waited, "tokens": count_tokens(session, batch)}
            means, asked = self.report.agree(terms, asked)
            said = self.report.note(self.step, "train", means, time.perf_counter() - begun)
            progress(self.step, session.total, said)
            self.tracer.step()
            if asked["asked"] or session.loader.batches.epoch != epoch:
                return bool(asked["asked"])
            if asked["due"]:
                self._save(UNKNOWN)
            begun = time.perf_counter()
        return False

    def _train_step(self, batch: Batch) -> dict[str, float]:
        session, optim = self.session, self.settings.optim
        accelerator, distillation = session.accelerator, session.distillation
        # chance is the step's and the rank's, wherever the run was stopped before
        torch.manual_seed(hash((self.settings.seed, self.step, accelerator.process_index)))
        progress = self.step / max(1, session.total)
        if session.live is not None:
            batch = session.live.teach(batch, self.step, distillation.student)
        norms = {}
        if optim.norms_every and not distillation.is_spread and self.step % optim.norms_every == 0:
            norms = distillation.gradient_norms(batch, progress, self.step)
        losses = take_gradient(
            distillation,
            batch,
            progress,
            self.step,
            self.settings.data.at_once,
            accelerator.backward,
            session.model,
            lambda: accelerator.no_sync(session.model),
        )
        if distillation.is_spread:
            distillation.forget_unused()
        with record_function("pride.update"):
            norm = float(whole({"": accelerator.clip_grad_norm_(session.model.parameters(), optim.clip)})[""])
            if finite := math.isfinite(norm):
                session.optimizer.step()
                if session.average is not None:
                    session.average.update(self.step)
        if not finite:
            set_aside(self.run, self.step + 1, batch, losses, optim.not_finite == "stop")
        session.scheduler.step()
        session.optimizer.zero_grad(set_to_none=True)
        terms = {name: float(value) for name, value in losses.items()}
        return terms | {"gradient_norm": norm} | {f"gradient_norm.{name}": one for name, one in norms.items()}

    def _due(self) -> bool:
        chosen = self.settings.checkpoint
        by_steps = chosen.steps is not None and self.step % chosen.steps == 0
        return by_steps or time.monotonic() - self.saved >= 60 * chosen.minutes

    @record_function("pride.save")
    def _save(self, score: float) -> None:
        self.saved = time.monotonic()
        distillation, data = self.session.distillation, self.session.loader.state_dict()
        if not (self.main or distillation.is_spread):
            return
        state = State(self.step, data, score, self.waited, self.finished)
        with self.session.averaged() as raw:
            student = whole(merged_state(distillation.student) or distillation.student.state_dict())
            tensors = whole(distillation.training_state() | checkpoint.optimizer_tensors(self.session.optimizer) | raw)
            if self.main:
                self.writer.save(state, student, tensors)

    @record_function("pride.validate")
    def _validated(self) -> float:
        """The loss without notes on the validation splits; where there are none, the newest is the best."""
        session, begun = self.session, time.perf_counter()
        session.model.eval()
        means = validate(session)
        if not session.distillation.is_spread and self.main:
            self.answers.write(session.distillation.student, self.step)
        if not means:
            return -float(self.step)
        self.report.note(self.step, "valid", means, time.perf_counter() - begun)
        return means["total"]
