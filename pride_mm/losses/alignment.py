"""The objective's terms, their weights and the small ones among them. The loop puts them together.

Letters: ``B`` batch, ``C`` classes. A term whose weight is zero is not computed; that is the ablation.
"""

from collections.abc import Mapping
from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field as Setting
from torch import Tensor, nn

from pride_mm.data.batch import Padded
from pride_mm.schema import Frozen

Weight = Annotated[float, Setting(ge=0.0)]

# The names of the terms in the history of a run, in the order of the objective.
TERMS = ("cross_entropy", "reverse_kl", "mmd", "prior", "privileged", "heads")


class DualAlignment(Frozen):
    """How much each term weighs.

    ``ce`` the expert's response in deploy mode; ``kd`` reverse KL to the teacher; ``mmd`` pooled features to the
    teacher's; ``prior`` predicting the privileged latents; ``privileged`` the second pass with notes (CE and
    reverse KL, once more); ``heads`` the other targets.
    """

    ce: Weight = 1.0
    kd: Weight = 1.0
    mmd: Weight = 0.1
    prior: Weight = 0.1
    privileged: Weight = 0.0
    heads: Weight = 0.5
    temperature: Annotated[float, Setting(gt=0.0)] = 1.0


def heads_loss(logits: Mapping[str, Float[Tensor, "B _"]], targets: Mapping[str, Padded]) -> Float[Tensor, ""]:
    """Cross-entropy of the heads: the mean over rows that have the target, then over the heads that have any.

    Zero with a gradient path where no row has any. A target that is missing from the batch counts as absent.
    """
    terms, nothing = [], []
    for name, scores in logits.items():
        rows = targets[name].mask.nonzero().flatten() if name in targets else None
        if rows is None or not len(rows):
            nothing.append(scores[:0].sum())
        else:
            terms.append(F.cross_entropy(scores[rows].float(), targets[name].values[rows].long()))
    assert terms or nothing, "a schema without heads has no such loss"
    return sum(nothing, sum(terms) / max(len(terms), 1))  # type: ignore[return-value]


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
