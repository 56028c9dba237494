import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    with pytest.raises(MediaError, match=r"killed the process that decoded it \(SIGSEGV\)"):
        guard.run(signal.raise_signal, signal.SIGSEGV)
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


def test_one_that_others_kill_is_replaced_without_a_word(guard: Guard) -> None:
    before, (pid,) = guard.restarts, guard.pids
    os.kill(pid, signal.SIGKILL)  # while nothing is asked of it
    assert guard.run(os.getpid) != pid
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(guard.run, time.sleep, 0.6)
        time.sleep(0.3)
        os.kill(guard.pids[0], signal.SIGKILL)  # in the middle
        assert asked.result() is None
    assert guard.restarts == before + 2


def test_there_are_as_many_at_once_as_asked_for_and_each_ends_after_its_tasks() -> None:
    with Guard(seconds=20, mebibytes=256, tasks=2, processes=2) as guard, ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda seconds: guard.run(time.sleep, seconds), [0.3] * 3))
        assert len(guard.pids) == 2
        first = set(guard.pids)
        list(threads.map(lambda seconds: guard.run(time.sleep, seconds), [0.1] * 6))
        assert not first & set(guard.pids)
        assert guard.restarts == 0
        pids = guard.pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
