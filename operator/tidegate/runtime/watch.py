"""kopf as the source of watch events: one raw `on.event` handler for each kind, and nothing else of kopf's handling."""

from __future__ import annotations

from typing import Any

import kopf

from tidegate.clients.resources import resource_of
from tidegate.runtime.context import Context


def watch(registry: kopf.OperatorRegistry, ctx: Context, kind: str) -> None:
    """Hand every event of a kind to `ctx.observe`. A second call for the same kind does nothing."""
    if kind in ctx.watched:
        return
    ctx.watched.add(kind)
    resource = resource_of(kind)

    @kopf.on.event(resource.group, resource.version, resource.plural, id=f"observe-{kind}", registry=registry)
    async def observe(event: Any, **_: Any) -> None:
        ctx.observe(kind, event)
