"""Text that attends to the sources again, before chosen layers of the backbone (after Flamingo, arXiv 2204.14198).

The layers stay as they are and keep their names, so a backbone's weights fit; what is read is added to what goes into
them. What the text attends to travels with the call and not in a module: a layer that is computed again for its
gradient reads the same.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from pride_mm.errors import UserError
from pride_mm.student.attention import Memory, MultiSourceAttention

MEMORIES = "source_memories"
"""The keyword by which a call of the backbone brings a memory for each attention, in their order."""


def check_layers(chosen: Sequence[int], layers: int, fusion: str) -> None:
    """Raises UserError where the text cannot attend before these layers."""
    if chosen and fusion == "concat":
        raise UserError("attended_layers is for sources that are attended to; fusion=concat puts them before the text.")
    if sorted(set(chosen)) != list(chosen) or (chosen and not 0 < chosen[0] <= chosen[-1] < layers):
        given = ", ".join(map(str, chosen))
        raise UserError(
            f"attended_layers: got {given}. Allowed are rising numbers from 1 to {layers - 1}: the backbone has "
            f"{layers} layers, and before the first one the text attends anyway."
        )


def attend_before(backbone: Any, attentions: dict[int, MultiSourceAttention]) -> None:
    """Let the text attend before the layers of these numbers."""
    for number, layer in enumerate(backbone.base_model.layers if attentions else ()):
        place = list(attentions).index(number) if number in attentions else None
        layer.register_forward_pre_hook(partial(_attend, attentions.get(number), place), with_kwargs=True)


def _attend(
    attention: MultiSourceAttention | None, place: int | None, _layer: nn.Module, given: tuple[Any, ...], more: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The layer's arguments, with what was read, and without the memories, which it doesn't know."""
    rest = {name: value for name, value in more.items() if name != MEMORIES}
    memories: Sequence[Memory] = more.get(MEMORIES) or ()
    if attention is None or place is None or not memories:
        return given, rest
    states = given[0]
    added, _ = attention.attend(states, memories[place])
    return (states + added.to(states.dtype), *given[1:]), rest
