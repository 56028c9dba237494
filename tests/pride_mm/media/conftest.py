"""One real clip, and the same clip in the forms that trip decoders."""

import io
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest


@pytest.fixture(scope="session")
def clip(data_dir: Path) -> Path:
    """A talking face: 426x240, 50 frames at 15 a second, AAC."""
    return data_dir / "mosi_mini" / "clips" / "03bSnISJMiM_1.mp4"


@pytest.fixture(scope="session")
def remux(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the clip's packets anew: without a stream, in another container, or shifted in time."""

    def write(suffix: str = ".mp4", streams: str = "va", shift: float = 0.0, late: float = 0.0, **options: str) -> Path:
        path = tmp_path_factory.mktemp("remux") / f"clip{suffix}"
        with av.open(str(clip)) as given, av.open(str(path), "w", container_options=options) as made:
            wanted = [stream for stream in given.streams if stream.type[0] in streams]
            copies = {stream.index: made.add_stream_from_template(stream) for stream in wanted}
            for packet in given.demux(wanted):
                if packet.dts is None:
                    continue
                by = int((shift + (late if packet.stream.type == "audio" else 0)) / packet.time_base)
                packet.pts, packet.dts = packet.pts + by, packet.dts + by
                packet.stream = copies[packet.stream.index]
                made.mux(packet)
        return path

    return write


@pytest.fixture(scope="session")
def edited(remux: Callable[..., Path]) -> Path:
    """The clip with an edit list that hides its first 12 frames."""
    return remux(shift=-0.8, avoid_negative_ts="disabled")


@pytest.fixture(scope="session")
def turn() -> Callable[[Path], Path]:
    """Turns an mp4 with a single track by a quarter, in the matrix of its track's header."""

    def turned(path: Path) -> Path:
        data = bytearray(path.read_bytes())
        matrix = data.index(b"tkhd") + 4 + 40
        quarter = [0, 0x10000, 0, -0x10000 & 0xFFFFFFFF, 0, 0, 0, 0, 0x40000000]
        data[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big") for number in quarter)
        path.write_bytes(data)
        return path

    return turned


@pytest.fixture(scope="session")
def rotated(remux: Callable[..., Path], turn: Callable[[Path], Path]) -> Path:
    """The clip, turned by a quarter."""
    return turn(remux(streams="v"))


@pytest.fixture(scope="session")
def av1(clip: Path) -> bytes:
    """The first frames of the clip as AV1."""
    buffer = io.BytesIO()
    with av.open(str(clip)) as given, av.open(buffer, "w", format="mp4") as made:
        stream = made.add_stream("libsvtav1", rate=15, options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number, frame in enumerate(given.decode(video=0)):
            if number < 12:
                ready = frame.reformat(width=320, height=240, format="yuv420p")
                ready.pts, ready.time_base = number, Fraction(1, 15)
                made.mux(stream.encode(ready))
        made.mux(stream.encode(None))
    if sys.platform == "linux":
        # SVT-AV1 gives root's process the highest real-time priority, and with it all that the process starts:
        # two such tests, and nothing else runs on two cores.
        for task in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(task), os.SCHED_OTHER, os.sched_param(0))
    return buffer.getvalue()
