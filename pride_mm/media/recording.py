"""Sound as it lies in a shard: mono FLAC, or mono Opus in Ogg.

Letters: ``N`` samples. The same samples and the same version of PyAV give the same bytes.
"""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import Float32

from pride_mm.media.container import MediaError

# For one channel of speech; the difference from the original is hard to hear.
_OPUS = {"b": "32000", "application": "audio"}


def encode_flac(waveform: Float32[np.ndarray, " N"], rate: int) -> bytes:
    """FLAC of 16 bits; raises MediaError where the waveform is empty."""
    return _encode(waveform, rate, "flac", "flac", {})


def encode_opus(waveform: Float32[np.ndarray, " N"], rate: int) -> bytes:
    """Opus in Ogg; raises MediaError where the waveform is empty, or Opus doesn't know the rate."""
    if rate not in (8000, 12000, 16000, 24000, 48000):
        raise MediaError(f"cannot be Opus at {rate} Hz; it knows 8000, 12000, 16000, 24000 and 48000")
    return _encode(waveform, rate, "ogg", "libopus", _OPUS)


def _encode(waveform: Float32[np.ndarray, " N"], rate: int, format: str, codec: str, options: dict[str, str]) -> bytes:
    if waveform.size == 0:
        raise MediaError("has no sound in it: it is empty")
    samples = np.rint(np.clip(waveform, -1, 1).astype(np.float64) * 32768).clip(-32768, 32767).astype(np.int16)[None]
    buffer = io.BytesIO()
    # bitexact: else Ogg's serial number is drawn by chance, and versions are written
    with av.open(buffer, "w", format=format, container_options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono", options=options)
        stream.codec_context.format = "s16"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.codec_context.open()
        step = stream.codec_context.frame_size or 4096
        for begin in range(0, samples.shape[1], step):
            block = np.ascontiguousarray(samples[:, begin : begin + step])
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
