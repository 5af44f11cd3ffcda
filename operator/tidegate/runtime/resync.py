"""Comparing the cache with the cluster: finds what the watches did not tell.

After a 410 kopf lists again and tells nobody what vanished; a watch may also just be silent. Only metadata is listed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from tidegate.errors import NotFound
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import Kind
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

GET_AT_MOST = 50  # more missing objects than this are listed whole
CATCH_UP_SECONDS = 1.0
SETTLE_STEP_SECONDS = 0.1
SCOPES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison found."""

    ghosts: tuple[Key, ...] = ()  # in the cache, not in the cluster
    missed: tuple[Key, ...] = ()  # in the cluster, not or older in the cache


async def resync(ctx: Context, kinds: dict[str, Kind], settle_seconds: float = 0.0) -> dict[str, Found]:
    """Bring every kind in step; see `resync_kind`."""
    found = await asyncio.gather(*(resync_kind(ctx, kind, settle_seconds) for kind in kinds.values()))
    return dict(zip(kinds, found, strict=True))


async def catch_up(ctx: Context, kinds: dict[str, Kind]) -> None:
    """Learn what is younger than the last events: what a predecessor wrote at its end and holds a slot by. For a cache
    that was in step before: of kinds with very many objects only the active ones are listed, and no ghosts looked for.
    """
    await asyncio.gather(*(resync_kind(ctx, kind, CATCH_UP_SECONDS, active=True) for kind in kinds.values()))


async def resync_kind(ctx: Context, kind: Kind, settle_seconds: float = 0.0, *, active: bool = False) -> Found:
    """List a kind; drop ghosts and queue their keys; fetch what the watch has not delivered after `settle_seconds`.
    With `active`, of a kind that tells them apart only those, and no ghosts."""
    scopes = ctx.settings.scopes if kind.resource.namespaced else [None]
    limit = asyncio.Semaphore(SCOPES_AT_ONCE)

    async def compare(scope: str | None) -> Found:
        async with limit:
            return await _resync_scope(ctx, kind, scope, settle_seconds, kind.active if active else "")

    parts = await asyncio.gather(*(compare(scope) for scope in scopes))
    found = Found(
        tuple(key for part in parts for key in part.ghosts), tuple(key for part in parts for key in part.missed)
    )
    if found.ghosts:
        metrics.GHOSTS.labels(kind.name).inc(len(found.ghosts))
        log.warning("dropped objects that are gone", extra={"kind": kind.name, "number": len(found.ghosts)})
    if found.missed:
        metrics.MISSED.labels(kind.name).inc(len(found.missed))
    return found


async def _resync_scope(ctx: Context, kind: Kind, scope: str | None, settle_seconds: float, fields: str) -> Found:
    items, version = await ctx.kube.list_metadata(kind.name, scope, kind.selector, fields)
    listed = {
        Key(kind.name, meta.get("namespace", ""), meta["name"]): (meta["uid"], int(meta["resourceVersion"]))
        for meta in (item["metadata"] for item in items)
    }
    ghosts: list[Key] = []
    if not fields:
        present = {(key.namespace, key.name, uid) for key, (uid, _) in listed.items()}
        ghosts = ctx.cache.reconcile_list(kind.name, scope, present, int(version))
    for key in ghosts:
        ctx.queue.add(key)
    late = await _settle(ctx, {key: number for key, (_, number) in listed.items()}, settle_seconds)
    await _fetch(ctx, kind, scope, late)
    return Found(tuple(ghosts), tuple(late))


async def _settle(ctx: Context, versions: dict[Key, int], seconds: float) -> list[Key]:
    """The keys that are older in the cache than listed, after the watch had some time to deliver them."""
    late, waited = list(versions), 0.0
    while True:
        late = [key for key in late if ctx.cache.is_behind(key, versions[key])]
        if not late or waited >= seconds:
            return late
        await asyncio.sleep(SETTLE_STEP_SECONDS)
        waited += SETTLE_STEP_SECONDS


async def _fetch(ctx: Context, kind: Kind, scope: str | None, late: list[Key]) -> None:
    if len(late) > GET_AT_MOST:
        await ctx.kube.visit(kind.name, scope, kind.selector, partial(ctx.cache.offer, kind.name))
        return
    for key in late:
        try:
            ctx.cache.offer(kind.name, await ctx.kube.get(kind.name, key.namespace, key.name))
        except NotFound:
            continue
