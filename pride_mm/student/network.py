"""The student: a causal language model that sees and hears through multi-source attention.

Letters: ``B`` batch, ``T`` tokens of the response, ``L`` tokens of context and response, ``S`` sources, ``K`` latents
a source, ``M = S K``, ``D`` width, ``C`` classes, ``V`` vocabulary.

Promise: a source that is absent is masked, its latents exactly zero, and a row's answer does not depend on what else
is in the batch. The student knows no privileged field: training passes a ``read`` that adds what it has read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from pride_mm.data.batch import Padded
from pride_mm.errors import UserError
from pride_mm.head import Head
from pride_mm.schema import AudioField, Schema, VideoField, classes
from pride_mm.student.attention import HierarchicalAttention, Memory, MultiSourceAttention, Prefix, Resampler
from pride_mm.student.backbone import cut_layers, load_backbone
from pride_mm.student.config import PREDICTED, EncoderSettings, Fusion, StudentConfig
from pride_mm.student.deeper import MEMORIES, attend_before, check_layers
from pride_mm.student.encoders import build_encoder
from pride_mm.student.pretrained import copy_weights, resolve_encoder
from pride_mm.student.sources import Read, Sources, StudentOutput


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
        met = {field: config.encoder_settings(field.name) for field in media}
        self.encoders = nn.ModuleDict(
            {field.name: build_encoder(field, one, width) for field, one in met.items() if one.name != "none"}
        )
        self.source_names = (*self.encoders, PREDICTED)
        self.resamplers = nn.ModuleList(Resampler(width, config.latents, inner, heads) for _ in self.source_names)
        count, latents = len(self.source_names), config.latents
        self.attention: MultiSourceAttention | Prefix
        if config.fusion == "concat":
            self.attention = Prefix(width, count, latents)
        else:
            kind = HierarchicalAttention if config.fusion == "hierarchical" else MultiSourceAttention
            self.attention = kind(width, count, inner, heads, latents)
        check_layers(config.attended_layers, config.get_text_config().num_hidden_layers, config.fusion)
        self.layer_attentions = nn.ModuleDict(
            {str(layer): kind(width, count, inner, heads, latents) for layer in config.attended_layers}
        )
        attend_before(self.backbone, {int(layer): one for layer, one in self.layer_attentions.items()})  # type: ignore[misc]
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
        fusion: Fusion = "multi_source",
        attended_layers: Sequence[int] = (),
    ) -> "Student":
        """A student on a language model, or on a copy of it with fewer layers.

        Args:
            backbone: a name for ``load_backbone``, or a causal language model, which is copied and left as it is.
            schema: its privileged fields are left out.
            layers: how many layers to keep, evenly spaced with the first and the last; None keeps all.
            encoders: settings by media input; each kind has a small default that needs no download.
            latents: K.
            fusion: how the text gets to see the sources.
            attended_layers: layers of the student, from 1 on, before which the text attends to them again.

        Raises:
            UserError: a model that cannot be loaded or whose head is odd, too many layers, encoders that don't fit.
        """
        model = backbone if isinstance(backbone, PreTrainedModel) else load_backbone(backbone)[0]
        Head.of_model(model)
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
                fusion=fusion,
                attended_layers=list(attended_layers),
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
    def head(self) -> Head:
        """What makes logits; its weight is one and the same parameter as the embedding where they are tied."""
        return Head.of(self.backbone.get_output_embeddings(), self.backbone.config)

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
        latents: list[Tensor] = []
        present: list[Tensor] = []
        for name, resampler in zip(self.source_names, self.resamplers, strict=True):
            given = dialogue if name == PREDICTED else inputs.get(name)
            has = dialogue.mask.new_zeros(rows) if given is None else given.present
            latent = self.attention.source.new_zeros(rows, self.config.latents, self.config.width)
            index = has.nonzero().flatten()
            # Encoders run on the rows that have the source, and not at all where none has.
            if given is not None and len(index):
                tokens, mask = self._tokens(name, given.values[index], given.mask[index])
                if name == PREDICTED:  # what experts would note is seen and heard, too
                    tokens = torch.cat([tokens, *(seen[index].to(tokens.dtype) for seen in latents)], 1)
                    mask = torch.cat([mask, *(there[index] for there in present)], 1)
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

    def remember(self, sources: Sources) -> dict[str, Tensor]:
        """What ``forward`` and ``generate`` take of the sources, the same at every token: for each attention, in the
        second dimension, what it attends to.

        Nothing where the sources are concatenated with the text: then they are before it, in ``inputs_embeds``.
        """
        if isinstance(self.attention, Prefix):
            return {}
        latents = sources.latents.to(self.attention.source.dtype)
        attentions: list[Any] = [self.attention, *self.layer_attentions.values()]
        each: list[Memory] = [one.remember(latents, sources.mask) for one in attentions]
        return {f"memory_{name}": torch.stack([getattr(one, name) for one in each], 1) for name in Memory._fields}

    def _memories(self, remembered: Mapping[str, Tensor | None]) -> list[Memory]:
        """One for each attention: first that before the first layer."""
        tensors = [remembered.get(f"memory_{name}") for name in Memory._fields]
        there = [tensor.unbind(1) for tensor in tensors if tensor is not None]
        return [Memory(*parts) for parts in zip(*there, strict=True)]

    def _fuse(
        self, ids: Int[Tensor, "B L"], memories: Sequence[Memory], read: Read | None = None
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L S"] | None]:
        """The text's embeddings with what it has read in the sources, and its attention mass on each.

        Concatenated sources are read in the backbone, where no mass is known.
        """
        text = self.get_input_embeddings()(ids)
        fused, mass = text, None
        if memories and not isinstance(self.attention, Prefix):
            added, mass = self.attention.attend(text, memories[0])
            fused = text + added
        return (fused if read is None else fused + read(text)), mass

    def _before(self, sources: Sources, fused: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """With the concatenated sources before the text, where they are."""
        if not isinstance(self.attention, Prefix):
            return fused, mask
        prefix = self.attention(sources.latents.to(fused.dtype))
        return torch.cat([prefix, fused], 1), torch.cat([sources.mask, mask], 1)

    def _deeper(self, memories: Sequence[Memory]) -> dict[str, Sequence[Memory]]:
        """What the backbone is told for the attentions before its layers."""
        return {MEMORIES: memories[1:]} if len(memories) > 1 else {}

    def _states(
        self, sources: Sources, memories: Sequence[Memory], fused: Tensor, mask: Tensor
    ) -> Float[Tensor, "B L D"]:
        length = fused.shape[1]
        fused, mask = self._before(sources, fused, mask)
        states = self.backbone.base_model(
            inputs_embeds=fused,
            attention_mask=mask.long(),
            position_ids=_positions(mask),
            use_cache=False,
            **self._deeper(memories),
        ).last_hidden_state
        return states[:, -length:]

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
        memories = self._memories(self.remember(sources))
        fused, mass = self._fuse(ids, memories, read)
        states = self._states(sources, memories, fused, mask)
        logits = self._heads(states[:, start - 1], sources)
        return StudentOutput(states[:, start - 1 : start + length - 1], logits, sources, _looked(sources, mass, mask))

    def _heads(self, state: Float[Tensor, "B D"], sources: Sources) -> dict[str, Float[Tensor, "B _"]]:
        if not self.target_heads:
            return {}
        means = [sources.of(name).mean(1) for name in self.source_names]
        summary = torch.cat([state, *(mean.to(state.dtype) for mean in means)], -1)
        return {name: head(summary) for name, head in self.target_heads.items()}

    def read(
        self, inputs: Mapping[str, Padded], sources: Sources | None = None
    ) -> tuple[dict[str, Float[Tensor, "B _"]], Float[Tensor, "B S"]]:
        """The heads' logits by target field, without a response; and the dialogue's attention mass on each source."""
        sources = self.encode(inputs) if sources is None else sources
        dialogue = inputs[self.schema.dialogue.name]
        memories = self._memories(self.remember(sources))
        fused, mass = self._fuse(dialogue.values, memories)
        logits = self._heads(self._states(sources, memories, fused, dialogue.mask)[:, -1], sources)
        return logits, _looked(sources, mass, dialogue.mask)

    def read_targets(self, inputs: Mapping[str, Padded]) -> dict[str, Float[Tensor, "B _"]]:
        """The heads' logits of ``read`` alone."""
        return self.read(inputs)[0]

    def forward(
        self,
        input_ids: Int[Tensor, "B L"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        memory_key: Float[Tensor, "B A H N d"] | None = None,
        memory_value: Float[Tensor, "B A H N d"] | None = None,
        memory_mask: Bool[Tensor, "B A N"] | None = None,
        inputs_embeds: Float[Tensor, "B L D"] | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The form that ``generate`` calls, step by step with a cache.

        The memory is what ``remember`` makes of the sources, the same at every step; without it the text stands
        alone, as it does for the plain backbone. ``inputs_embeds`` is text with its concatenated sources before it.
        ``generate`` looks for ``logits_to_keep``: without it, it would have logits made of every token of the prompt.
        """
        memories = self._memories({"memory_key": memory_key, "memory_value": memory_value, "memory_mask": memory_mask})
        if inputs_embeds is not None:
            fused = inputs_embeds
        elif input_ids is None:
            raise ValueError("either input_ids or inputs_embeds")
        else:
            fused, _ = self._fuse(input_ids, memories)
        return self.backbone(
            inputs_embeds=fused,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            logits_to_keep=logits_to_keep,
            **self._deeper(memories),
            **kwargs,
        )

    @torch.no_grad()
    def answer(
        self,
        inputs: Mapping[str, Padded],
        max_new_tokens: int = 64,
        sources: Sources | None = None,
        **generation: Any,
    ) -> Int[Tensor, "B new"]:
        """Token ids of an answer to each row, padded on the right; greedy unless ``generation`` says else.

        Args:
            inputs: by input field; media may be missing.
            max_new_tokens: the longest answer.
            sources: what ``encode`` gave for these inputs, where it is known already.
            generation: anything that Hugging Face's ``generate`` takes.
        """
        sources = self.encode(inputs) if sources is None else sources
        dialogue = inputs[self.schema.dialogue.name]
        generation = {"do_sample": False, "max_new_tokens": max_new_tokens, **generation}
        if isinstance(self.attention, Prefix):
            text = self.get_input_embeddings()(dialogue.values)
            fused, mask = self._before(sources, text, dialogue.mask)
            answer: Tensor = self.generate(inputs_embeds=fused, attention_mask=mask.long(), **generation)
            return answer
        ids: Tensor = self.generate(
            input_ids=dialogue.values,
            attention_mask=dialogue.mask.long(),
            **self.remember(sources),
            **generation,
        )
        return ids[:, dialogue.values.shape[1] :]


def _looked(sources: Sources, mass: Tensor | None, mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B S"]:
    """The attention mass of a row's real tokens, averaged; zero where it is not known."""
    if mass is None:
        return sources.latents.new_zeros(len(mask), len(sources.names))
    real = mask[..., None]
    return torch.where(real, mass, 0.0).sum(1) / real.sum(1).clamp(min=1)


def _positions(mask: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Places of the real tokens, counted from the first; padding gets some place, which nothing sees."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
