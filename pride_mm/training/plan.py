"""What a run will be and take: counted, and measured on its own first batches, before it starts.

Nothing is written where the run will be. What many processes wait for each other is not in its time, nor are validation
and saving.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pride_mm.data.batch import Batch
from pride_mm.data.batches import Batches, Walk
from pride_mm.data.loader import Loader
from pride_mm.data.shards import ShardSet
from pride_mm.progress import Progress, silent
from pride_mm.schema import Frozen
from pride_mm.teacher.cache import open_cache
from pride_mm.training.adapters import merged_state
from pride_mm.training.meters import count_flops, peak_bytes
from pride_mm.training.reporting import count_tokens
from pride_mm.training.session import Session, check_spread, share
from pride_mm.training.settings import RunSettings
from pride_mm.training.sharding import layers
from pride_mm.training.step import take_gradient

MOMENTS = 2
"""That AdamW keeps of each weight that is trained, each as large as it."""


class Plan(Frozen):
    """What a run will be and take. Bytes and seconds; those of a step and of memory are of one rank.

    Attributes:
        device: what was measured on.
        parameters: by part; ``training_only`` is never exported.
        tokens: real ones of context and response, in a step of one rank.
        flops: floating-point operations of a step of one rank, a multiplication and its addition as two.
        memory: by what takes it. ``activations`` is the most that a step takes beside gradients, ``exchange`` what
            several ranks hold to talk to each other, which alone is estimated.
        checkpoint: one of them; ``checkpoints`` are kept, the best among them.
        teacher_cache: what is there already.
        seconds: a step; ``measured`` on the device, or reckoned of the speed that was given.
        waiting: seconds that a step waits for its data, of how long it takes to read them here.
        price: of a rank and hour, where it was given.
    """

    name: str
    device: str
    ranks: int
    parameters: dict[str, int]
    trained: int
    samples: int
    epochs: int
    steps: int
    tokens: float
    flops: float
    memory: dict[str, int]
    checkpoint: int
    checkpoints: int
    features: int
    teacher_cache: int
    seconds: float
    waiting: float
    measured: bool
    price: float | None = None

    @property
    def whole(self) -> int:
        """All parameters of student and training, without a teacher's."""
        return sum(count for name, count in self.parameters.items() if name != "teacher")

    @property
    def total_flops(self) -> float:
        """Of all ranks, from the first step to the last."""
        return self.flops * self.steps * self.ranks

    @property
    def hours(self) -> float:
        """From the first step to the last."""
        return (self.seconds + self.waiting) * self.steps / 3600

    @property
    def cost(self) -> float | None:
        """Of all ranks, in the price's money."""
        return None if self.price is None else self.price * self.hours * self.ranks


def make_plan(
    settings: RunSettings,
    sets: Sequence[ShardSet],
    ranks: int = 1,
    steps: int = 3,
    tflops: float | None = None,
    mfu: float = 0.4,
    price: float | None = None,
    progress: Progress = silent,
) -> Plan:
    """Build the run in this process as one of ``ranks``, and take a few of its steps.

    Args:
        settings: the run; it is measured without ``student.compile``.
        sets: its shards.
        ranks: how many processes will train.
        steps: how many are measured.
        tflops: of the GPU that it will train on, at its peak and in the run's precision; not given, time is measured.
        mfu: the part of them that is reached.
        price: of a rank and hour.
        progress: called after each step.

    Raises:
        UserError: settings, shards and caches don't fit each other.
    """
    each, apart = share(settings.data.batch_size, ranks), settings.ranks.weights == "spread" and ranks > 1
    if apart:
        check_spread(settings)
    plain = settings.model_copy(update={"student": settings.student.model_copy(update={"compile": False})})
    with tempfile.TemporaryDirectory() as folder:
        accelerator = Accelerator(cpu=not torch.accelerator.is_available())
        session = Session.build(plain, sets, Path(folder), accelerator)
        whole = session.loader.batches
        order = Batches(whole.mix, each, 0, ranks, budget=whole.budget)
        # one rank after the other, so that what is measured is not one rank's luck
        parts = Batches(whole.mix, each, budget=whole.budget)
        session.loader = Loader(session.loader.corpora, session.loader.collate, parts, 0, max_bad=settings.data.max_bad)
        total = sum(order.steps(epoch) for epoch in range(settings.optim.epochs))
        found = _measured(session, steps, progress)
        seconds = found.seconds if tflops is None else found.flops / (tflops * 1e12 * mfu)
        workers = settings.data.workers
        distillation = session.distillation
        saved = merged_state(distillation.student) or distillation.student.state_dict()
        kept = [*distillation.training_state().values()]
        kept += [] if session.average is None else session.average.tensors().values()
        caches = [open_cache(one) for one in sets] if distillation.teacher_width and session.live is None else []
        return Plan(
            name=settings.name,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else str(accelerator.device),
            ranks=ranks,
            parameters=_parameters(session),
            trained=_count(one for one in distillation.parameters() if one.requires_grad),
            samples=whole.mix.samples(0),
            epochs=settings.optim.epochs,
            steps=total,
            tokens=found.tokens,
            flops=found.flops,
            memory=_memory(session, found.peak, ranks, apart),
            checkpoint=_bytes(saved.values()) + _bytes(kept) + MOMENTS * _trained_bytes(session),
            checkpoints=settings.checkpoint.keep + 1,
            features=int(settings.data.features_gib * 2**30),
            teacher_cache=sum(tar.size for cache in caches for tar in cache.tars.values()),
            seconds=seconds,
            waiting=max(0.0, found.reading / workers - seconds) if workers else found.reading,
            measured=tflops is None,
            price=price,
        )


