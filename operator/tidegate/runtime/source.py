"""kopf, reduced to what it is best at: listing and watching, with reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable
from typing import Any

import aiohttp
import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from tidegate.clients.kube import Kube
from tidegate.runtime.context import Context
from tidegate.runtime.kinds import Kind

CHUNK = 200
# Nearly for ever: while the API server is away the watches wait for it, as everything else does.
RECONNECT_SECONDS = (0.2, 0.5, 1, 2, 3, *itertools.repeat(5, 100_000))


class _Forgetful(ResourceMemories):
    """kopf remembers every object for handlers that keep state; ours keep none, and 2 KiB an object add up."""

    async def recall(self, *args: Any, **options: Any) -> ResourceMemory:
        """A memory of this event alone."""
        return await super().recall(*args, **{**options, "ephemeral": True})


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf compares each object with how it was handled last, and copies it deeply for that: half of all its CPU time.
    Raw event handlers have no use for it."""

    def build(self, **_: Any) -> Any:
        """Nothing to compare."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Nothing of kopf's is written to objects."""

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Store nothing."""

    def purge(self, **_: Any) -> None:
        """Nothing to purge."""

    def touch(self, **_: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Nothing to clear."""
        return essence


def kopf_settings(kinds: Iterable[Kind]) -> kopf.OperatorSettings:
    """No Events, annotations or finalizers of kopf's own; server-side selectors; short-lived per-object tasks."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # kinds and namespaces are known: no need to watch CRDs and Namespaces
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 0.5
    settings.networking.error_backoffs = RECONNECT_SECONDS
    settings.process.ultimate_exiting_timeout = 30
    for kind in kinds:
        if kind.selector:
            resource = kind.resource
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = kind.selector
    return settings


def _trace_lists(kinds: Iterable[Kind], on_list: Callable[[str], None]) -> aiohttp.TraceConfig:
    """Calls `on_list` with the kind that was listed: an empty list gives no event that would tell."""
    by_plural = {kind.resource.plural: kind.name for kind in kinds}

    async def ended(_session: aiohttp.ClientSession, _context: object, request: aiohttp.TraceRequestEndParams) -> None:
        kind = by_plural.get(request.url.name)
        if kind is not None and request.method == "GET" and "watch" not in request.url.query:
            on_list(kind)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    return trace


class WatchSource:
    """One kopf operator in this event loop. `start` it, `wait` for its (unwanted) end, `stop` it."""

    def __init__(
        self,
        ctx: Context,
        kube: Kube,
        registry: kopf.OperatorRegistry,
        kinds: Collection[Kind],
        on_list: Callable[[str], None],
    ) -> None:
        self._ctx = ctx
        self._kube = kube
        self._registry = registry
        self._settings = kopf_settings(kinds)
        self._trace = _trace_lists(kinds, on_list)
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def alive(self) -> str | None:
        """What is wrong with the watches, None when they run."""
        if self._task is None:
            return "not started"
        return "kopf has ended" if self._task.done() else None

    async def start(self) -> None:
        """Log in and begin to watch. kopf takes over SIGTERM and SIGINT: set own handlers after this."""

        @kopf.on.login(registry=self._registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session, server = await self._kube.new_session(self._trace)
            return kopf.AiohttpSession(aiohttp_session=session, server=server)

        self._task = asyncio.create_task(self._run(), name="kopf")
        ready = asyncio.create_task(self._ready.wait(), name="kopf-ready")
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def wait(self) -> None:
        """Return when kopf ends, which it does only when it is stopped or can't go on; raises its error."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self, seconds: float = 5.0) -> None:
        """End the watches."""
        self._stop.set()
        if self._task is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._task, seconds)

    async def _run(self) -> None:
        settings = self._ctx.settings
        scope: dict[str, Any] = {"clusterwide": True} if settings.clusterwide else {"namespaces": settings.namespaces}
        await kopf.operator(
            registry=self._registry,
            settings=self._settings,
            memories=_Forgetful(),
            standalone=True,
            stop_flag=self._stop,
            ready_flag=self._ready,
            **scope,
        )
