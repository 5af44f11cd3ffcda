"""What really happens, seen through watches of the bench's own: when objects appear and when they are done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson

from tidegate.clients.kube import Json, Kube
from tidegate.clients.resources import resource_of

Done = Callable[[Json], bool]


def job_done(obj: Json) -> bool:
    """Whether a Job is complete."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def task_done(obj: Json) -> bool:
    """Whether an AgentTask is complete."""
    return bool((obj.get("status") or {}).get("state") == "Complete")


class Seen:
    """Monotonic times, by object name."""

    def __init__(self) -> None:
        self.appeared: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self._changed = asyncio.Event()

    def note(self, event: Json, done: Done) -> None:
        """Take a watch event."""
        obj, now = event["object"], time.monotonic()
        name = obj["metadata"]["name"]
        self.appeared.setdefault(name, now)
        if name not in self.done and done(obj):
            self.done[name] = now
        self._changed.set()

    async def until(self, check: Callable[[Seen], bool], seconds: float, what: str) -> None:
        """Wait for something to be seen; raises TimeoutError that says how far it came."""
        try:
            async with asyncio.timeout(seconds):
                while not check(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            counts = f"{len(self.appeared)} appeared, {len(self.done)} done"
            raise TimeoutError(f"waited {seconds:.0f} s for {what}: {counts}") from None


@asynccontextmanager
async def watching(kube: Kube, kind: str, namespace: str, done: Done) -> AsyncIterator[Seen]:
    """Watch a kind in a namespace meanwhile."""
    seen = Seen()
    _, version = await kube.list_metadata(kind, namespace)
    task = asyncio.create_task(_follow(kube, kind, namespace, version, seen, done))
    try:
        yield seen
    finally:
        task.cancel()


async def _follow(kube: Kube, kind: str, namespace: str, version: str, seen: Seen, done: Done) -> None:
    url = kube.session.server + resource_of(kind).path(namespace)
    while True:
        params = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        headers = await kube.session.stream_headers()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with kube.session.http.get(
            url, params=params, headers=headers, timeout=timeout, read_bufsize=2**22
        ) as response:
            response.raise_for_status()
            async for line in response.content:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"the watch of {kind} broke: {event['object']}")
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    seen.note(event, done)


def percentile(values: list[float], share: float) -> float:
    """The value below which a share (0 to 1) of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
