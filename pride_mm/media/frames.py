"""Frames of a clip, evenly spaced, as the student's encoders take them.

Letters: ``F`` frames, ``H`` height, ``W`` width; ``h`` and ``w`` those of the clip.

Three decoders give the same full-size frames by bit. ``auto`` is torchcodec where it works, else PyAV,
and PyAV wherever the chosen one would be wrong or fails: which frames come out never depends on the
choice. A plain mp4, as shards hold it, isn't probed: its tables say how many frames it has.
"""

import io
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pride_mm.fields import MediaData
from pride_mm.media.boxes import read_plain
from pride_mm.media.container import LIMITS, MediaError, Source, check_bytes, check_pixels, probe_pictures
from pride_mm.media.settings import MediaLimits
from pride_mm.media.track import spaced

Backend = Literal["auto", "torchcodec", "decord", "pyav"]


def read_frames(
    source: Source | MediaData,
    count: int,
    size: int,
    *,
    frames: int | None = None,
    backend: Backend = "auto",
    limits: MediaLimits = LIMITS,
) -> UInt8[Tensor, "F 3 H W"]:
    """Read ``count`` frames, evenly spaced over the clip; a frame is repeated where the clip is shorter.

    Args:
        source: a clip as bytes or as a path, or its pictures as a tuple of bytes.
        count: how many frames, F.
        size: H and W in pixels: the square in the middle of the picture, resized.
        frames: how many frames the clip shows, where that is known: a clip with fewer is damaged.
        backend: what decodes wherever it is right.
        limits: what is refused before it is decoded.

    Raises:
        MediaError: there are no pictures, not as many as said, they are too large, or they don't decode.
    """
    if isinstance(source, tuple):
        if frames is not None and len(source) != frames:
            raise MediaError(f"has {len(source)} pictures, {frames} were packed")
        return fit(_open_pictures(source, count, limits), size)
    return fit(decode(source, count, frames=frames, backend=backend, limits=limits), size)


def decode(
    source: Source,
    count: int,
    *,
    frames: int | None = None,
    backend: Backend = "auto",
    limits: MediaLimits = LIMITS,
) -> UInt8[Tensor, "F 3 h w"]:
    """The same as ``read_frames``, full size."""
    from pride_mm.media.decoders import pyav

    check_bytes(source, limits)
    decoder, suits = _decoder(backend), True
    plain = read_plain(source, limits) if isinstance(source, bytes) else None
    if plain is not None and frames in (None, plain.frames):
        frames = plain.frames  # every decoder reads it alike, and decord, which leaks on what it cannot open, opens it
    else:
        container, video = probe_pictures(source, limits)
        frames, suits = frames or video.frames, decoder.suits(container, video)
    indices = spaced(frames, count)
    if suits and decoder is not pyav:
        try:
            pictures: Tensor = decoder.decode(source, indices, frames, limits)
            return pictures
        # torchcodec throws RuntimeError, ValueError, IndexError; decord DECORDError, too: PyAV then decides
        except Exception:  # noqa: BLE001
            pass
    return pyav.decode(source, indices, frames, limits)


def _decoder(backend: Backend) -> ModuleType:
    from pride_mm.media.decoders import decord, pyav, torchcodec

    if backend == "auto":
        return torchcodec if torchcodec.is_available() else pyav
    return {"torchcodec": torchcodec, "decord": decord, "pyav": pyav}[backend]


def fit(pictures: UInt8[Tensor, "F 3 h w"], size: int) -> UInt8[Tensor, "F 3 H W"]:
    """The square in the middle, resized to ``size``."""
    height, width = pictures.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pictures[..., top : top + side, left : left + side]
    if side != size:
        square = torch.nn.functional.interpolate(square, (size, size), mode="bilinear", antialias=True)
    return square.contiguous()


def _open_pictures(source: tuple[bytes, ...], count: int, limits: MediaLimits) -> UInt8[Tensor, "F 3 h w"]:
    from PIL import Image, UnidentifiedImageError

    if not source:
        raise MediaError("has no pictures")
    opened: dict[int, Tensor] = {}
    indices = spaced(len(source), count)
    try:
        for index in set(indices):
            with Image.open(io.BytesIO(source[index]), formats=("JPEG", "WEBP")) as image:
                check_pixels(*image.size, limits)
                opened[index] = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except MediaError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"has a picture that cannot be read ({type(error).__name__})") from None
    if len({picture.shape for picture in opened.values()}) > 1:
        raise MediaError("has pictures of different sizes")
    return torch.stack([opened[index] for index in indices])
