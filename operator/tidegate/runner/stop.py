"""SIGTERM as a flag, from the first moment on. Imports next to nothing: see `__main__`."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class StopSignal:
    """A flag that can be waited for; a lock in a signal handler could block for ever."""

    def __init__(self, came: bool = False) -> None:
        self._came = came
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT. As PID 1 a process loses every signal that it has no handler for."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def is_set(self) -> bool:
        """True once the signal came."""
        return self._came

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True once the signal came."""
        if not self._came:
            select.select([self._reader], [], [], seconds)
        return self._came
