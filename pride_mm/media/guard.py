"""Work on media that nobody vouches for, in processes that can die: no crash or hang of a decoder reaches ours.

Promise: a task ends within its time and memory, whatever its bytes do; one that kills its process costs itself only.
Each process has a pipe of its own: in a pool that shares locks, one that is killed while it holds them takes the others
with it. Limits: it is a process like ours, with the same rights; no sandbox.
"""

import os
import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import LifoQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from pride_mm.media.container import MediaError

Given = ParamSpec("Given")
Made = TypeVar("Made")
_STARTING = 300.0  # seconds until a process has imported what it needs: nobody's time


class Guard:
    """Processes that do what they are told, with limits; one is replaced when it dies, and after some tasks.

    They start when there is work. ``run`` may be called from many threads; it waits for a process that is free.

    Args:
        seconds: that one task may take.
        mebibytes: of memory that a process may take on top of what its imports take.
        tasks: after so many a fresh process is started, so that what leaks doesn't grow.
        processes: how many there are at most.

    ``restarts`` counts the processes that died or were stopped.
    """

    def __init__(self, seconds: float = 60.0, mebibytes: int = 2048, tasks: int = 1000, processes: int = 1) -> None:
        self.seconds, self.mebibytes, self.tasks, self.restarts = seconds, mebibytes, tasks, 0
        self._free: LifoQueue[_Process | None] = LifoQueue()
        self._all: set[_Process] = set()
        self._closed = False
        for _ in range(processes):
            self._free.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes, whatever they do."""
        self._closed = True
        for process in list(self._all):
            self._stop(process)

    @property
    def pids(self) -> list[int]:
        """The processes that are there."""
        return [process.pid for process in list(self._all)]

    def run(self, function: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
        """What ``function`` returns; it and its arguments are importable and plain values.

        A process that dies may have been killed by others: the task is tried once more.

        Raises:
            MediaError: the function's own, or it took too long or too much memory, or two processes died of it.
        """
        process = self._free.get()
        try:
            for last in (False, True):
                process = self._ready(process)
                try:
                    well, made = process.run((function, given, named), self.seconds)
                    break
                except TimeoutError:
                    self._lose(process)
                    raise MediaError(f"took longer than {self.seconds:g} s and was given up") from None
                except (EOFError, OSError):
                    self._lose(process)
                    if last:
                        raise MediaError(f"killed the process that decoded it ({process.end})") from None
        finally:
            self._free.put(process if process in self._all else None)
        if well:
            result: Made = made
            return result
        if isinstance(made, MemoryError):
            raise MediaError(f"takes more than {self.mebibytes} MiB of memory to decode") from None
        raise made

    def _ready(self, process: "_Process | None") -> "_Process":
        if process is not None and process in self._all and process.done < self.tasks:
            return process
        if process is not None and process in self._all:
            self._stop(process)
        fresh = _Process(self.mebibytes)
        self._all.add(fresh)
        if self._closed:  # looked at last: close() stops whatever it finds
            self._stop(fresh)
            raise MediaError("is not read any more: the program ends")
        return fresh

    def _lose(self, process: "_Process") -> None:
        self.restarts += 1
        self._stop(process)

    def _stop(self, process: "_Process") -> None:
        process.stop()
        self._all.discard(process)


class _Process:
    """One process and our end of its pipe."""

    def __init__(self, mebibytes: int) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["pride_mm.media.guard", "pride_mm.media.convert", "pride_mm.media.frames"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, mebibytes), daemon=True)
        self._process.start()
        theirs.close()
        self.done, self._started = 0, False

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def end(self) -> str:
        """Why it is no more."""
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def run(self, task: Any, seconds: float) -> tuple[bool, Any]:
        """Whether it went well, and the result or the error. Raises TimeoutError; EOFError or OSError if it died."""
        try:
            if not self._started:
                self._wait(_STARTING)
                self._pipe.recv()
                self._started = True
            self._pipe.send(task)
            self._wait(seconds)
            self.done += 1
            outcome: tuple[bool, Any] = self._pipe.recv()
            return outcome
        except TimeoutError:
            raise
        except (EOFError, OSError):
            self._process.join(1.0)  # until the system says what became of it
            raise

    def _wait(self, seconds: float) -> None:
        if not self._pipe.poll(seconds):
            raise TimeoutError

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, mebibytes: int) -> None:
    """What a process does until its pipe ends; the program that asks is the one that stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(mebibytes)
    pipe.send(None)
    while True:
        try:
            function, given, named = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        except MemoryError as error:
            pipe.send((False, error))
            continue
        try:
            outcome = True, function(*given, **named)
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is waited for
            outcome = False, error
        pipe.send(outcome)


def _limit(mebibytes: int) -> None:
    # The data segment counts what is taken, not what is mapped: torch maps more than any limit.
    import pride_mm.media.convert
    import pride_mm.media.frames  # noqa: F401 - before the limit, so that it holds for media alone

    try:
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[5]) * resource.getpagesize()
    except OSError:
        return  # no Linux: only the system's own limits hold
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (taken + mebibytes * 1024**2, hard))
