"""Resampling a source to a few latents, and text that attends to all of them.

Letters: ``B`` batch, ``T`` text tokens, ``S`` source tokens, ``K`` latents, ``M`` latents of all sources, ``D`` width,
``H`` heads. Nothing here is ever NaN: a resampler always sees its own latents, and the text always sees one null token.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pride_mm.precision import wide


class Resampler(nn.Module):
    """A source of any length to ``K`` latents (a Perceiver): keys and values are the source and the latents.

    A row without a source gives exact zeros.
    """

    def __init__(self, width: int, latents: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.latents = nn.Parameter(torch.empty(latents, width))
        self.norm_source = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * inner), nn.GELU(), nn.Linear(2 * inner, width)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        nn.init.normal_(self.latents, std=0.02)

    def forward(self, source: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B K D"]:
        latents, query, key, value, seen = self._asked(source, mask)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None, :])
        latents = latents + self.out(_join(mixed))
        latents = latents + self.feed(latents)
        return torch.where(mask.any(1)[:, None, None], latents, 0.0)

    def looks(self, source: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B K S"]:
        """How much each latent attends to each token of the source, averaged over heads, for reports.

        What is missing to one is its attention on the latents themselves.
        """
        _, query, key, _, seen = self._asked(source, mask)
        return _weights(query, key, seen).mean(1)[..., : source.shape[1]]

    def _asked(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The latents to begin with; queries, keys and values by head; and which keys are there."""
        rows = len(source)
        latents = self.latents.expand(rows, -1, -1)
        normed = self.norm_latents(latents)
        # A masked token may hold anything but must not reach a product.
        source = torch.where(mask[..., None], source, 0.0)
        key, value = self.key_value(torch.cat([self.norm_source(source), normed], 1)).chunk(2, -1)
        seen = torch.cat([mask, mask.new_ones(rows, latents.shape[1])], 1)
        query, key, value = (_split(part, self.heads) for part in (self.query(normed), key, value))
        return latents, query, key, value, seen


class Memory(NamedTuple):
    """What text attends to, the same for every token: keys and values of ``M`` latents and the null token, and which
    of them are there.
    """

    key: Float[Tensor, "B H N d"]
    value: Float[Tensor, "B H N d"]
    mask: Bool[Tensor, "B N"]


