"""Turns for work that must not get in the way of other work."""

from __future__ import annotations

import time
from collections.abc import Callable


class Turns:
    """So many turns a second, and `burst` at once after a quiet time, in about the order in which they were asked for.
    Not thread-safe."""

    def __init__(self, per_second: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._free = float(burst)  # turns that nobody has taken yet
        self._since = monotonic()
        self._tickets: dict[str, int] = {}
        self._given = 0  # tickets ever
        self._gone = 0  # of them: taken or given up

    def wait(self, name: str) -> float:
        """Seconds until the turn of `name`; 0 when it has come, and with that it is taken."""
        now = self._monotonic()
        self._free = min(self._free + (now - self._since) * self._per_second, self._burst)
        self._since = now
        if name not in self._tickets:
            self._tickets[name] = self._given
            self._given += 1
        ahead = max(self._tickets[name] - self._gone, 0)
        missing = ahead + 1 - self._free
        if missing > 1e-9:
            return missing / self._per_second
        self._free -= 1
        self.forget(name)
        return 0.0

    def forget(self, name: str) -> None:
        """Nobody will ask for this turn any more: the others move up."""
        if self._tickets.pop(name, None) is not None:
            self._gone += 1
