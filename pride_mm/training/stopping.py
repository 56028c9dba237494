"""A polite end: what schedulers send before they take a machine back."""

import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Asked for by SIGTERM or SIGUSR1 while the block lasts; whoever runs in it looks at ``asked`` when it can stop."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {sign: signal.signal(sign, self._ask) for sign in (signal.SIGTERM, signal.SIGUSR1)}
        return self

    def __exit__(self, *_: object) -> None:
        for sign, before in self._before.items():
            signal.signal(sign, before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