class MultiSourceAttention(nn.Module):
    """Text attends to the latents of all sources in one softmax, added through a gate that starts at zero.

    Args:
        width: D of text and latents.
        sources: how many sources there are; past them, others may be given that bring their own mark.
        inner: width inside the attention.
        heads: H.
        latents: K, of each source.
    """

    def __init__(self, width: int, sources: int, inner: int, heads: int, latents: int) -> None:
        super().__init__()
        self.heads, self.latents = heads, latents
        self.source = nn.Parameter(torch.empty(sources, width))
        self.null = nn.Parameter(torch.empty(1, width))
        self.gate = nn.Parameter(torch.empty(1))  # a scalar could not be spread over ranks
        self.norm_text = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        nn.init.normal_(self.source, std=0.02)
        nn.init.normal_(self.null, std=0.02)
        nn.init.zeros_(self.gate)

    def forward(
        self, text: Float[Tensor, "B T D"], latents: Float[Tensor, "B M D"], mask: Bool[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T n_sources"]]:
        """``attend`` to what ``remember`` makes of the latents."""
        return self.attend(text, self.remember(latents, mask))

    def remember(self, latents: Float[Tensor, "B M D"], mask: Bool[Tensor, "B M"]) -> Memory:
        """Of the latents what does not depend on the text; a talk needs it once, and not at every token."""
        rows = len(latents)
        memory = self.norm_latents(
            torch.cat([_marked(latents, self.source, self.latents), self.null.expand(rows, 1, -1)], 1)
        )
        key, value = (_split(part, self.heads) for part in self.key_value(memory).chunk(2, -1))
        return Memory(key, value, torch.cat([mask, mask.new_ones(rows, 1)], 1))

    def attend(
        self, text: Float[Tensor, "B T D"], memory: Memory
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T n_sources"]]:
        """What to add to the text, and each token's attention mass on each source, averaged over heads.

        What is missing to one is the mass on the null token.
        """
        query = _split(self.query(self.norm_text(text)), self.heads)
        # The few keys make the weights cheap, and the reports want them: SDPA does not give them.
        scores = ((query @ memory.key.mT) * query.shape[-1] ** -0.5).to(wide(query))
        scores = scores.masked_fill(~memory.mask[:, None, None, :], -torch.inf)
        mixed, mass = self._mix(query, scores, memory.value)
        return torch.tanh(self.gate) * self.out(_join(mixed)), mass.detach().mean(1)

    def looks(self, text: Float[Tensor, "B T D"], memory: Memory) -> Float[Tensor, "B T M"]:
        """How much each token attends to each latent, averaged over heads; the rest is on the null token."""
        query = _split(self.query(self.norm_text(text)), self.heads)
        return _weights(query, memory.key, memory.mask).mean(1)[..., :-1]

    def _mix(self, _query: Tensor, scores: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What each head reads ``(B, H, T, d)``, and its mass on each source; the last of the scores is the null's."""
        weights = scores.softmax(-1)
        return weights.to(value.dtype) @ value, weights[..., :-1].unflatten(-1, (-1, self.latents)).sum(-1)


class HierarchicalAttention(MultiSourceAttention):
    """A softmax within each source, then one over what was read in each (Libovicky and Helcl, ACL 2017).

    The null token is a source of its own, whose score is zero.
    """

    def __init__(self, width: int, sources: int, inner: int, heads: int, latents: int) -> None:
        super().__init__(width, sources, inner, heads, latents)
        self.rank = nn.Linear(inner // heads, inner // heads, bias=False)

    def _mix(self, query: Tensor, scores: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        within = scores[..., :-1].unflatten(-1, (-1, self.latents))
        there = within.isfinite().any(-1)
        weights = torch.where(there[..., None], within, 0.0).softmax(-1).to(value.dtype)
        read = torch.einsum("bhtsk,bhskd->bhtsd", weights, value[:, :, :-1].unflatten(2, (-1, self.latents)))
        across = (query[..., None, :] * self.rank(read)).sum(-1).to(wide(query)) * query.shape[-1] ** -0.5
        across = across.masked_fill(~there, -torch.inf)
        share = torch.cat([across, torch.zeros_like(across[..., :1])], -1).softmax(-1)
        read = torch.cat([read, value[:, :, None, -1:].expand(*read.shape[:3], 1, -1)], -2)
        return (share.to(value.dtype)[..., None] * read).sum(-2), share[..., :-1]


class Prefix(nn.Module):
    """Latents as tokens before the text: plain concatenation, without a gate.

    Args:
        width: D.
        sources: how many sources there are, as for `MultiSourceAttention`.
        latents: K, of each source.
    """

    def __init__(self, width: int, sources: int, latents: int) -> None:
        super().__init__()
        self.latents = latents
        self.source = nn.Parameter(torch.empty(sources, width))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        nn.init.normal_(self.source, std=0.02)

    def forward(self, latents: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        made: Tensor = self.out(self.norm(_marked(latents, self.source, self.latents)))
        return made


def _weights(query: Tensor, key: Tensor, seen: Tensor) -> Tensor:
    """The softmax that attention is (B, H, queries, keys), where all of it is wanted."""
    scores = ((query @ key.mT) * query.shape[-1] ** -0.5).to(wide(query))
    return scores.masked_fill(~seen[:, None, None, :], -torch.inf).softmax(-1)


def _marked(latents: Tensor, source: Tensor, count: int) -> Tensor:
    """Each source's mark added to its latents; those past the last source bring their own."""
    marks = source.repeat_interleave(count, 0)
    return latents + F.pad(marks, (0, 0, 0, latents.shape[1] - len(marks)))


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
