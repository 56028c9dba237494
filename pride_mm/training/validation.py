"""How well a student does without notes, on the validation splits: every sample counts once, over all ranks."""

from collections.abc import Iterator

import torch

from pride_mm.data.batch import Batch
from pride_mm.training.ranks import sum_over_ranks
from pride_mm.training.session import Session


@torch.no_grad()
def validate(session: Session) -> dict[str, float]:
    """Each measured value; ``total`` is what the best checkpoint is chosen by. Empty where nothing can be measured."""
    sums: dict[str, float] = {}
    device = session.accelerator.device
    for batch, counted in _share(session):
        measured = session.distillation.measure(session.features.fill(batch).to(device))
        for name, (value, count) in measured.items() if counted else ():
            sums[name] = sums.get(name, 0.0) + value * count
            sums[f"of.{name}"] = sums.get(f"of.{name}", 0.0) + count
    names = session.distillation.measured_names
    sums = sum_over_ranks(sums, device, [*names, *(f"of.{name}" for name in names)])
    means = {name: sums[name] / sums[f"of.{name}"] for name in names if sums.get(f"of.{name}")}
    if means:
        heads = session.settings.loss.at(1.0)["heads"] * means.get("heads", 0.0)
        means["total"] = means.get("cross_entropy", 0.0) + heads
    return means


def _share(session: Session) -> Iterator[tuple[Batch, bool]]:
    """Every sample of the validation splits once, in order; a batch counts on one rank.

    All ranks have as many batches, since they may share weights: the last of some is another's.
    """
    size, rank, world = (
        session.settings.data.batch_size,
        session.accelerator.process_index,
        session.accelerator.num_processes,
    )
    starts = [(reader, start) for reader in session.valid for start in range(0, len(reader), size)]
    for first in range(0, len(starts), world):
        reader, start = starts[min(first + rank, len(starts) - 1)]
        yield session.collator(reader[start : start + size]), first + rank < len(starts)
