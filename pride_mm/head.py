"""What makes logits of hidden states: the last layer of a language model, taken apart.

Letters: ``N`` rows, ``D`` width, ``V`` vocabulary, ``R`` rank of an adapter.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pride_mm.errors import UserError


@dataclass(frozen=True)
class LowRank:
    """A LoRA adapter beside a head: ``scale * states @ down.T @ up.T`` is added to its product."""

    down: Float[Tensor, "R D"]
    up: Float[Tensor, "V R"]
    scale: float


@dataclass(frozen=True)
class Head:
    """``cap * tanh(scale * (states @ weight.T + bias + adapter) / cap)``, cut to the first ``vocabulary`` ids.

    Attributes:
        weight: tied to an embedding or not, frozen or not.
        bias: added to the product.
        adapter: a low-rank addition to ``weight``.
        scale: by which logits are multiplied (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        soft_cap: Gemma's ``final_logit_softcapping``.
        vocabulary: how many ids the tokenizer really has. Heads are padded for speed, each model to a size of its
            own; what lies behind is in no softmax.
    """

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, " V"] | None = None
    adapter: LowRank | None = None
    scale: float = 1.0
    soft_cap: float | None = None
    vocabulary: int | None = None

    @classmethod
    def of(cls, layer: nn.Module, config: Any = None, vocabulary: int | None = None) -> "Head":
        """The head of a model: ``model.get_output_embeddings()`` and ``model.config``.

        Linear layers are understood, also those that PEFT has put LoRA around. Sharded weights (DTensor) are gathered;
        their gradients are spread again.

        Raises:
            UserError: another layer, more than one adapter, dropout in an adapter, or too small a vocabulary.
        """
        base: Any = layer
        adapter = None
        if hasattr(layer, "lora_A"):
            base, adapter = layer.base_layer, _low_rank(layer)
        if not isinstance(base, nn.Linear):
            raise UserError(f"A head of the type {type(base).__name__} is not understood: it must be a linear layer.")
        if vocabulary is not None and vocabulary > base.out_features:
            raise UserError(
                f"The head makes {base.out_features} logits, fewer than the {vocabulary} ids that are used."
            )
        divided = getattr(config, "logits_scaling", None)
        return cls(
            _whole(base.weight),
            None if base.bias is None else _whole(base.bias),
            adapter,
            1.0 / divided if divided else float(getattr(config, "logit_scale", None) or 1.0),
            getattr(config, "final_logit_softcapping", None),
            vocabulary,
        )

    @classmethod
    def of_model(cls, model: Any, vocabulary: int | None = None) -> "Head":
        """The head of a causal language model, compared with what the model itself makes of a few tokens.

        Raises:
            UserError: as ``of``; or the model does more to its logits than is known here.
        """
        head = cls.of(model.get_output_embeddings(), model.config, vocabulary)
        with torch.no_grad():
            tokens = torch.arange(min(head.ids, 8), device=head.weight.device)[None]
            states = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
            theirs = model(input_ids=tokens, use_cache=False).logits[0, :, : head.ids]
            ours = head.logits(states[0])
        if not torch.allclose(ours, theirs, rtol=0.05, atol=0.05 * float(theirs.abs().max())):
            raise UserError(
                f"The logits of '{model.config.model_type}' are more than its head's product, scaled and capped, which "
                "the objective cannot follow: choose a backbone of the kind of Llama, Qwen, Gemma, SmolLM or Granite."
            )
        return head

    @property
    def ids(self) -> int:
        """How many logits there are."""
        return len(self.weight) if self.vocabulary is None else self.vocabulary

    def logits(self, states: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """The logits, differentiable in everything, and as large as they are."""
        made = states @ self.weight[: self.ids].T
        if self.bias is not None:
            made = made + self.bias[: self.ids]
        if self.adapter is not None:
            made = made + self.adapter.scale * (states @ self.adapter.down.T) @ self.adapter.up[: self.ids].T
        made = made * self.scale
        return made if self.soft_cap is None else self.soft_cap * (made / self.soft_cap).tanh()

    def to(self, device: torch.device | str) -> "Head":
        """On another device; the adapter is left out, which only a head that learns has."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=self.weight.to(device), bias=bias, adapter=None)

    def constant(self, dtype: torch.dtype) -> "Head":
        """Cut to the ids that are used, in ``dtype``, and without a graph."""

        def plain(tensor: Tensor, cut: bool = True) -> Tensor:
            return (tensor[: self.ids] if cut else tensor).detach().to(dtype)

        adapter = self.adapter
        if adapter is not None:
            adapter = LowRank(plain(adapter.down, cut=False), plain(adapter.up), adapter.scale)
        bias = None if self.bias is None else plain(self.bias)
        return replace(self, weight=plain(self.weight), bias=bias, adapter=adapter, vocabulary=None)


def _low_rank(layer: Any) -> LowRank | None:
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.merged or layer.disable_adapters or not active:
        return None
    if len(active) > 1:
        raise UserError(f"The head has {len(active)} active adapters ({', '.join(active)}): one is allowed.")
    name = active[0]
    if getattr(layer.lora_dropout[name], "p", 0.0) > 0 and layer.training:
        raise UserError("The adapter of the head has dropout, which its fused loss cannot do: set lora_dropout to 0.")
    if getattr(layer, "use_dora", {}).get(name) or getattr(layer.lora_B[name], "bias", None) is not None:
        raise UserError("The adapter of the head is a DoRA or has a bias: plain LoRA is allowed.")
    return LowRank(_whole(layer.lora_A[name].weight), _whole(layer.lora_B[name].weight), float(layer.scaling[name]))


def _whole(tensor: Tensor) -> Tensor:
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()
