"""The work queue: keys that wait for their time and are never worked twice at once."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable

from tidegate.runtime.keys import Key

_Entry = tuple[float, int, Key]


class WorkQueue:
    """Keys with the time from which they may be worked.

    Adding a key that waits keeps the earlier time. A key added while it is worked comes up again after that. A kind may
    have a minimum interval between two starts of the same key, and its due keys come before those of the other kinds:
    for few keys that many others wait for. So do keys added as `urgent`, unless they are being worked. Not thread-safe:
    used from one event loop.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._due: dict[Key, float] = {}  # every key that waits, in the order of their last additions
        # may hold entries that _due has overtaken: of what comes first, of the others
        self._heaps: tuple[list[_Entry], list[_Entry]] = ([], [])
        self._serial = 0
        self._running: set[Key] = set()
        self._again: dict[Key, float] = {}  # keys added while they are worked
        self._intervals: dict[str, float] = {}
        self._started: dict[Key, float] = {}  # of kinds with an interval
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    @property
    def running(self) -> int:
        """How many keys are worked now."""
        return len(self._running)

    def ready(self) -> int:
        """How many keys could be worked now if there were a worker."""
        now = self._monotonic()
        return sum(1 for due in self._due.values() if due <= now)

    def set_min_interval(self, kind: str, seconds: float) -> None:
        """Keep at least `seconds` between two starts of the same key of a kind, and let it come before other kinds."""
        self._intervals[kind] = seconds

    def add(self, key: Key, after: float = 0.0, *, urgent: bool = False) -> None:
        """Have a key worked after at least `after` seconds; of several times the earliest counts."""
        due = self._monotonic() + max(after, 0.0)
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if self._intervals and key in self._started:
            due = max(due, self._started[key] + self._intervals.get(key.kind, 0.0))
        held = self._due.get(key)
        if held is not None:
            del self._due[key]
            if held <= due and not urgent:
                self._due[key] = held
                return
            due = min(held, due)
        self._due[key] = due
        self._serial += 1
        first = urgent or key.kind in self._intervals
        heapq.heappush(self._heaps[0 if first else 1], (due, self._serial, key))
        self._wake()

    def newest_first(self, per_second: float) -> None:
        """Let the keys that are due come in the reverse order of their last additions, so many a second at most. For a
        new leader, whose queue holds all that ever changed: what happened just now comes first."""
        now = self._monotonic()
        for rank, key in enumerate([key for key, due in reversed(self._due.items()) if due <= now]):
            del self._due[key]
            self.add(key, rank / per_second)

    async def get(self) -> Key:
        """The next key whose time has come; the caller must call `done` with it."""
        while True:
            key = self._pop()
            if key is not None:
                if self._due:
                    self._wake()  # there may be more for others
                return key
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._wake()
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # it was told of a key that it can't take any more
                raise

    def done(self, key: Key) -> None:
        """A key is no longer worked; if it was added meanwhile it waits again."""
        self._running.discard(key)
        due = self._again.pop(key, None)
        if due is not None:
            self.add(key, due - self._monotonic())
        elif key in self._started:
            self._prune()

    def _prune(self) -> None:
        """Forget start times that no longer matter, so that the table doesn't grow with every key ever seen."""
        if len(self._started) < 1000:
            return
        now = self._monotonic()
        for other, started in list(self._started.items()):
            if now - started > self._intervals.get(other.kind, 0.0):
                del self._started[other]

    def _pop(self) -> Key | None:
        now = self._monotonic()
        for heap in self._heaps:
            self._clean(heap)
            if not heap or heap[0][0] > now:
                continue
            _, _, key = heapq.heappop(heap)
            del self._due[key]
            self._running.add(key)
            if key.kind in self._intervals:
                self._started[key] = now
            return key
        return None

    def _clean(self, heap: list[_Entry]) -> None:
        """Drop what `_due` has overtaken from the top."""
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)

    def _wake(self) -> None:
        """Wake one waiter if a key is due, else set a timer for the next one."""
        for heap in self._heaps:
            self._clean(heap)
        while self._waiters and self._waiters[0].done():
            del self._waiters[0]
        if not any(self._heaps) or not self._waiters:
            return
        delay = min(heap[0][0] for heap in self._heaps if heap) - self._monotonic()
        if delay <= 0:
            self._waiters.popleft().set_result(None)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()
