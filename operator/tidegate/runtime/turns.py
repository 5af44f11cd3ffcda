"""Turns for work that must not get in the way of other work."""

from __future__ import annotations

import time
from collections.abc import Callable


class Turns:
    """So many turns a second, and `burst` at once after a quiet time, in the order in which they were asked for. Not
    thread-safe."""

    def __init__(self, per_second: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._burst = (burst - 1) * self._interval
        self._monotonic = monotonic
        self._next = float("-inf")
        self._given: dict[str, float] = {}

    def wait(self, name: str) -> float:
        """Seconds until the turn of `name`; 0 when it has come, and with that it is taken."""
        now = self._monotonic()
        turn = self._given.get(name)
        if turn is None:
            turn = self._given[name] = max(now - self._burst, self._next)
            self._next = turn + self._interval
        if turn <= now:
            del self._given[name]
        return max(turn - now, 0.0)

    def forget(self, name: str) -> None:
        """Nobody will ask for this turn any more."""
        self._given.pop(name, None)
