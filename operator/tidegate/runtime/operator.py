"""The life of the process: watch always, work while the Lease is held, leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from tidegate.clients.kube import Kube
from tidegate.errors import KubeError, NotFound, PermanentError
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.gauges import install_gauges
from tidegate.runtime.kinds import Kind
from tidegate.runtime.lease import Lease
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.resync import catch_up, resync, resync_kind
from tidegate.runtime.source import WatchSource
from tidegate.runtime.workers import Workers
from tidegate.runtime.writer import Writer
from tidegate.settings import Settings
from tidegate.telemetry.health import HealthServer

log = logging.getLogger(__name__)

Install = Callable[[Context], None]
Register = Callable[[kopf.OperatorRegistry, Context], None]

FIRST_SYNC_SECONDS = 30.0  # for the watches to fill the cache by themselves
SETTLE_SECONDS = 5.0
RELIST_SECONDS = 1.0
GC_THRESHOLDS = (20_000, 20, 50)
KEYS_PER_SECOND = 2000  # at which a new leader looks at all there is


class Operator:
    """Everything that runs, wired together. A room is a pair: what installs reconcilers, what registers watches."""

    def __init__(
        self, settings: Settings, kube: Kube, kinds: dict[str, Kind], rooms: Iterable[tuple[Install, Register]]
    ) -> None:
        self.settings = settings
        self._kinds = kinds
        self._lease = Lease(kube, settings, self._on_leadership)
        cache = Cache(kinds)
        writer = Writer(kube, cache, self._lease.check, self._lease.identity)
        self.ctx = Context(settings, kube, cache, WorkQueue(), writer)
        self.ctx.holder = self._lease.identity
        self._registry = kopf.OperatorRegistry()
        for install, register in rooms:
            install(self.ctx)
            register(self._registry, self.ctx)
        install_gauges(self.ctx, lambda: self._lease.leading)
        self._source = WatchSource(self.ctx, kube, self._registry, kinds.values(), self._on_list)
        self._workers = Workers(self.ctx, settings.workers)
        self._health = HealthServer(settings.metrics_host, settings.metrics_port)
        self._synced = asyncio.Event()
        self._leading: asyncio.Task[None] | None = None
        self._relists: dict[str, asyncio.TimerHandle] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._silent: dict[str, int] = {}  # comparisons in a row in which a kind's watch was behind

    async def run(self, stop: asyncio.Event, on_started: Callable[[], None] = lambda: None) -> None:
        """Run until `stop` is set; raises what made it impossible to go on. `on_started` is called once kopf has set
        its signal handlers: time to set others."""
        on_started()  # and again below: nothing may be lost in between
        self._health.add_alive("watches", self._check_watches)
        self._health.add_ready("cache", lambda: None if self._synced.is_set() else "not in step with the cluster yet")
        port = await self._health.start()
        log.info("serving health and metrics", extra={"port": port})
        await self._check_kinds()
        await self._source.start()
        on_started()
        tasks = [
            asyncio.create_task(self._lease.run(), name="lease"),
            asyncio.create_task(self._keep_in_step(), name="resync"),
            asyncio.create_task(self._source.wait(), name="watches"),
        ]
        stopper = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*tasks, stopper}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopper}:
                log.error("cannot go on", extra={"task": task.get_name()}, exc_info=_error_of(task))
        finally:
            await self._leave(tasks)
        if stopper not in done:
            raise PermanentError("Ended", f"{', '.join(t.get_name() for t in done)} ended; the process starts again")

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let running work end, hand over the Lease, then close."""
        tasks[0].cancel()  # no more renewals; the deadline still stands
        if self._leading is not None:
            self._leading.cancel()
        await self._workers.stop(self.settings.shutdown_seconds)
        await self._lease.release()
        log.info("left the Lease")
        for task in tasks:
            task.cancel()
        await self._source.stop()
        await self._health.stop()
        with contextlib.suppress(Exception):
            await self.ctx.kube.close()

    async def _check_kinds(self) -> None:
        for kind in self._kinds.values():
            scope = self.settings.scopes[0] if kind.resource.namespaced else None
            try:
                await self.ctx.kube.probe(kind.name, scope)
            except NotFound:
                raise PermanentError(
                    "CRDsMissing",
                    f"the API server doesn't serve {kind.resource.plural}.{kind.resource.group}: install the CRDs",
                ) from None

    # -- leadership

    def _on_leadership(self, leading: bool) -> None:
        if leading:
            self.ctx.term += 1
            self._leading = asyncio.create_task(self._lead(), name="lead")
            return
        if self._leading is not None:
            self._leading.cancel()
        self._spawn(self._workers.stop(), "stop-workers")

    async def _lead(self) -> None:
        """Work once nothing is unknown that holds a slot; compare the whole cache meanwhile: ghosts cost time only, as
        writes about them fail."""
        while True:
            try:
                await asyncio.wait_for(self._synced.wait(), FIRST_SYNC_SECONDS + SETTLE_SECONDS)
                await catch_up(self.ctx, self._kinds)
                break
            except (KubeError, TimeoutError) as error:
                log.warning("the cache could not be compared yet", extra={"error": str(error)})
                await asyncio.sleep(1.0)
        keys = [key for kind in self.ctx.reconcilers for key in self.ctx.cache.keys(kind)]
        spread = len(keys) / KEYS_PER_SECOND
        self.ctx.queue.newest_first(KEYS_PER_SECOND)
        for key in keys:
            self.ctx.queue.add(key, random.uniform(0.0, spread))
        self._workers.start()
        log.info("leading", extra={"keys": len(self.ctx.queue)})
        for kind in self._kinds.values():
            if kind.active:  # the others were compared whole
                self._on_list(kind.name)

    # -- the cache

    async def _keep_in_step(self) -> None:
        settle = FIRST_SYNC_SECONDS
        while True:
            try:
                found = await resync(self.ctx, self._kinds, settle)
            except KubeError as error:
                log.warning("the cache could not be compared", extra={"error": str(error)})
                await asyncio.sleep(2.0)
                continue
            first = not self._synced.is_set()
            if first:
                _settle_memory()
            self._synced.set()
            settle = SETTLE_SECONDS
            for kind, what in found.items():
                behind = bool(what.missed) and not first
                self._silent[kind] = self._silent.get(kind, 0) + 1 if behind else 0
            await asyncio.sleep(self.settings.resync_seconds)

    def _on_list(self, kind: str) -> None:
        """A watch lists, after a 410 again: look then for what vanished unseen. A new leader looks too."""
        if not self._synced.is_set():
            return
        if kind in self._relists:
            self._relists[kind].cancel()
        loop = asyncio.get_running_loop()
        self._relists[kind] = loop.call_later(RELIST_SECONDS, self._resync_one, kind)

    def _resync_one(self, kind: str) -> None:
        self._relists.pop(kind, None)

        async def compare() -> None:
            with contextlib.suppress(KubeError):  # the next regular comparison will do
                await resync_kind(self.ctx, self._kinds[kind], SETTLE_SECONDS)

        self._spawn(compare(), f"resync-{kind}")

    def _check_watches(self) -> str | None:
        if wrong := self._source.alive():
            return wrong if self._synced.is_set() else None
        silent = sorted(kind for kind, times in self._silent.items() if times >= 2)
        return f"no events came for {', '.join(silent)}" if silent else None

    def _spawn(self, coroutine: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _settle_memory() -> None:
    """The cache lives long and holds no cycles: keep the collector from walking it over and over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
