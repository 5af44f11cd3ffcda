"""What every room is given: the cache, the queue, reads, guarded writes, settings and the clock.

How a room plugs in:

- `handlers.py` has one function, `register(registry, ctx)`, which calls `runtime.watch.watch(registry, ctx, kind)` for
  each kind of the room. `watch` decorates a kopf `on.event` handler that gives events to `ctx.observe(kind, event)`.
  Watching a kind twice is harmless: the second call does nothing, so tasks and lane both watch "Pod".
- `reconcile.py` has `install(ctx)`: adds indexes and listeners to `ctx.cache`, reconcilers with `ctx.reconciler`.
- Listeners queue keys (`ctx.queue.add`). A reconciler's own kind is queued on each change without a listener.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tidegate.clients.kube import Kube
from tidegate.runtime.cache import Cache
from tidegate.runtime.keys import Key
from tidegate.runtime.queue import WorkQueue
from tidegate.runtime.writer import Writer
from tidegate.settings import Settings
from tidegate.telemetry import metrics

Reconciler = Callable[[Key], Awaitable[float | None]]


def utc_now() -> datetime:
    """The wall clock, for times that people read and that outlive the process."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime | None:
    """Read a time as Kubernetes writes it, with or without fractions; None for an empty text."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


@dataclass
class Context:
    """The machine room as the rooms see it. `kube` is for reads; every write goes through `writer`."""

    settings: Settings
    kube: Kube
    cache: Cache
    queue: WorkQueue
    writer: Writer
    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    reconcilers: dict[str, Reconciler] = field(default_factory=dict)
    watched: set[str] = field(default_factory=set)
    holder: str = "operator"  # this process as the Lease knows it
    term: int = 0  # counts the times that this process came to lead: what was known before may be stale
    applied: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by network.ensure_isolated

    def reconciler(self, kind: str, fn: Reconciler, min_interval: float = 0) -> None:
        """Have `fn` work the keys of a kind, and queue a key whenever its object changes.

        It returns the seconds after which the key comes back, or None. TransientError and passing KubeErrors bring the
        key back with backoff; so does any other exception, which is also logged with its trace. `min_interval` is the
        least time in seconds between two starts for one key.
        """
        if kind in self.reconcilers:
            raise ValueError(f"{kind} has a reconciler already")
        self.reconcilers[kind] = fn
        if min_interval:
            self.queue.set_min_interval(kind, min_interval)
        self.cache.add_listener(kind, self._queue_changed)

    def observe(self, kind: str, event: dict[str, Any]) -> None:
        """Take a watch event into the cache: `object` and `type` (None for a listed one, ADDED, MODIFIED, DELETED)."""
        metrics.WATCH_EVENTS.labels(kind).inc()
        obj = event["object"]
        if event["type"] == "DELETED":
            meta = obj["metadata"]
            key = Key(kind, meta.get("namespace", ""), meta["name"])
            self.cache.remove(key, meta.get("uid", ""), int(meta["resourceVersion"]))
            return
        self.cache.offer(kind, obj)

    def _queue_changed(self, key: Key, _old: Any, _new: Any) -> None:
        self.queue.add(key)
