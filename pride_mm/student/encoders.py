"""Encoders of video and audio by name. Each gives tokens ``(B, S, D)`` and their mask, from rows that have the source.

``register`` adds one; ``build_encoder`` makes one for a field of a schema. Letters: ``B`` batch, ``S`` tokens, ``E``
width of a body's features, ``D`` width of the student.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pride_mm.errors import UserError
from pride_mm.schema import Field, Kind
from pride_mm.student.config import ENCODERS, EncoderSettings

Builder = Callable[[Any, EncoderSettings, int], nn.Module]
Tokens = tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]
Features = tuple[Float[Tensor, "B S E"], Bool[Tensor, "B S"]]

_BUILDERS: dict[tuple[Kind, str], Builder] = {}


class BodyEncoder(nn.Module):
    """A ``body`` with weights of its own, whose features are projected to the student's width.

    A frozen body gives the same features of the same media each time; where they are known, they may be given in place
    of the media, from which their number of dimensions tells them.
    """

    body: nn.Module

    def __init__(self, features_width: int, width: int, places: int = 0) -> None:
        super().__init__()
        self.projection = nn.Linear(features_width, width)
        self.place = nn.Parameter(torch.empty(places, width)) if places else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        if self.place is not None:
            nn.init.normal_(self.place, std=0.02)

    def features(self, values: Tensor, mask: Tensor) -> Features:
        """What the body makes of media, before anything that is new and always learns."""
        raise NotImplementedError

    def forward(self, values: Tensor, mask: Tensor) -> Tokens:
        features, real = (values, mask) if values.dim() == 3 else self.features(values, mask)
        tokens = self.projection(features.to(self.projection.weight.dtype))
        if self.place is not None:
            assert tokens.shape[1] <= len(self.place), "more frames than the schema says"
            tokens = tokens + self.place[: tokens.shape[1]]
        return tokens, real


def register(kind: Kind, name: str) -> Callable[[Builder], Builder]:
    """Make a class known as the encoder ``name`` of ``kind``; it is called with field, settings and width."""

    def keep(builder: Builder) -> Builder:
        _BUILDERS[kind, name] = builder
        return builder

    return keep


def build_encoder(field: Field, settings: EncoderSettings, width: int) -> nn.Module:
    """The encoder of a media field, with tokens of ``width``; raises UserError that lists the names."""
    # They register themselves when they are imported.
    from pride_mm.student import audio, clips, video  # noqa: F401

    if settings.name not in ENCODERS[field.kind]:
        raise UserError(f"No {field.kind} encoder '{settings.name}': choose one of {', '.join(ENCODERS[field.kind])}.")
    name: str = settings.name
    if name == "transformers" and "num_frames" in (settings.config or {}):
        name = "transformers-video"
    return _BUILDERS[field.kind, name](field, settings, width)
