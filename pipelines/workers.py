"""A few threads that work ahead, bounded in memory, with results in order whatever their number."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

# The decoders let go of Python's lock while they work, so threads are enough.
WORKERS = 2


class Workers:
    """Threads for jobs; stops with the jobs that have begun when its block is left."""

    def __init__(self, pool: ThreadPoolExecutor, number: int) -> None:
        self._pool, self._ahead = pool, 2 * number

    def run(self, jobs: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """The jobs' results in the jobs' order; an exception comes out in its job's place."""
        waiting: list[Future[Result]] = []
        for job in jobs:
            waiting.append(self._pool.submit(job))
            if len(waiting) > self._ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


@contextmanager
def workers(number: int = WORKERS) -> Iterator[Workers]:
    """Start ``number`` threads for as long as the block lasts."""
    pool = ThreadPoolExecutor(number)
    try:
        yield Workers(pool, number)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
