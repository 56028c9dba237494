"""One step's gradient, the same for any split of its batch into parts and over ranks.

Every mean of the objective is taken over the whole batch of the step: the counts are summed over parts and ranks
before anything is computed. Terms that compare responses with each other (MMD, CKA) want them all at once; a first
pass without gradients gives their features, whose gradients the second pass takes back into the student
(GradCache, arXiv 2101.06983). That first pass is spared where the batch is in one part.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function

from pride_mm.data.batch import Batch
from pride_mm.training.distillation import Distillation, Whole
from pride_mm.training.ranks import sum_over_ranks, world

N = TypeVar("N", float, Tensor)


def take_gradient(
    distillation: Distillation,
    batch: Batch,
    progress: float,
    step: int,
    at_once: int | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
    model: Callable[..., tuple[Tensor, Mapping[str, Tensor]]] | None = None,
    apart: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Tensor]:
    """Add the gradient of a batch to that of the parameters.

    Args:
        distillation: the objective.
        batch: this rank's rows of the step.
        progress, step: as ``Distillation.forward`` takes them.
        at_once: rows that go through the student at a time; None is all. It changes memory and time, not the result.
        backward: what takes the gradient of a part's loss.
        model: what is called in place of ``distillation``, such as a wrapper of it.
        apart: around all parts but the last, whose gradients the wrapper needn't exchange yet.

    Returns:
        The terms' values: of the rank's rows, over the counts of all ranks, so that their mean is the whole's.
    """
    model = distillation if model is None else model
    device = next(distillation.parameters()).device
    parts = [batch] if at_once is None else batch.split(at_once)
    counts = _added(distillation.counts(part, progress, step) for part in parts)
    # the names come from the settings alone, and are the same on each rank
    counts = {name: count / world() for name, count in sum_over_ranks(counts, device).items()}
    pulls: Sequence[Tensor | None] = [None] * len(parts)
    found: list[Mapping[str, Tensor]] = []
    if len(parts) > 1 and distillation.pools:
        pulls, terms = _pulls(distillation, parts, progress, backward)
        found.append(terms)
    for number, (part, pull) in enumerate(zip(parts, pulls, strict=True), 1):
        with apart() if number < len(parts) else nullcontext():
            with record_function("pride.forward"):
                total, values = model(part, progress=progress, step=step, whole=Whole(counts, pull))
            with record_function("pride.backward"):
                backward(total)
        found.append(values)
    return _added(found)


def _pulls(
    distillation: Distillation, parts: Iterable[Batch], progress: float, backward: Callable[[Tensor], None]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradient for each part's pooled rows, and the terms; what only these terms train has its gradient already."""
    with torch.no_grad():
        features = [distillation.pooled(part) for part in parts]
    mine = torch.cat([ours for ours, _ in features]).requires_grad_()
    terms = distillation.feature_terms(mine, torch.cat([theirs for _, theirs in features]), distillation.training)
    weights = distillation.loss.at(progress)
    weighted = sum((weights[name] * term for name, term in terms.items()), mine.sum() * 0)
    backward(weighted)
    assert mine.grad is not None
    pulls = list(mine.grad.split([len(ours) for ours, _ in features]))
    return pulls, {name: term.detach() for name, term in {"total": weighted, **terms}.items()}


def _added(some: Iterable[Mapping[str, N]]) -> dict[str, N]:
    total: dict[str, N] = {}
    for one in some:
        for name, value in one.items():
            total[name] = total[name] + value if name in total else value
    return total