class _Measured(NamedTuple):
    """Of a step: tokens, operations, seconds, those of reading its batch, and the most memory beside what stays."""

    tokens: float
    flops: float
    seconds: float
    reading: float
    peak: int


def _measured(session: Session, steps: int, progress: Progress) -> _Measured:
    session.model.train()
    batches: list[Batch] = []
    tokens, flops, seconds, reading = [], [], [], []
    coming = _batches(session.loader)
    for done in range(steps):
        begun = time.perf_counter()
        batch = next(coming)
        reading.append(time.perf_counter() - begun)
        flops.append(float(count_flops(partial(_step, session, batch, done))))
        begun = time.perf_counter()
        _step(session, batch, done)
        seconds.append(time.perf_counter() - begun)
        tokens.append(count_tokens(session, batch))
        batches.append(batch)
        progress(done + 1, steps, f"{seconds[-1]:.2f} s a step")
    # a clip takes more than words do, and operations know of it
    weighed = list(zip(flops, batches, strict=True))
    if (longest := longest_batch(session.loader)) is not None:
        # counted in a step, too, so that no moment is made for the first time where memory is measured
        weighed.append((float(count_flops(partial(_step, session, longest, 0))), longest))
    _, largest = max(weighed, key=lambda one: one[0])
    peak = peak_bytes(partial(_step, session, largest, 0), session.accelerator.device)
    # the first batch opens the shards
    return _Measured(mean(tokens), mean(flops), mean(seconds), mean(reading[1:] or reading), peak)


def longest_batch(loader: Loader[Batch]) -> Batch | None:
    """The batch of the first epoch with the most tokens, padding counted; None where no lengths are known."""
    order = loader.batches
    if order.budget is None:
        return None
    walk, at, most = Walk(order, 0, 0), 0, (0, 0)
    for places in walk:
        most = max(most, (len(places) * int(order.budget.lengths[places].max()), at))
        at = walk.position
    order.go(0, most[1])
    return next(iter(loader))


def _batches(loader: Loader[Batch]) -> Iterator[Batch]:
    while True:
        yield from loader


def _step(session: Session, batch: Batch, number: int) -> None:
    """As at the start of the run, when most rows read their notes."""
    accelerator, settings = session.accelerator, session.settings
    batch = session.features.fill(batch).to(accelerator.device)
    if session.live is not None:
        batch = session.live.teach(batch, number, session.distillation.student)
    take_gradient(session.distillation, batch, 0.0, number, settings.data.at_once, accelerator.backward, session.model)
    accelerator.clip_grad_norm_(session.model.parameters(), settings.optim.clip)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _parameters(session: Session) -> dict[str, int]:
    student = session.distillation.student
    parts = {"backbone": student.backbone, "encoders": student.encoders, "heads": student.target_heads}
    counts = {name: _count(part.parameters()) for name, part in parts.items()}
    whole = _count(student.parameters())
    counts["sources"] = whole - sum(counts.values())
    counts["training_only"] = _count(session.distillation.parameters()) - whole
    if session.live is not None:
        counts["teacher"] = _count(session.live.teacher.model.parameters())
    return counts


def _memory(session: Session, peak: int, ranks: int, apart: bool) -> dict[str, int]:
    """Of one rank; with weights ``apart`` each holds a part, but frozen encoders stay whole."""
    distillation, parts = session.distillation, ranks if apart else 1
    trained = _trained_bytes(session)
    frozen = _bytes(one for one in distillation.student.encoders.parameters() if not one.requires_grad)
    weights = _bytes([*distillation.parameters(), *distillation.buffers()])
    memory = {
        "weights": (weights - frozen) // parts + frozen,
        "gradients": trained // parts,
        "moments": MOMENTS * trained // parts,
    }
    if session.average is not None:
        memory["average"] = _bytes(session.average.tensors().values()) // parts
    if session.live is not None:
        model = session.live.teacher.model
        memory["teacher"] = _bytes([*model.parameters(), *model.buffers()])
    if ranks > 1:  # DDP copies gradients to buckets
        memory["exchange"] = _gathered(session, weights - frozen) if apart else trained
    return memory | {"activations": max(0, peak - trained)}


def _gathered(session: Session, weights: int) -> int:
    """What is whole at one time of spread weights, with its gradients: all but the layers, and two of these."""
    student = session.distillation.student
    depth = student.config.get_text_config().num_hidden_layers
    each = [[*layer.parameters()] for layer in layers(student.backbone, depth)]
    held = [_bytes(some) + _bytes(one for one in some if one.requires_grad) for some in each]
    return weights + _trained_bytes(session) - sum(held) + 2 * max(held)


def _trained_bytes(session: Session) -> int:
    return _bytes(one for one in session.distillation.parameters() if one.requires_grad)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    """Those that are shared count once."""
    return sum(one.numel() for one in set(parameters))


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return sum(storages.values())
