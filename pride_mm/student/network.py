"""The student: a causal language model that sees and hears through multi-source attention.

Letters: ``B`` batch, ``T`` tokens of the response, ``L`` tokens of context and response, ``S`` sources, ``K`` latents
a source, ``M = S K``, ``D`` width, ``C`` classes, ``V`` vocabulary.

Promise: a source that is absent is masked, its latents exactly zero, and a row's answer does not depend on what else
is in the batch. The student knows no privileged field: training passes a ``read`` that adds what it has read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from pride_mm.data.batch import Padded
from pride_mm.errors import UserError
from pride_mm.schema import AudioField, Schema, VideoField, classes
from pride_mm.student.attention import MultiSourceAttention, Resampler
from pride_mm.student.backbone import check_head, cut_layers, load_backbone
from pride_mm.student.config import PREDICTED, EncoderSettings, StudentConfig
from pride_mm.student.encoders import build_encoder
from pride_mm.student.pretrained import copy_weights, resolve_encoder

Read = Callable[[Float[Tensor, "B L D"]], Float[Tensor, "B L D"]]


@dataclass(frozen=True)
class Sources:
    """What the text attends to: each source's latents in the order of ``names``, and where they are real."""

    latents: Float[Tensor, "B M D"]
    mask: Bool[Tensor, "B M"]
    names: tuple[str, ...]

    def of(self, name: str) -> Float[Tensor, "B K D"]:
        """The latents of one source."""
        return self.latents.unflatten(1, (len(self.names), -1))[:, self.names.index(name)]

    def present(self, name: str) -> Bool[Tensor, " B"]:
        """Which rows have the source."""
        return self.mask.unflatten(1, (len(self.names), -1))[:, self.names.index(name)].any(1)

    def rows(self, index: Int[Tensor, " R"]) -> "Sources":
        """The chosen rows."""
        return Sources(self.latents[index], self.mask[index], self.names)

    @property
    def predicted(self) -> Float[Tensor, "B K D"]:
        """z_p: the privileged latents as read off the dialogue."""
        return self.of(PREDICTED)


@dataclass(frozen=True)
class StudentOutput:
    """What the student makes of a response.

    ``hidden`` are the states that predict each token of the response (the last is the one before its last token): times
    ``Student.output_weight`` they are logits, which are never built here. ``logits`` are the heads', by target field.
    ``attention`` is the mass on each source, averaged over heads and real tokens of context and response; what
    is missing to one is the mass on no source.
    """

    hidden: Float[Tensor, "B T D"]
    logits: dict[str, Float[Tensor, "B _"]]
    sources: Sources
    attention: Float[Tensor, "B S"]


