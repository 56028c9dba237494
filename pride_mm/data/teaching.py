"""What the teacher said of one sample, as a member of a ``.teacher.tar``.

safetensors, so that reading it runs no code. Letters: ``T`` response tokens, ``K`` top-k, ``D`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pride_mm.data.batch import Teaching
from pride_mm.data.members import LESSON

MEMBER = LESSON
"""What follows the key in the member's name."""

_STORED = {
    "response_ids": torch.int32,
    "gold_log_probs": torch.float32,
    "features": torch.float32,
    "log_probs": torch.float16,
    "log_tail": torch.float32,  # it cannot be recovered from rounded log-probabilities
    "scale": torch.float32,
    "starts": torch.int32,
}
FP8 = torch.float8_e4m3fn
_FP8_MAX = 448.0


_IDS = ("ids_low", "ids_high")


@dataclass(frozen=True)
class Lesson:
    """The teacher's word on one response.

    Attributes:
        response_ids: the tokens that were scored; the student's tokenizer must give the same.
        written: the teacher wrote this response itself, because the item had none.
        ids, log_probs, log_tail: the top-k of each token, at temperature 1, and the log of the mass outside of it; or
        states: the last hidden states, of which the teacher's head makes all its logits, in bfloat16; or, where there
        is a scale: in float8 (e4m3), to be multiplied by it.
        gold_log_probs: log-probability of the scored token itself.
        features: the last hidden states, averaged over the response.
        starts: the byte of the response's text at which each token begins, as ``token_starts`` has it.
        text: the response, where the teacher wrote it.
        asked: SHA-256 of who was asked what; what is asked again in the same words need not be answered again.
        counts: which tokens it says something of; None is all. Not stored.
    """

    response_ids: Int[Tensor, " T"]
    written: bool
    gold_log_probs: Float[Tensor, " T"]
    features: Float[Tensor, " D"]
    ids: Int[Tensor, "T K"] | None = None
    log_probs: Float[Tensor, "T K"] | None = None
    log_tail: Float[Tensor, " T"] | None = None
    states: Float[Tensor, "T D"] | None = None
    scale: Float[Tensor, " T"] | None = None
    starts: Int[Tensor, " T"] | None = None
    text: str = ""
    asked: str = "0" * 64
    counts: Bool[Tensor, " T"] | None = None

    def in_fp8(self) -> Self:
        """With states of half the size, each row scaled to the range of float8."""
        assert self.states is not None
        states = self.states.float()
        scale = states.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny) / _FP8_MAX
        return replace(self, states=(states / scale[:, None]).to(FP8), scale=scale)

    @property
    def whole_states(self) -> Float[Tensor, "T D"] | None:
        """The states as they are to be used."""
        if self.states is None or self.scale is None:
            return self.states
        return (self.states.float() * self.scale[:, None]).to(torch.bfloat16)

    def to_bytes(self) -> bytes:
        """The member's content; the same lesson gives the same bytes. Rounded: ``_STORED`` says to what."""
        tensors = {name: getattr(self, name) for name in _STORED}
        stored = {name: one.to(_STORED[name]).contiguous() for name, one in tensors.items() if one is not None}
        if self.states is not None:
            stored["states"] = self.states.to(torch.bfloat16 if self.scale is None else FP8).contiguous()
        if self.ids is not None:
            stored |= _packed(self.ids)
        about = {"written": [self.written], "asked": list(bytes.fromhex(self.asked))}
        about |= {"text": list(self.text.encode())} if self.text else {}
        return save(stored | {name: torch.tensor(one, dtype=torch.uint8) for name, one in about.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError where ``data`` is no lesson."""
        try:
            tensors = load(data)
            written = bool(tensors.pop("written").item())
            asked = bytes(tensors.pop("asked").tolist()).hex()
            text = bytes(tensors.pop("text", torch.zeros(0)).byte().tolist()).decode()
            low, high = (tensors.pop(name, None) for name in _IDS)
            if low is not None:
                tensors["ids"] = low.int() if high is None else low.int() | high.int() << 16
            return cls(written=written, asked=asked, text=text, **tensors)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"not what a teacher wrote ({type(error).__name__})") from None


def _packed(ids: Tensor) -> dict[str, Tensor]:
    """Two bytes an id, three where the vocabulary wants them."""
    low = {_IDS[0]: (ids & 0xFFFF).to(torch.uint16).contiguous()}
    return low if int(ids.max()) < 1 << 16 else low | {_IDS[1]: (ids >> 16).to(torch.uint8).contiguous()}


def stack(lessons: Sequence[Lesson | None], length: int) -> Teaching | None:
    """Lessons side by side, padded to ``length`` response tokens; None where there is none at all."""
    given = [lesson for lesson in lessons if lesson is not None]
    if not given:
        return None
    rows = len(lessons)

    def join(name: str, *shape: int) -> Tensor | None:
        source = "whole_states" if name == "states" else name
        values = [getattr(lesson, source) if lesson is not None else None for lesson in lessons]
        some = next((value for value in values if value is not None), None)
        if some is None:
            return None
        dtype = some.dtype if name == "states" else torch.long if name == "ids" else torch.float32
        joined = torch.zeros(rows, *shape, *some.shape[len(shape) :], dtype=dtype)
        for row, value in enumerate(values):
            if value is not None and shape:
                joined[row, : len(value)] = value
            elif value is not None:
                joined[row] = value
        return joined

    mask: Bool[Tensor, "B T"] = torch.zeros(rows, length, dtype=torch.bool)
    for row, lesson in enumerate(lessons):
        if lesson is not None:
            mask[row, : len(lesson.response_ids)] = True if lesson.counts is None else lesson.counts
    features = join("features")
    assert features is not None
    return Teaching(
        features=features,
        mask=mask,
        written=torch.tensor([lesson is not None and lesson.written for lesson in lessons]),
        **{name: join(name, length) for name in ("ids", "log_probs", "log_tail", "states")},
    )
