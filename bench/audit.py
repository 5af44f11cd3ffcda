"""Pods counted from the API server's audit log: what ran at once, whatever any controller believes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from dev.cluster.settings import AUDIT_LOG

TERMINAL = ("Succeeded", "Failed")


def _parts(log: Path) -> list[Path]:
    """The log with the parts that were rotated away, oldest first."""
    return [*sorted(part for part in log.parent.glob(f"{log.stem}-*{log.suffix}")), log]


def _events(log: Path, namespace: str) -> Iterator[dict[str, Any]]:
    needle = f'"namespace":"{namespace}"'
    for part in _parts(log):
        with part.open() as lines:
            for line in lines:
                if needle in line and line.endswith("\n"):
                    yield json.loads(line)


def most_pods_at_once(namespace: str, log: Path = AUDIT_LOG, counts: Callable[[str], object] = bool) -> tuple[int, int]:
    """The most Pods of a namespace that existed and had not ended at one instant, and how many were created; only
    those whose name `counts`. What counts is when requests arrive: of an end a watch may tell before its request is
    answered, and the creation that this leads to arrives later in any case."""
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    deleted: dict[str, float] = {}
    for event in _events(log, namespace):
        ref = event.get("objectRef") or {}
        if ref.get("resource") != "pods" or (event.get("responseStatus") or {}).get("code", 500) >= 300:
            continue
        moment = datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
        name = ref.get("name", "")
        if not counts(name):
            continue
        if event["verb"] == "create" and not ref.get("subresource"):
            begun.setdefault(name, moment)
        elif _tells_the_end(event, ref):
            ended.setdefault(name, moment)
        elif event["verb"] == "delete" and not ref.get("subresource"):
            deleted[name] = moment  # the last one removes it: those before only ask it to stop
    ended = deleted | ended
    edges = [(moment, 1) for moment in begun.values()]
    edges += [(ended[name], -1) for name in begun if name in ended]
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most, len(begun)


def _tells_the_end(event: dict[str, Any], ref: dict[str, Any]) -> bool:
    phase = ((event.get("requestObject") or {}).get("status") or {}).get("phase")
    return ref.get("subresource") == "status" and phase in TERMINAL


async def pods_over(namespace: str, cap: int) -> int:
    """By how many Pods the cap was exceeded at the worst instant; raises when the log shows no Pod at all."""
    most, created = await asyncio.to_thread(most_pods_at_once, namespace)
    if not created:
        raise RuntimeError(f"the audit log {AUDIT_LOG} shows no Pod of {namespace}")
    return max(0, most - cap)
