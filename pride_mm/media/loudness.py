"""Loudness of sound after ITU-R BS.1770 (EBU R128), measured by FFmpeg's own meter, and sound brought to one.

Letters: ``N`` samples.
"""

import math
from fractions import Fraction

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

_SILENT = -70.0  # LUFS, the standard's absolute gate
_HIGHEST = 10 ** (-1 / 20)  # of full scale: EBU R128 leaves 1 dB to the codecs
_BLOCK = 4096


def loudness(sound: NDArray[np.float32], rate: int) -> float:
    """The integrated loudness of one channel in LUFS; -inf where it is silent or shorter than 0.4 s."""
    graph = av.filter.Graph()
    chain = [
        graph.add_abuffer(format="flt", sample_rate=rate, layout="mono", time_base=Fraction(1, rate)),
        graph.add("ebur128", "metadata=1"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*chain).configure()
    measured = _SILENT
    for begin in range(0, len(sound), _BLOCK):
        block = np.ascontiguousarray(sound[None, begin : begin + _BLOCK])
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        graph.push(frame)
        measured = _drained(graph, measured)
    graph.push(None)
    measured = _drained(graph, measured)
    return measured if math.isfinite(measured) and measured > _SILENT else -math.inf


def _drained(graph: av.filter.Graph, measured: float) -> float:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return measured
        measured = float(frame.metadata.get("lavfi.r128.I", measured))


def to_loudness(sound: NDArray[np.float32], rate: int, target: float) -> NDArray[np.float32]:
    """The sound at ``target`` LUFS by one gain, less where its peak would pass -1 dB; silence stays silence."""
    measured = loudness(sound, rate)
    if not math.isfinite(measured):
        return sound
    gain = min(10 ** ((target - measured) / 20), _HIGHEST / float(np.abs(sound).max()))
    return (sound * np.float32(gain)).astype(np.float32)
