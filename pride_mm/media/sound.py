"""Sound as one channel of float32, and FLAC of it.

Letters: ``N`` samples.
"""

import io
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from pride_mm.media.container import MediaError, Source, audio_stream, opened

# Seconds decoded before a cut, so that codec and resampler have settled where it begins.
_RUN_UP = 0.5
# A transcript's end may lie a little behind the recording's.
END_SLACK = 1.0


def read_audio(source: Source, rate: int, seconds: float | None = None) -> Float32[Tensor, " N"]:
    """Read sound as mono at ``rate`` Hz, at most ``seconds`` of it, in [-1, 1].

    Sound that starts late in its clip is padded with silence, so that it stays beside the pictures.

    Raises:
        MediaError: there is no sound, or it doesn't decode.
    """
    return torch.from_numpy(read_part(source, rate, 0.0, seconds))


def read_part(source: Source, rate: int, start: float, end: float | None) -> NDArray[np.float32]:
    """The sound from ``start`` to ``end`` seconds of its clip (None: to the end), mono, (N,)."""
    with opened(source) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError("has no sound")
        origin = (container.start_time or 0) / av.time_base
        if start > 0:
            target = origin + max(start - _RUN_UP, 0.0)
            container.seek(int(target / stream.time_base), stream=stream, backward=True)
        first, pieces = _resample(container, stream, rate, None if end is None else origin + end)
    if first is None:
        raise MediaError("has no sound in it: it is empty")
    sound = np.concatenate(pieces)
    lead = round((first - origin - start) * rate)
    sound = np.concatenate([np.zeros(lead, np.float32), sound]) if lead > 0 else sound[-lead:]
    return np.ascontiguousarray(sound if end is None else sound[: round((end - start) * rate)])


def _resample(
    container: Any, stream: Any, rate: int, end: float | None
) -> tuple[float | None, list[NDArray[np.float32]]]:
    """The time of the first decoded sample, and the mono pieces from there to about ``end``."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    first: float | None = None
    pieces: list[NDArray[np.float32]] = []
    for frame in container.decode(stream):
        if first is None:
            first = float(frame.time or 0.0)
        # the resampler would else refuse or fill gaps between time stamps that were rounded
        frame.pts = None
        pieces += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame)]
        if end is not None and first + sum(map(len, pieces)) / rate > end + _RUN_UP:
            break
    if first is not None:
        pieces += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(None)]
    return first, pieces


def encode_flac(waveform: Float32[Tensor, " N"], rate: int) -> bytes:
    """FLAC of 16 bits: the same bytes for the same waveform and the same version of PyAV.

    Raises:
        MediaError: the waveform is empty.
    """
    if waveform.numel() == 0:
        raise MediaError("has no sound in it: it is empty")
    samples = (waveform.clamp(-1, 1).double() * 32768).round().clamp(-32768, 32767).short().numpy()[None]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        stream.codec_context.format = "s16"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.codec_context.open()
        step = stream.codec_context.frame_size or 4096
        for begin in range(0, samples.shape[1], step):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, begin : begin + step]), format="s16", layout="mono"
            )
            frame.rate, frame.pts = rate, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
