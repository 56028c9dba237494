import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from pipelines.workers import Bounds, Lost, processes
from pride_mm.errors import SampleError


def double(number: int) -> int:
    return 2 * number


def slow_first(number: int) -> tuple[int, int]:
    time.sleep(0.2 if number == 0 else 0)
    return number, os.getpid()


def misbehave(what: str) -> str:
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "aborts":
        os.abort()
    if what == "leaves":
        os._exit(7)
    if what == "hangs":
        signal.pause()
    if what == "eats":
        return str(len([bytearray(1 << 20) for _ in range(4096)]))
    if what == "large":
        return "x" * 3_000_000
    return what


def fail(number: int) -> int:
    if number == 3:
        raise SampleError("place", "field", f"reason {number}")
    return number


def killed_once(marks: Path, number: int) -> int:
    """Killed at the first time only."""
    mark = marks / str(number)
    if number % 5 == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_tasks_from_several_processes() -> None:
    with processes(3) as workers:
        results = list(workers.run(slow_first, range(40)))
    assert [number for number, _ in results] == list(range(40))
    pids = {pid for _, pid in results}
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_a_lost_process_costs_only_its_task() -> None:
    whats = ["a", "killed", "large", "aborts", "b", "leaves", "c", "eats", "large", *"defgh"]
    with processes(2, Bounds(memory=256 << 20)) as workers:
        results = list(workers.run(misbehave, whats))
    lost = {result.task: result.reason for result in results if isinstance(result, Lost)}
    assert lost == {
        "killed": "was ended by SIGKILL",
        "aborts": "was ended by SIGABRT",
        "leaves": "ended with code 7",
        "eats": "needed more than 0.25 GiB of memory",
    }
    assert [result[0] for result in results if not isinstance(result, Lost)] == list("axbcxdefgh")


def test_a_task_that_hangs_is_stopped() -> None:
    with processes(2, Bounds(seconds=5)) as workers:
        results = list(workers.run(misbehave, ["a", "hangs", "b", "c"]))
    assert results == ["a", Lost("hangs", "took longer than 5 s"), "b", "c"]


def test_what_was_lost_can_be_run_again_before_the_rest_is_done(tmp_path: Path) -> None:
    function = partial(killed_once, tmp_path)
    done = []
    with processes(2) as workers:
        for result in workers.run(function, range(20)):
            done += workers.run(function, [result.task]) if isinstance(result, Lost) else [result]
    assert done == list(range(20))
    assert len(list(tmp_path.iterdir())) == 4


def test_an_exception_comes_out_in_its_place_with_where_it_was_raised() -> None:
    with processes(2) as workers:
        results = workers.run(fail, range(10))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SampleError, match="place: field: reason 3") as caught:
            next(results)
        assert "in fail" in "".join(caught.value.__notes__)
        assert list(workers.run(double, [21])) == [42], "the processes go on"


def test_tasks_are_taken_only_a_little_ahead() -> None:
    taken = []

    def tasks() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    with processes(2) as workers:
        results = workers.run(double, tasks())  # type: ignore[arg-type]
        assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
        assert len(taken) <= 10 + 3 * 2 + 1


def test_large_tasks_and_results_do_not_wait_for_each_other() -> None:
    tasks = [bytes([number]) * 2_000_000 for number in range(8)]
    with processes(2) as workers:
        assert list(workers.run(bytes.upper, tasks)) == [task.upper() for task in tasks]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_stays_when_the_program_ends(how: signal.Signals, tmp_path: Path) -> None:
    # a script without "if __name__ == '__main__'": its processes don't run it anew
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import signal, sys
        from pipelines.workers import processes
        from test_workers_functions import hang
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with processes(2) as workers:
            list(workers.run(hang, [1, 2, 3]))
        """)
    )
    (tmp_path / "test_workers_functions.py").write_text(
        "import os, time\ndef hang(number):\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{tmp_path}"}
    program = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert program.stdout is not None
    pids = [int(program.stdout.readline()) for _ in range(2)]
    program.send_signal(how)
    _, said = program.communicate(timeout=30)
    assert said.count("Traceback") == (how is signal.SIGINT)
    assert "KeyboardInterrupt" in said or how is signal.SIGKILL
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
