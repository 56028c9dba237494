"""One step's gradient, the same for any split of its batch into parts and over ranks.

Every mean of the objective is taken over the whole batch of the step: the counts are summed over parts and ranks
before anything is computed. Terms that compare responses with each other (MMD, CKA) want them all at once; a first
pass without gradients gives their features, whose gradients the second pass takes back into the student
(GradCache, arXiv 2101.06983). That first pass is spared where the batch is in one part.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pride_mm.data.batch import Batch
from pride_mm.training.distillation import Distillation, Whole

N = TypeVar("N", float, Tensor)


def take_gradient(
    distillation: Distillation,
    batch: Batch,
    progress: float,
    step: int,
    at_once: int | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
    model: Callable[..., tuple[Tensor, Mapping[str, Tensor]]] | None = None,
) -> dict[str, Tensor]:
    """Add the gradient of a batch to that of the parameters.

    Args:
        distillation: the objective.
        batch: this rank's rows of the step.
        progress, step: as ``Distillation.forward`` takes them.
        at_once: rows that go through the student at a time; None is all. It changes memory and time, not the result.
        backward: what takes the gradient of a part's loss.
        model: what is called in place of ``distillation``, such as a wrapper of it.

    Returns:
        The terms' values: of the rank's rows, over the counts of all ranks, so that their mean is the whole's.
    """
    model = distillation if model is None else model
    device = next(distillation.parameters()).device
    parts = [batch] if at_once is None else batch.split(at_once)
    counts = _mean_over_ranks(_added(distillation.counts(part, progress, step) for part in parts), device)
    pulls: Sequence[Tensor | None] = [None] * len(parts)
    found: list[Mapping[str, Tensor]] = []
    if len(parts) > 1 and distillation.pools:
        pulls, terms = _pulls(distillation, parts, progress, backward)
        found.append(terms)
    for part, pull in zip(parts, pulls, strict=True):
        total, values = model(part, progress=progress, step=step, whole=Whole(counts, pull))
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


def _mean_over_ranks(counts: dict[str, float], device: torch.device) -> dict[str, float]:
    """Every rank has the same names in the same order, which come from the settings alone."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return counts
    values = torch.tensor(list(counts.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(counts, (values / dist.get_world_size()).tolist(), strict=True))
