"""Resampling a source to a few latents, and text that attends to all of them.

Letters: ``B`` batch, ``T`` text tokens, ``S`` source tokens, ``K`` latents, ``M`` latents of all sources, ``D`` width,
``H`` heads. Nothing here is ever NaN: a resampler always sees its own latents, and the text always sees one null token.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


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
        rows = len(source)
        latents = self.latents.expand(rows, -1, -1)
        normed = self.norm_latents(latents)
        # A masked token may hold anything but must not reach a product.
        source = torch.where(mask[..., None], source, 0.0)
        key, value = self.key_value(torch.cat([self.norm_source(source), normed], 1)).chunk(2, -1)
        seen = torch.cat([mask, mask.new_ones(rows, latents.shape[1])], 1)
        query, key, value = (_split(part, self.heads) for part in (self.query(normed), key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None, :])
        latents = latents + self.out(_join(mixed))
        latents = latents + self.feed(latents)
        return torch.where(mask.any(1)[:, None, None], latents, 0.0)


class MultiSourceAttention(nn.Module):
    """Text attends to the latents of all sources in one softmax, added through a gate that starts at zero.

    Args:
        width: D of text and latents.
        sources: how many sources there are, each with the same number of latents.
        inner: width inside the attention.
        heads: H.
    """

    def __init__(self, width: int, sources: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.source = nn.Parameter(torch.empty(sources, width))
        self.null = nn.Parameter(torch.empty(1, width))
        self.gate = nn.Parameter(torch.empty(()))
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
        """What to add to the text, and each token's attention mass on each source, averaged over heads.

        What is missing to one is the mass on the null token.
        """
        rows, count = len(text), len(self.source)
        named = latents + self.source.repeat_interleave(latents.shape[1] // count, 0)
        memory = self.norm_latents(torch.cat([named, self.null.expand(rows, 1, -1)], 1))
        seen = torch.cat([mask, mask.new_ones(rows, 1)], 1)
        key, value = (_split(part, self.heads) for part in self.key_value(memory).chunk(2, -1))
        query = _split(self.query(self.norm_text(text)), self.heads)
        # The few keys make the weights cheap, and the reports want them: SDPA does not give them.
        scores = (query @ key.mT) * query.shape[-1] ** -0.5
        weights = scores.float().masked_fill(~seen[:, None, None, :], -torch.inf).softmax(-1)
        added = torch.tanh(self.gate) * self.out(_join(weights.to(value.dtype) @ value))
        mass = weights.detach()[..., :-1].mean(1).unflatten(-1, (count, -1)).sum(-1)
        return added, mass


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
