"""Work on media that nobody vouches for, in a process that can die: no crash or hang of a decoder reaches ours."""

import resource
from collections.abc import Callable
from concurrent.futures import TimeoutError as Late
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from pride_mm.media.container import MediaError

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Guard:
    """One process that does what it is told, with limits; it is replaced when it dies, and after some tasks.

    Args:
        seconds: that one task may take.
        mebibytes: of memory that the process may take on top of what its imports take.
        tasks: after so many a fresh process is started, so that what leaks doesn't grow.
    """

    def __init__(self, seconds: float = 60.0, mebibytes: int = 2048, tasks: int = 1000) -> None:
        import multiprocessing

        from pebble import ProcessPool

        self.seconds, self.mebibytes = seconds, mebibytes
        self._pool = ProcessPool(
            max_workers=1,
            max_tasks=tasks,
            initializer=_limit,
            initargs=(mebibytes,),
            context=multiprocessing.get_context("spawn"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process, whatever it does."""
        self._pool.stop()
        self._pool.join()

    def run(self, function: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
        """What ``function`` returns; it and its arguments are importable and plain values.

        Raises:
            MediaError: the function's own, or it took too long or too much memory, or its process died.
        """
        from pebble import ProcessExpired

        future: Any = self._pool.schedule(function, args=list(given), kwargs=dict(named), timeout=self.seconds)
        try:
            made: Made = future.result()
            return made
        except Late:
            raise MediaError(f"took longer than {self.seconds:g} s and was given up") from None
        except MemoryError:
            raise MediaError(f"takes more than {self.mebibytes} MiB of memory to decode") from None
        except ProcessExpired as error:
            raise MediaError(f"killed the process that decoded it (exit code {error.exitcode})") from None


def _limit(mebibytes: int) -> None:
    # The data segment counts what is taken, not what is mapped: torch maps more than any limit.
    import pride_mm.media.convert  # noqa: F401 - before the limit, so that it holds for media alone

    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[5]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (taken + mebibytes * 1024**2, hard))
