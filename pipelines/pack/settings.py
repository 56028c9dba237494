"""How items are packed: read from ``configs/pack/*.toml``, ``--set key=value`` on top."""

from typing import Annotated

from pydantic import Field as Setting

from pride_mm.media import AudioPacking, MediaLimits, VideoPacking
from pride_mm.schema import Frozen


class PackSettings(Frozen):
    """One way to pack.

    Attributes:
        seed: of the order in a split.
        shard_samples, shard_bytes: a shard ends with the sample that reaches one of them.
        item_seconds, item_bytes: the time and the memory that converting one item may take.
        video, audio: how media are written.
        limits: what is refused before it is decoded.
    """

    description: str = ""
    seed: int = 0
    shard_samples: Annotated[int, Setting(ge=1)] = 10_000
    shard_bytes: Annotated[int, Setting(ge=1)] = 1024**3
    item_seconds: Annotated[float, Setting(gt=0)] = 600.0
    item_bytes: Annotated[int, Setting(ge=64 * 1024**2)] = 4 * 1024**3
    video: VideoPacking = VideoPacking()
    audio: AudioPacking = AudioPacking()
    limits: MediaLimits = MediaLimits()
