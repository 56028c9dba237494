"""Sound of a recording of any length, piece by piece: memory holds one of them.

Letters: ``N`` samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from pride_mm.media.container import MediaError, Source, audio_stream, opened, video_stream
from pride_mm.media.sound import mono_resampler, one_channel

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Header:
    """What a container says of itself, unread: whether it has pictures and sound, and ``seconds`` (0 where unsaid)."""

    video: bool
    audio: bool
    seconds: float


def read_header(source: Source) -> Header:
    """The header of a media file of any length, at once.

    Raises:
        MediaError: it is missing, empty, or nothing that FFmpeg reads.
    """
    with opened(source) as container:
        has = video_stream(container) is not None, audio_stream(container) is not None
        return Header(*has, (container.duration or 0) / av.time_base)


def read_pieces(source: Source, rate: int, seconds: float = 30.0) -> Iterator[Sound]:
    """The sound from second 0 to the end as mono at ``rate`` Hz, in pieces of ``seconds``; the last one is shorter.

    Sound that starts late is preceded by silence.

    Raises:
        MediaError: there is no sound, or it doesn't decode.
    """
    size = round(seconds * rate)
    with opened(source) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError("has no sound")
        resampler = mono_resampler(stream, rate, "mix")
        origin = (container.start_time or 0) / av.time_base
        held: list[Sound] = []
        count, begun = 0, False
        for frame in container.decode(stream):
            if not begun:
                begun, late = True, round((float(frame.time or 0.0) - origin) * rate)
                held, count = [np.zeros(max(late, 0), np.float32)], max(late, 0)
            frame.pts = None  # the resampler would else refuse or fill gaps between time stamps that were rounded
            for piece in resampler.resample(frame):
                held.append(one_channel(piece, "mix"))
                count += len(held[-1])
            while count >= size:
                whole = np.concatenate(held)
                yield whole[:size]
                held, count = [whole[size:]], count - size
        if not begun:
            raise MediaError("has no sound in it: it is empty")
        held += [one_channel(piece, "mix") for piece in resampler.resample(None)]
        rest = np.concatenate(held)
        yield from (rest[at : at + size] for at in range(0, len(rest), size))
