"""Sound as a tensor, as the student's encoders take it.

Letters: ``N`` samples. FLAC and Opus, as they lie in shards, are read by torchcodec where it works, at a third of
PyAV's cost; of FLAC both give the same samples by bit. Anything else is read by PyAV.
"""

from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from pride_mm.media.container import LIMITS, Source, check_bytes, opened
from pride_mm.media.settings import MediaLimits
from pride_mm.media.sound import read_opened

# What begins so is nothing but sound from second 0.
_OF_SHARDS = (b"fLaC", b"OggS")


def read_audio(
    source: Source,
    rate: int,
    seconds: float | None = None,
    *,
    backend: Literal["auto", "torchcodec", "pyav"] = "auto",
    limits: MediaLimits = LIMITS,
) -> Float32[Tensor, " N"]:
    """Read sound as mono at ``rate`` Hz, at most ``seconds`` of it, in [-1, 1].

    Sound that starts late in its clip is padded with silence, so that it stays beside the pictures.

    Raises:
        MediaError: there is no sound, it is too long or not a number, or it doesn't decode.
    """
    from pride_mm.media.decoders import torchcodec

    check_bytes(source, limits)
    plain = isinstance(source, bytes) and source[:4] in _OF_SHARDS
    if plain and backend != "pyav" and torchcodec.is_available():
        assert isinstance(source, bytes)
        try:
            return torchcodec.decode_sound(source, rate, seconds)
        except Exception:  # noqa: BLE001 - it throws RuntimeError, ValueError, IndexError; PyAV then decides
            pass
    with opened(source, limits) as container:
        return torch.from_numpy(read_opened(container, rate, 0.0, seconds, "mix", limits))
