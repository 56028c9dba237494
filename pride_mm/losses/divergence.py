"""Divergences between student and teacher, each by its sum and its slope in closed form.

Letters: ``N`` rows, ``O`` outcomes (the vocabulary; or the teacher's top k, and one for all the rest).

For any divergence ``sum_o phi(p_o, q_o)`` the gradient for the student's logits is ``p u - p sum(p u)`` with
``u = d phi / d p``. ``p u`` is finite where ``u`` is not, and a multiple of ``p`` in it changes nothing.
"""

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor

from pride_mm.schema import Frozen

Name = Literal["reverse_kl", "forward_kl", "jensen_shannon", "skewed_kl", "skewed_reverse_kl", "universal"]


class Divergence(Frozen):
    """Which divergence of the student ``p`` and the teacher ``q``, both over the same outcomes.

    ``reverse_kl`` KL(p || q), which seeks modes; ``forward_kl`` KL(q || p); ``jensen_shannon`` with equal weights;
    ``skewed_kl`` KL(q || a q + (1 - a) p) and ``skewed_reverse_kl`` KL(p || (1 - a) q + a p) of DistiLLM
    (arXiv 2402.03898), ``a`` being ``skew``, which the others don't use. ``universal`` is sum |p - q|, both sorted
    by size and so of any two vocabularies (universal logit distillation, arXiv 2402.12030, equation 3); whoever calls
    it has sorted them.
    """

    name: Name = "reverse_kl"
    skew: Annotated[float, Setting(gt=0.0, lt=1.0)] = 0.1

    def of(self, log_p: Float[Tensor, "N O"], log_q: Float[Tensor, "N O"]) -> Float[Tensor, " N"]:
        """The divergence of each row, by autograd as large as its inputs: what `take` is held against."""
        if self.name == "universal":
            return (log_p.exp() - log_q.exp()).abs().sum(-1)
        log_mixture = self._mixture(log_p, log_q)
        loss = torch.zeros_like(log_p[:, 0])
        for weight, one, other in self._sum(log_p, log_q, log_mixture):
            # an outcome without any mass has no part in the sum
            loss = loss + weight * (one.exp() * (one - other).masked_fill(one == -torch.inf, 0.0)).sum(-1)
        return loss

    def take(
        self, log_p: Float[Tensor, "N O"], log_q: Float[Tensor, "N O"]
    ) -> tuple[Float[Tensor, "N O"], Float[Tensor, "N O"], Float[Tensor, " N"]]:
        """``p``, ``p u``, and the divergence of each row, without a graph; both arguments are used up for it.

        They are the largest tensors there are, and reverse KL needs no third one.
        """
        if self.name == "reverse_kl":
            ratio = log_q.neg_().add_(log_p)
            p = log_p.exp_()
            slope = ratio.mul_(p)
            return p, slope, slope.sum(-1)
        if self.name == "universal":
            p = log_p.exp_()
            apart = p - log_q.exp_()
            return p, p * apart.sign(), apart.abs().sum(-1)
        if self.name == "forward_kl":
            ratio = log_q - log_p
            q = log_q.exp_()
            return log_p.exp_(), q.neg(), ratio.mul_(q).sum(-1)
        log_mixture = self._mixture(log_p, log_q)
        assert log_mixture is not None
        to_p, to_q = log_p - log_mixture, log_q.sub_(log_mixture)
        p, q = log_p.exp_(), to_q.exp() * log_mixture.exp_()
        if self.name == "jensen_shannon":
            return p, 0.5 * p * to_p, 0.5 * (p * to_p + q * to_q).sum(-1)
        if self.name == "skewed_kl":
            return p, p * to_q.exp() * (self.skew - 1), (q * to_q).sum(-1)
        return p, p * (to_p - self.skew * to_p.exp()), (p * to_p).sum(-1)

    def _mixture(self, log_p: Tensor, log_q: Tensor) -> Tensor | None:
        teacher = {"jensen_shannon": 0.5, "skewed_kl": self.skew, "skewed_reverse_kl": 1 - self.skew}.get(self.name)
        if teacher is None:
            return None
        return torch.logaddexp(log_q + math.log(teacher), log_p + math.log1p(-teacher))

    def _sum(self, log_p: Tensor, log_q: Tensor, log_mixture: Tensor | None) -> list[tuple[float, Tensor, Tensor]]:
        """What is summed: a weight, and the two sides of a Kullback-Leibler divergence."""
        if log_mixture is None:
            return [(1.0, log_p, log_q)] if self.name == "reverse_kl" else [(1.0, log_q, log_p)]
        if self.name == "jensen_shannon":
            return [(0.5, log_p, log_mixture), (0.5, log_q, log_mixture)]
        return [(1.0, log_q if self.name == "skewed_kl" else log_p, log_mixture)]


REVERSE_KL = Divergence()
