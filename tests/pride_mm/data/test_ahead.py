import os
import threading

from pride_mm.data.ahead import Ahead
from pride_mm.errors import UserError


def test_the_newest_wish_counts_and_an_error_stops_nothing() -> None:
    done, go, begun, end = list[int](), threading.Event(), threading.Event(), threading.Event()

    def fetch(number: int) -> None:
        begun.set()
        assert go.wait(30)
        done.append(number)
        if number == 7:
            raise UserError("not there")
        if number == 9:
            end.set()

    ahead = Ahead(fetch)
    ahead.ask([1, 2, 3])
    assert begun.wait(30)
    ahead.ask([7, 8, 9])
    go.set()
    assert end.wait(30)
    assert done == [1, 7, 8, 9]


def test_a_forked_process_begins_with_nothing_to_do() -> None:
    wait, asked = threading.Event(), list[int]()
    ahead = Ahead(lambda number: asked.append(number) if number else wait.wait(30) and None)
    ahead.ask([0, 5])
    child = os.fork()
    if child == 0:
        ahead.ask([8])
        thread = ahead._thread
        if thread is not None:
            thread.join(30)
        os._exit(0 if asked == [8] else 1)
    wait.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
