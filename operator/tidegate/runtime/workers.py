"""Workers: take a key, reconcile it, put it back when it failed or asked to come back."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from tidegate.errors import Conflict, KubeError, NotLeaderError, TransientError
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 60.0
CONFLICT_SECONDS = 0.02  # the cache learns the newer version in a moment


def backoff(failures: int) -> float:
    """Seconds until a key that failed `failures` times in a row comes back."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20), MAX_BACKOFF_SECONDS)


class Workers:
    """A fixed number of them, while this replica leads. The queue outlives them."""

    def __init__(self, ctx: Context, number: int) -> None:
        self._ctx = ctx
        self._number = number
        self._failures: dict[Key, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()  # those that wait for a key
        self._stopping = False

    def start(self) -> None:
        """Begin to work."""
        self._stopping = False
        for n in range(self._number):
            task = asyncio.create_task(self._work(), name=f"worker-{n}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Take no more keys, give running work `grace_seconds` to end, then cancel it."""
        self._stopping = True
        tasks = set(self._tasks)
        for task in self._idle & tasks:
            task.cancel()
        if tasks and grace_seconds > 0:
            _, tasks = await asyncio.wait(tasks, timeout=grace_seconds)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._idle.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a worker ended", exc_info=error)

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        while not self._stopping:
            self._idle.add(me)
            key = await self._ctx.queue.get()
            self._idle.discard(me)
            try:
                await self._reconcile(key)
            except asyncio.CancelledError:
                self._ctx.queue.add(key)
                raise
            finally:
                self._ctx.queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        reconcile = self._ctx.reconcilers.get(key.kind)
        if reconcile is None:
            return
        started = time.perf_counter()
        try:
            after = await reconcile(key)
        except NotLeaderError:
            self._ctx.queue.add(key)
            await asyncio.sleep(0.05)  # the loss is on its way to whoever stops the workers
        except Exception as error:  # noqa: BLE001 - whatever it is, the key comes back
            self._failed(key, error)
        else:
            self._failures.pop(key, None)
            if after is not None:
                self._ctx.queue.add(key, after)
        finally:
            metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)

    def _failed(self, key: Key, error: Exception) -> None:
        metrics.RECONCILE_ERRORS.labels(key.kind, type(error).__name__).inc()
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = backoff(failures) * random.uniform(0.8, 1.2)
        fields = {"key": str(key), "failures": failures, "error": str(error), "after": round(wait, 2)}
        if isinstance(error, Conflict) and failures <= 5:
            wait = CONFLICT_SECONDS * failures
        elif isinstance(error, TransientError) or (isinstance(error, KubeError) and error.transient):
            log.info("will be tried again", extra=fields)
        else:
            log.error("a reconcile failed", extra=fields, exc_info=error)
        self._ctx.queue.add(key, wait)
