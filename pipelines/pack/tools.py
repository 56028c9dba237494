"""Versions of what bytes depend on: the same input and the same versions give the same bytes."""

import importlib.metadata
import re
from fractions import Fraction
from functools import cache

_PACKAGES = ("pride-mm", "av")


@cache
def tool_versions() -> dict[str, str]:
    """The packages, FFmpeg's libraries and x264, by name."""
    import av

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    libraries = {name: number for name, number in sorted(av.library_versions.items()) if name != "libavdevice"}
    versions |= {name: ".".join(map(str, number)) for name, number in libraries.items()}
    return versions | {"x264": _x264()}


def _x264() -> str:
    """x264 tells its version only in what it writes: so one black picture is written."""
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    packets = [*encoder.encode(av.VideoFrame(16, 16, "yuv420p")), *encoder.encode(None)]
    found = re.search(rb"x264 - core ([0-9]+ r[0-9]+ [0-9a-f]+|[0-9]+)", b"".join(map(bytes, packets)))
    return found.group(1).decode() if found else "unknown"
