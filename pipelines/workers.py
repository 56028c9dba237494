"""A function run over many tasks at once: results in the tasks' order, and a process that dies costs only its task.

Decoders abort, hang and eat memory on bad input, so they work in processes that may. Each has a pipe of its own: in a
queue that all share, one that is killed while it holds the lock, or in the middle of a message, takes the others with
it. What processes send each other is made by this program itself, never by data.
"""

import contextlib
import errno
import fcntl
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

WORKERS = min(os.cpu_count() or 1, 32)
# A process is given a second task while it works on its first one, if a pipe holds it: else both sides could wait.
_FITS_PIPE = 16 << 10
_PIPE = 1 << 20
_FUNCTION, _TASK = b"F", b"T"
_READY = ()
_NO_MEMORY = 128 + errno.ENOMEM


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """In the place of a result: the process of this task died, or was stopped, and ``reason`` says why."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Bounds:
    """What one task may take: ``seconds`` of time, and ``memory`` in bytes on top of what the program itself needs."""

    seconds: float = 600.0
    memory: int = 4 << 30


class Workers(Protocol):
    """Something that runs tasks elsewhere: processes here, or machines there."""

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result | Lost[Task]]:
        """The results in the order of the tasks, a few of them ahead; memory doesn't grow with their number.

        ``function`` is a module's, or a ``functools.partial`` of one; it, tasks and results travel between processes.
        An exception that it raises comes out here, in its task's place. May be called again, also before an earlier
        call has come to its end.
        """
        ...


@contextmanager
def processes(number: int | None = None, bounds: Bounds = Bounds()) -> Iterator[Workers]:
    """``number`` processes (default: one a core) for as long as the block lasts; they start when there is work."""
    pool = _Processes(number or WORKERS, bounds)
    try:
        yield pool
    finally:
        pool.close()


class _Job:
    """A task on its way: ``outcome`` is (well, value) once it is back."""

    def __init__(self, function: bytes, task: Any) -> None:
        self.function, self.task = function, task
        self.message = _TASK + ForkingPickler.dumps(task)
        self.outcome: tuple[bool, Any] | None = None

    def result(self) -> Any:
        assert self.outcome is not None
        well, value = self.outcome
        if not well:
            raise value
        return value


class _Processes:
    """The pool. It moves only while somebody waits for a result: there is no thread in it."""

    def __init__(self, number: int, bounds: Bounds) -> None:
        self._number, self._bounds = number, bounds
        self._waiting: deque[_Job] = deque()
        self._processes: list[_Process] = []

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        sent = _FUNCTION + ForkingPickler.dumps(function)
        # imported once, where the processes come from, if this is the first work of this program
        home = getattr(getattr(function, "func", function), "__module__", None)
        get_context("forkserver").set_forkserver_preload([home or __name__])
        order: deque[_Job] = deque()
        try:
            for task in tasks:
                job = _Job(sent, task)
                order.append(job)
                self._waiting.append(job)
                self._give()
                while len(order) > 3 * self._number or (order and order[0].outcome):
                    yield self._finished(order.popleft())
            while order:
                yield self._finished(order.popleft())
        finally:
            for job in order:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(job)

    def close(self) -> None:
        for process in self._processes:
            process.stop()

    def _finished(self, job: _Job) -> Any:
        self._step(seconds=0.0)
        while job.outcome is None:
            self._step()
        return job.result()

    def _give(self) -> None:
        """Give each process what it can take; a missing one is started."""
        while self._waiting and len(self._processes) < self._number:
            self._processes.append(_Process(self._bounds))
            self._processes[-1].give(self._waiting.popleft())
        for process in sorted(self._processes, key=lambda process: len(process.given)):
            if self._waiting and process.takes(self._waiting[0]):
                process.give(self._waiting.popleft())

    def _step(self, seconds: float | None = None) -> None:
        """Take what has come back, stop what has been at it for too long, and give what is next."""
        self._give()
        busy = [process for process in self._processes if process.given]
        if seconds is None:
            first = min(process.deadline for process in busy)
            seconds = None if first == math.inf else max(first - time.monotonic(), 0.0)
        ready = wait([process.results for process in busy], seconds)
        for process in busy:
            if process.results in ready:
                lost = process.take()
            elif process.deadline <= time.monotonic() and not process.results.poll():
                process.stop()
                lost = f"took longer than {self._bounds.seconds:g} s"
            else:
                continue
            if lost:
                self._bury(process, lost)
        self._give()

    def _bury(self, process: "_Process", reason: str) -> None:
        self._processes.remove(process)
        died, *unbegun = process.given
        died.outcome = True, Lost(died.task, reason)
        self._waiting.extendleft(reversed(unbegun))


class _Process:
    """One process and the one or two jobs it was given; the first of them is the one it works on."""

    def __init__(self, bounds: Bounds) -> None:
        context = get_context("forkserver")
        theirs_tasks, self.tasks = context.Pipe(duplex=False)
        self.results, theirs_results = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs_tasks, theirs_results, bounds), daemon=True)
        with _unseen():
            self._process.start()
        theirs_tasks.close()
        theirs_results.close()
        self.given: deque[_Job] = deque()
        self.bounds, self.deadline = bounds, math.inf  # starting up is nobody's time
        self._function = b""

    def takes(self, job: _Job) -> bool:
        """Whether a job can be given without waiting for the process to read it."""
        return not self.given or (
            len(self.given) == 1 and job.function == self._function and len(job.message) <= _FITS_PIPE
        )

    def give(self, job: _Job) -> None:
        self.given.append(job)
        if len(self.given) == 1 and self.deadline != math.inf:
            self._begin()
        with contextlib.suppress(OSError):  # it has died; its results say so
            if job.function != self._function:
                self._function = job.function
                self.tasks.send_bytes(job.function)
            self.tasks.send_bytes(job.message)

    def take(self) -> str:
        """Take what the process sent; returns why it will send no more, or nothing."""
        try:
            outcome = self.results.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.stop()
            return self._reason(code if code is not None else 0)
        if outcome != _READY:
            self.given.popleft().outcome = outcome
        self._begin()
        return ""

    def _begin(self) -> None:
        self.deadline = time.monotonic() + self.bounds.seconds

    def _reason(self, code: int) -> str:
        if code == _NO_MEMORY:
            return f"needed more than {self.bounds.memory / 2**30:g} GiB of memory"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.tasks.close()
        self.results.close()


@contextmanager
def _unseen() -> Iterator[None]:
    """Start a process that neither hears Ctrl-C nor imports this program's script anew: it needs nothing of it."""
    main = sys.modules["__main__"]
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _serve(tasks: Connection, results: Connection, bounds: Bounds) -> None:
    """What a process does: each function comes once, its tasks behind it, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _bound_memory(bounds.memory)
    _widen(results)
    results.send(_READY)
    function = b""
    call: Callable[[Any], Any] | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = tasks.recv_bytes()
            if message[:1] == _FUNCTION:
                function, call = message[1:], None
                continue
            try:
                call = call or ForkingPickler.loads(function)
                outcome = True, call(ForkingPickler.loads(message[1:]))
            except MemoryError:
                os._exit(_NO_MEMORY)
            except Exception as error:  # noqa: BLE001 - it is raised again where the result is waited for
                error.add_note(f"In a process of its own:\n{traceback.format_exc()}")
                outcome = False, error
            results.send(outcome)


def _end_with_parent() -> None:
    """Die at once when the program that gives the tasks does, whatever this process is at."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _bound_memory(more: int) -> None:
    """Let this process take ``more`` bytes than it has now; beyond that there is a MemoryError, or it dies."""
    try:
        with open("/proc/self/statm", "rb") as file:
            now = int(file.read().split()[5]) * resource.getpagesize()
    except OSError:
        return  # no Linux: only the system's own limits hold
    resource.setrlimit(resource.RLIMIT_DATA, (now + more, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _widen(results: Connection) -> None:
    """A pipe that holds more at once makes a large result cheaper."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(results.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
