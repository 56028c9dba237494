"""What will be needed, fetched by a thread while something else is done."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable

from pride_mm.errors import SampleError, UserError


class Ahead:
    """Calls ``fetch`` with one number after the other, in a thread of its own that lives only while there are some.

    A forked process begins with nothing to do.
    """

    def __init__(self, fetch: Callable[[int], None]) -> None:
        self._fetch = fetch
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._left: deque[int] = deque()
        self._thread: threading.Thread | None = None

    def ask(self, numbers: Iterable[int]) -> None:
        """Fetch these next, in this order; what was asked for before and has not begun is forgotten."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._left = deque(numbers)
            if self._left and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._left:
                    self._thread = None
                    return
                number = self._left.popleft()
            try:
                self._fetch(number)
            except (SampleError, UserError):
                # who needs it meets the same, and can say so
                continue