class Student(PreTrainedModel, GenerationMixin):
    """See the module. Build one with ``from_backbone``; load one with ``pride_mm.student.load_student``."""

    config_class = StudentConfig
    base_model_prefix = "student"
    main_input_name = "input_ids"
    input_modalities = ("text", "image", "audio")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        schema = config.schema
        width, inner, heads = config.width, min(config.width, config.attention_width), config.attention_heads
        self.schema = schema
        self.backbone = AutoModelForCausalLM.from_config(config.get_text_config())
        media = [field for field in schema.inputs if isinstance(field, VideoField | AudioField)]
        self.encoders = nn.ModuleDict(
            {field.name: build_encoder(field, config.encoder_settings(field.name), width) for field in media}
        )
        self.source_names = (*self.encoders, PREDICTED)
        self.resamplers = nn.ModuleList(Resampler(width, config.latents, inner, heads) for _ in self.source_names)
        self.attention = MultiSourceAttention(width, len(self.source_names), inner, heads)
        summary = width * (1 + len(self.source_names))
        self.target_heads = nn.ModuleDict(
            {field.name: nn.Linear(summary, len(classes(field))) for field in schema.heads}
        )
        for body in self._frozen():
            body.requires_grad_(False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone starts itself; all other modules know how they start.
        start = getattr(module, "reset_parameters", None)
        if callable(start):
            start()

    def _frozen(self) -> list[nn.Module]:
        """The encoders that stay as they are; what projects their tokens is new and always learns."""
        frozen = [name for name in self.encoders if not self.config.encoder_settings(name).trained]
        return [getattr(self.encoders[name], "body", self.encoders[name]) for name in frozen]

    def train(self, mode: bool = True) -> "Student":
        """As of any module, but frozen encoders stay in eval mode: no dropout, no masking of their input."""
        super().train(mode)
        for body in self._frozen():
            body.eval()
        return self

    @classmethod
    def from_backbone(
        cls,
        backbone: str | Path | PreTrainedModel,
        schema: Schema,
        layers: int | None = None,
        encoders: Mapping[str, EncoderSettings] | None = None,
        latents: int = 8,
    ) -> "Student":
        """A student on a language model, or on a copy of it with fewer layers.

        Args:
            backbone: a name for ``load_backbone``, or a causal language model, which is copied and left as it is.
            schema: its privileged fields are left out.
            layers: how many layers to keep, evenly spaced with the first and the last; None keeps all.
            encoders: settings by media input; each kind has a small default that needs no download.
            latents: K.

        Raises:
            UserError: a model that cannot be loaded or has no plain head, too many layers, encoders that don't fit.
        """
        model = backbone if isinstance(backbone, PreTrainedModel) else load_backbone(backbone)[0]
        check_head(model)
        text_config, weights = cut_layers(model, layers)
        resolved, donors = {}, {}
        for name, settings in (encoders or {}).items():
            resolved[name], donors[name] = resolve_encoder(schema.get(name), settings)
        student = cls(
            StudentConfig(
                text_config=text_config.to_dict(),
                served_schema=schema.served().model_dump(mode="json"),
                encoders=resolved,
                latents=latents,
            )
        )
        student.backbone.load_state_dict(weights)
        for name, donor in donors.items():
            if donor is not None:
                copy_weights(student.encoders[name], donor)
        for config in (student.config, student.generation_config):
            config.bos_token_id = model.config.bos_token_id
            config.eos_token_id = model.config.eos_token_id
            config.pad_token_id = model.config.pad_token_id
        return student

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The head's weight; one and the same parameter as the embedding where they are tied."""
        return self.backbone.get_output_embeddings().weight

    def get_input_embeddings(self) -> nn.Module:
        """The text's embedding."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the text's embedding."""
        self.backbone.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head of the language model."""
        return self.backbone.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head of the language model."""
        self.backbone.set_output_embeddings(value)

    def encode(self, inputs: Mapping[str, Padded]) -> Sources:
        """The latents of all sources. An input that is missing counts as absent.

        Raises:
            UserError: a name that is no input of this student.
        """
        self._check_names(inputs)
        dialogue = inputs[self.schema.dialogue.name]
        rows = len(dialogue.values)
        latents, present = [], []
        for name, resampler in zip(self.source_names, self.resamplers, strict=True):
            given = dialogue if name == PREDICTED else inputs.get(name)
            has = dialogue.mask.new_zeros(rows) if given is None else given.present
            latent = self.attention.source.new_zeros(rows, self.config.latents, self.config.width)
            index = has.nonzero().flatten()
            # Encoders run on the rows that have the source, and not at all where none has.
            if given is not None and len(index):
                tokens, mask = self._tokens(name, given.values[index], given.mask[index])
                latent = latent.index_copy(0, index, resampler(tokens, mask).to(latent.dtype))
            latents.append(latent)
            present.append(has[:, None].expand(-1, self.config.latents))
        return Sources(torch.cat(latents, 1), torch.cat(present, 1), self.source_names)

    def _tokens(self, name: str, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if name == PREDICTED:
            return self.get_input_embeddings()(values), mask
        tokens: tuple[Tensor, Tensor] = self.encoders[name](values, mask)
        return tokens

    def _check_names(self, inputs: Mapping[str, Padded]) -> None:
        known = [field.name for field in self.schema.inputs]
        unknown = sorted(set(inputs) - set(known))
        if unknown or self.schema.dialogue.name not in inputs:
            wrong = f"got {', '.join(unknown)}" if unknown else f"'{self.schema.dialogue.name}' is missing"
            raise UserError(f"The student's inputs are {', '.join(known)}: {wrong}.")

    def _fuse(
        self, ids: Int[Tensor, "B L"], latents: Tensor, mask: Tensor, read: Read | None = None
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L S"]]:
        """The text's embeddings with what it has read in the sources, and its attention mass on each."""
        text = self.get_input_embeddings()(ids)
        added, mass = self.attention(text, latents.to(text.dtype), mask)
        fused = text + added
        return (fused if read is None else fused + read(text)), mass

    def _states(self, fused: Tensor, mask: Tensor) -> Float[Tensor, "B L D"]:
        decoder = self.backbone.base_model
        return decoder(
            inputs_embeds=fused, attention_mask=mask.long(), position_ids=_positions(mask), use_cache=False
        ).last_hidden_state

    def respond(
        self, inputs: Mapping[str, Padded], response: Padded, read: Read | None = None, sources: Sources | None = None
    ) -> StudentOutput:
        """Read context and response side by side: ``[context, padded left][response, padded right]``.

        Args:
            inputs: by input field; media may be missing.
            response: token ids ``(B, T)`` with their mask.
            read: training only: what the text reads elsewhere, ``(B, L, D)`` to ``(B, L, D)``, added to the embeddings.
            sources: what ``encode`` gave for these inputs, where it is known already.
        """
        sources = self.encode(inputs) if sources is None else sources
        dialogue = inputs[self.schema.dialogue.name]
        start, length = dialogue.values.shape[1], response.values.shape[1]
        ids = torch.cat([dialogue.values, response.values], 1)
        mask = torch.cat([dialogue.mask, response.mask], 1)
        fused, mass = self._fuse(ids, sources.latents, sources.mask, read)
        states = self._states(fused, mask)
        real = mask[..., None]
        attention = torch.where(real, mass, 0.0).sum(1) / real.sum(1).clamp(min=1)
        logits = self._heads(states[:, start - 1], sources)
        return StudentOutput(states[:, start - 1 : start + length - 1], logits, sources, attention)

    def _heads(self, state: Float[Tensor, "B D"], sources: Sources) -> dict[str, Float[Tensor, "B _"]]:
        if not self.target_heads:
            return {}
        means = [sources.of(name).mean(1) for name in sources.names]
        summary = torch.cat([state, *(mean.to(state.dtype) for mean in means)], -1)
        return {name: head(summary) for name, head in self.target_heads.items()}

    def read_targets(self, inputs: Mapping[str, Padded]) -> dict[str, Float[Tensor, "B _"]]:
        """The heads' logits by target field, without a response."""
        sources = self.encode(inputs)
        dialogue = inputs[self.schema.dialogue.name]
        fused, _ = self._fuse(dialogue.values, sources.latents, sources.mask)
        return self._heads(self._states(fused, dialogue.mask)[:, -1], sources)

    def forward(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        latents: Float[Tensor, "B M D"] | None = None,
        latents_mask: Bool[Tensor, "B M"] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The form that ``generate`` calls, step by step with a cache.

        ``latents`` and ``latents_mask`` are those of ``encode``, the same at every step; without them the text stands
        alone, as it does for the plain backbone.
        """
        if latents is None or latents_mask is None:
            fused = self.get_input_embeddings()(input_ids)
        else:
            fused, _ = self._fuse(input_ids, latents, latents_mask)
        return self.backbone(
            inputs_embeds=fused,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )

    @torch.no_grad()
    def answer(self, inputs: Mapping[str, Padded], max_new_tokens: int = 64, **generation: Any) -> Int[Tensor, "B new"]:
        """Token ids of an answer to each row, padded on the right; greedy unless ``generation`` says else.

        Args:
            inputs: by input field; media may be missing.
            max_new_tokens: the longest answer.
            generation: anything that Hugging Face's ``generate`` takes.
        """
        sources = self.encode(inputs)
        dialogue = inputs[self.schema.dialogue.name]
        ids: Tensor = self.generate(
            input_ids=dialogue.values,
            attention_mask=dialogue.mask.long(),
            latents=sources.latents,
            latents_mask=sources.mask,
            max_new_tokens=max_new_tokens,
            **{"do_sample": False, **generation},
        )
        return ids[:, dialogue.values.shape[1] :]


def _positions(mask: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Places of the real tokens, counted from the first; padding gets some place, which nothing sees."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
