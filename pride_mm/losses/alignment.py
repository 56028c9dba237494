"""The objective's terms, their weights and the small ones among them. The loop puts them together.

Letters: ``B`` batch, ``C`` classes. A term whose weight is zero is not computed; that is the ablation.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field as Setting
from torch import Tensor, nn

from pride_mm.data.batch import Padded
from pride_mm.losses.divergence import Divergence, Name
from pride_mm.precision import wide
from pride_mm.schema import Frozen

TERMS = ("ce", "kd", "mmd", "prior", "privileged", "consistency", "heads", "cka", "cosine")
NOTE_TERMS = ("prior", "privileged", "consistency")
"""Those that read the notes."""
POOLED = ("mmd", "cka", "cosine")
"""Those that compare features with the teacher's."""

_Number = Annotated[float, Setting(ge=0.0)]


class Ramp(Frozen):
    """A weight that goes in a straight line from ``start`` to ``end``, constant before and after.

    Attributes:
        begin, until: where the line is, as parts of the training that is done.
    """

    start: _Number
    end: _Number
    begin: Annotated[float, Setting(ge=0.0, le=1.0)] = 0.0
    until: Annotated[float, Setting(ge=0.0, le=1.0)] = 1.0

    def at(self, progress: float) -> float:
        """The weight when this part of training is done."""
        if progress <= self.begin:
            return self.start
        if progress >= self.until:
            return self.end
        return self.start + (self.end - self.start) * (progress - self.begin) / (self.until - self.begin)


Weight = _Number | Ramp


class DualAlignment(Frozen):
    """How much each term weighs: a number, or a `Ramp` over the training.

    ``ce`` the expert's response in deploy mode; ``kd`` the ``divergence`` to the teacher, reverse KL unless another is
    chosen (``skew`` belongs to the skewed ones); ``mmd`` pooled features to the
    teacher's; ``prior`` predicting the privileged latents; ``privileged`` the second pass with notes (CE and
    divergence, once more); ``consistency`` what is said without notes drawn to what is said with them, by KL(with ||
    without); ``heads`` the other targets; ``cka`` and ``cosine`` compare pooled features pair by pair,
    which MMD does not.
    """

    ce: Weight = 1.0
    kd: Weight = 1.0
    mmd: Weight = 0.1
    prior: Weight = 0.1
    privileged: Weight = 0.0
    consistency: Weight = 0.0
    heads: Weight = 0.5
    cka: Weight = 0.0
    cosine: Weight = 0.0
    temperature: Annotated[float, Setting(gt=0.0)] = 1.0
    divergence: Name = "reverse_kl"
    skew: Annotated[float, Setting(gt=0.0, lt=1.0)] = 0.1

    def at(self, progress: float) -> dict[str, float]:
        """The weights by name when this part of training is done."""
        weights = {name: getattr(self, name) for name in TERMS}
        return {name: one.at(progress) if isinstance(one, Ramp) else one for name, one in weights.items()}

    def uses(self, *names: str) -> bool:
        """Whether any of these terms ever has a weight."""
        given = [getattr(self, name) for name in names]
        return any(max(one.start, one.end) > 0 if isinstance(one, Ramp) else one > 0 for one in given)

    @property
    def chosen(self) -> Divergence:
        """The divergence that ``kd`` weighs."""
        return Divergence(name=self.divergence, skew=self.skew)


def heads_loss(
    logits: Mapping[str, Float[Tensor, "B _"]],
    targets: Mapping[str, Padded],
    counts: Mapping[str, float] | None = None,
    begin: str = "",
) -> Float[Tensor, ""]:
    """Cross-entropy of the heads: the mean over rows that have the target, then over the heads that have any.

    Zero with a gradient path where no row has any. A target that is missing from the batch counts as absent.
    ``counts`` are the rows that have each target in the whole batch, of which this is a part; their names ``begin`` so.
    """
    assert logits, "a schema without heads has no such loss"
    found = count_targets(logits, targets) if counts is None else {name: counts[begin + name] for name in logits}
    heads, terms = sum(1 for name in logits if found[name] > 0), []
    for name, scores in logits.items():
        rows = targets[name].mask.nonzero().flatten() if name in targets else scores.new_zeros(0, dtype=torch.long)
        labels = targets[name].values[rows].long() if name in targets else rows
        entropy = F.cross_entropy(scores[rows].to(wide(scores)), labels, reduction="sum")
        terms.append(entropy / max(found[name] * heads, 1e-9))
    return torch.stack(terms).sum()


def count_targets(names: Iterable[str], targets: Mapping[str, Padded]) -> dict[str, float]:
    """How many rows have each target."""
    return {name: float(targets[name].mask.sum()) if name in targets else 0.0 for name in names}


def correct(logits: Float[Tensor, "B C"], target: Padded) -> Int[Tensor, " B"]:
    """1 where the most likely class is the target, 0 where not, -1 where there is no target."""
    right = (logits.argmax(-1) == target.values).long()
    return right.masked_fill(~target.mask, -1)


def feature_projection(student_width: int, teacher_width: int) -> nn.Linear:
    """From the student's width to the teacher's, orthogonal at the start; training only.

    It can make the discrepancy small all by itself, so it wants weight decay.
    """
    projection = nn.Linear(student_width, teacher_width, bias=False)
    nn.init.orthogonal_(projection.weight)
    return projection


def privileged_gain(deploy: Float[Tensor, ""], privileged: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """What notes are worth, in nats a token: cross-entropy without less cross-entropy with them.

    For a teacher above about 0.4, reverse KL no longer finds the best student without notes.
    """
    return (deploy - privileged).detach()
