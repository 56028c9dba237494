import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pride_mm.media import MediaError, VideoPacking, convert_video
from pride_mm.media.guard import Guard


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard(seconds=20, mebibytes=256) as guard:
        guard.run(int, 0)  # a process that has started answers at once
        yield guard


def test_it_hands_back_clips_and_reasons(guard: Guard, clip: Path) -> None:
    assert guard.run(convert_video, clip, VideoPacking(mode="copy")) == convert_video(clip, VideoPacking(mode="copy"))
    with pytest.raises(MediaError, match="cannot be read"):
        guard.run(convert_video, b"a text file\n" * 100)


def test_what_takes_too_much_memory_is_named(guard: Guard) -> None:
    with pytest.raises(MediaError, match="more than 256 MiB"):
        guard.run(bytearray, 1024**3)
    assert guard.run(int, 3) == 3


def test_a_process_that_dies_or_hangs_is_replaced(guard: Guard) -> None:
    with pytest.raises(MediaError, match="killed the process"):
        guard.run(os.kill, guard.run(os.getpid), signal.SIGSEGV)
    assert guard.run(int, 1) == 1
    guard.seconds = 0.5
    with pytest.raises(MediaError, match=r"longer than 0\.5 s"):
        guard.run(time.sleep, 60.0)
    guard.seconds = 20
    assert guard.run(int, 2) == 2


# An object of decord's that threads share hangs, aborts, or raises, now this and now that.
SHARED = """
import decord
from concurrent.futures import ThreadPoolExecutor
reader = decord.VideoReader({!r}, num_threads=1)
with ThreadPoolExecutor(4) as threads:
    list(threads.map(lambda n: reader.get_batch([n % 50, 7 * n % 50]), range(400)))
"""


def test_a_decoder_that_really_hangs_or_aborts_costs_its_own_task_only(guard: Guard, clip: Path) -> None:
    guard.seconds = 3
    with contextlib.suppress(Exception):
        guard.run(exec, SHARED.format(str(clip)), {})
    guard.seconds = 20
    assert guard.run(int, 4) == 4
