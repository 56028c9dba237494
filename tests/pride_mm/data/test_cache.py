import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pride_mm.data.cache import Cache
from pride_mm.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from pride_mm.data.cache import Cache
with Cache(Path(sys.argv[1]), 0, 9).lock("abc.tar"):
    print("held", flush=True)
    time.sleep(600)
"""


def put(cache: Cache, name: str, size: int) -> None:
    cache.path(name).parent.mkdir(exist_ok=True)
    cache.path(name).write_bytes(bytes([1]) * size)


def test_the_death_of_who_holds_a_lock_sets_it_free(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match="without getting anywhere: look for one that hangs"),
        Cache(tmp_path, 0, 0.2).lock("abc.tar"),
    ):
        pass
    with Cache(tmp_path, 0, 0.2).lock("def.tar"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Cache(tmp_path, 0, 0.2).lock("abc.tar"):
        pass


def test_one_thread_at_a_time(tmp_path: Path) -> None:
    cache, inside, most = Cache(tmp_path, 0, 60), [0], [0]

    def work() -> None:
        for _ in range(5):
            with cache.lock("abc.tar"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    import os

    cache = Cache(tmp_path, 3 * 4096, 1)
    for age, name in enumerate(["aa.tar", "bb.tar", "cc.tar"]):
        put(cache, name, 4096)
        os.utime(cache.path(name), (1000 + age, 1000 + age))
    held = cache.open("aa.tar")  # which is a use, too
    assert held is not None
    os.utime(cache.path("aa.tar"), (1, 1))
    cache.make_room(4096)
    assert [cache.path(name).exists() for name in ("aa.tar", "bb.tar", "cc.tar")] == [True, False, True]
    cache.make_room(1 << 30)
    assert [cache.path(name).exists() for name in ("aa.tar", "bb.tar", "cc.tar")] == [True, False, False]
    del held
    cache.make_room(1 << 30)
    assert not cache.path("aa.tar").exists()


def test_a_file_of_another_size_is_thrown_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 0, 1)
    assert cache.open("aa.tar") is None
    put(cache, "aa.tar", 100)
    assert cache.open("aa.tar", 100) is not None
    assert cache.open("aa.tar", 200) is None
    assert not cache.path("aa.tar").exists()
