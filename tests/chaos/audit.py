"""Counts Pods from the API server's own audit log: what really existed, whoever claims what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PodChange:
    """A Pod of a namespace that came or went, at a time in the log's order."""

    name: str
    created: bool
    time: str


def events(log: Path) -> Iterator[dict[str, Any]]:
    """The audit events in the order written."""
    with log.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def pods_created(log: Path, namespace: str) -> list[str]:
    """The names of the Pods that were created in a namespace, in order."""
    return [
        str(event["responseObject"]["metadata"]["name"] if "responseObject" in event else event["objectRef"]["name"])
        for event in events(log)
        if _is_pod(event, namespace) and event["verb"] == "create" and event["responseStatus"]["code"] == 201
    ]


def writes(log: Path, namespace: str, resource: str) -> list[dict[str, Any]]:
    """The successful writes to a kind in a namespace."""
    return [
        event
        for event in events(log)
        if (event.get("objectRef") or {}).get("resource") == resource
        and event["objectRef"].get("namespace") == namespace
        and event["verb"] in {"create", "update", "patch", "delete"}
        and event["responseStatus"]["code"] < 300
    ]


def most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """The largest number of intervals that overlap at one instant."""
    edges = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _is_pod(event: dict[str, Any], namespace: str) -> bool:
    ref = event.get("objectRef") or {}
    return ref.get("resource") == "pods" and ref.get("namespace") == namespace and not ref.get("subresource")
