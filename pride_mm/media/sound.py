"""Sound as one channel of float32, read from anything by PyAV, with a late start filled by silence.

Letters: ``N`` samples.
"""

from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from pride_mm.media.container import (
    LIMITS,
    SOUND_SLACK,
    MediaError,
    Source,
    audio_stream,
    check_seconds,
    opened,
    promised_sound,
)
from pride_mm.media.settings import MediaLimits
from pride_mm.media.track import check_cut

Channel = Literal["mix", "left", "right"]
# Seconds decoded before a cut, so that codec and resampler have settled where it begins.
_RUN_UP = 0.5


def read_part(
    source: Source,
    rate: int,
    start: float,
    end: float | None,
    channel: Channel = "mix",
    limits: MediaLimits = LIMITS,
) -> NDArray[np.float32]:
    """The sound from ``start`` to ``end`` seconds of its clip (None: to the end), mono, (N,).

    Raises:
        MediaError: there is no sound, it is too long or not a number, it doesn't decode, or the part lies outside.
    """
    with opened(source, limits) as container:
        length = (container.duration or 0) / av.time_base
        if length:
            check_cut(start, end, length)
        check_seconds((length if end is None else min(end, length or end)) - start, limits)
        return read_opened(container, rate, start, end, channel, limits)


def read_opened(
    container: Any, rate: int, start: float, end: float | None, channel: Channel, limits: MediaLimits
) -> NDArray[np.float32]:
    """``read_part`` of a container that is open already, without a look at its length."""
    stream = audio_stream(container)
    if stream is None:
        raise MediaError("has no sound")
    origin = (container.start_time or 0) / av.time_base
    if start > 0:
        target = origin + max(start - _RUN_UP, 0.0)
        container.seek(int(target / stream.time_base), stream=stream, backward=True)
    until = start + limits.max_seconds if end is None else end
    first, pieces = _resample(container, stream, rate, origin + until, channel)
    if first is None or not pieces:
        raise MediaError("has no sound in it: it is empty")
    sound = np.concatenate(pieces)
    if not np.isfinite(sound.sum(dtype=np.float64)):
        raise MediaError(f"has {np.count_nonzero(~np.isfinite(sound))} samples of sound that are not numbers")
    first -= origin
    reached = first + len(sound) / rate
    if end is None:
        check_seconds(reached - start, limits)
    promised = promised_sound(container, stream)
    ends = first + promised if start == 0 else (stream.start_time or 0) * float(stream.time_base) - origin + promised
    if promised and reached < min(ends, until) - SOUND_SLACK:
        raise MediaError(f"is truncated or damaged: {reached - start:.2f} of {ends - start:.2f} s of sound decode")
    lead = round((first - start) * rate)
    sound = np.concatenate([np.zeros(lead, np.float32), sound]) if lead > 0 else sound[-lead:]
    return np.ascontiguousarray(sound if end is None else sound[: round((end - start) * rate)])


def _resample(
    container: Any, stream: Any, rate: int, end: float, channel: Channel
) -> tuple[float | None, list[NDArray[np.float32]]]:
    """The time of the first decoded sample, and the mono pieces from there to about ``end``."""
    resampler = mono_resampler(stream, rate, channel)
    first: float | None = None
    pieces: list[NDArray[np.float32]] = []
    count = 0
    for frame in container.decode(stream):
        if first is None:
            first = float(frame.time or 0.0)
        # the resampler would else refuse or fill gaps between time stamps that were rounded
        frame.pts = None
        for piece in resampler.resample(frame):
            pieces.append(one_channel(piece, channel))
            count += len(pieces[-1])
        if first + count / rate > end + _RUN_UP:
            break
    if first is not None:
        pieces += [one_channel(piece, channel) for piece in resampler.resample(None)]
    return first, pieces


def mono_resampler(stream: Any, rate: int, channel: Channel) -> Any:
    """What brings a stream to ``rate``; ``one_channel`` of what comes out of it is mono."""
    # of float samples FFmpeg's own mix of two channels is louder than either, and clips
    surround = channel == "mix" and stream.codec_context.channels > 2
    return av.AudioResampler(format="s32p" if surround else "fltp", layout="mono" if surround else None, rate=rate)


def one_channel(piece: Any, channel: Channel) -> NDArray[np.float32]:
    """The samples of a resampled frame as mono, (N,)."""
    planes = piece.to_ndarray()
    if planes.dtype == np.int32:
        planes = (planes / 2**31).astype(np.float32)
    if channel == "mix" and len(planes) > 1:
        mixed: NDArray[np.float32] = planes.mean(axis=0)
        return mixed
    chosen: NDArray[np.float32] = planes[1 if channel == "right" and len(planes) > 1 else 0]
    return chosen
