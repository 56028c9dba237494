"""Encoders of video and audio by name. Each gives tokens ``(B, S, D)`` and their mask, from rows that have the source.

``register`` adds one; ``build_encoder`` makes one for a field of a schema.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pride_mm.errors import UserError
from pride_mm.schema import Field, Kind
from pride_mm.student.config import EncoderSettings

Builder = Callable[[Any, EncoderSettings, int], nn.Module]
Tokens = tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]

_BUILDERS: dict[tuple[Kind, str], Builder] = {}


def register(kind: Kind, name: str) -> Callable[[Builder], Builder]:
    """Make a class known as the encoder ``name`` of ``kind``; it is called with field, settings and width."""

    def keep(builder: Builder) -> Builder:
        _BUILDERS[kind, name] = builder
        return builder

    return keep


def encoder_names(kind: Kind) -> tuple[str, ...]:
    """The encoders known for a kind."""
    # They register themselves when they are imported.
    from pride_mm.student import audio, video  # noqa: F401

    return tuple(name for known, name in _BUILDERS if known is kind)


def build_encoder(field: Field, settings: EncoderSettings, width: int) -> nn.Module:
    """The encoder of a media field, with tokens of ``width``; raises UserError that lists the names."""
    if settings.name not in encoder_names(field.kind):
        raise UserError(
            f"No {field.kind} encoder '{settings.name}': choose one of {', '.join(encoder_names(field.kind))}."
        )
    return _BUILDERS[field.kind, settings.name](field, settings, width)
