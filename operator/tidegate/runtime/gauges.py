"""Counts by state, kept as the cache changes and read when somebody scrapes: only the leader shows them, so that sums
over replicas are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY

from tidegate.api import reasons
from tidegate.api.views import BuildView, MergeJobView, TaskView
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.telemetry.metrics import Counts, StateCollector

Labels = tuple[str, ...]


def build_state(view: BuildView) -> Labels:
    """Namespace, and the state of a build in one word."""
    if view.meta.deleting:
        return (view.meta.namespace, "Deleting")
    verdict = view.condition_status(reasons.SUCCEEDED)
    return (view.meta.namespace, {"True": "Passed", "False": "Failed"}.get(verdict, "Active"))


def task_state(view: TaskView) -> Labels:
    """Namespace and state of a task."""
    return (view.meta.namespace, view.state)


def lane_of_waiting(view: MergeJobView) -> Labels | None:
    """Namespace and lane of a MergeJob that has not ended."""
    if view.condition_status(reasons.SUCCEEDED) != "Unknown":
        return None
    return (view.meta.namespace, str(view.status.get("lane") or ""))


class _Tally:
    """How many views have which labels."""

    def __init__(self, of: Callable[[Any], Labels | None]) -> None:
        self._of = of
        self.counts: Counter[Labels] = Counter()

    def __call__(self, _key: Key, old: Any, new: Any) -> None:
        before = self._of(old) if old is not None else None
        after = self._of(new) if new is not None else None
        if before == after:
            return
        if before is not None:
            self.counts[before] -= 1
            if not self.counts[before]:
                del self.counts[before]
        if after is not None:
            self.counts[after] += 1


def install_gauges(ctx: Context, leading: Callable[[], bool]) -> None:
    """Keep the counts and register their collector with the process's metrics."""
    tallies = {kind: _Tally(of) for kind, of in _TALLIES.items()}
    for kind, tally in tallies.items():
        ctx.cache.add_listener(kind, tally)

    def counts(kind: str) -> Callable[[], Counts]:
        return lambda: dict(tallies[kind].counts) if leading() else {}

    namespaced = ("namespace", "state")
    REGISTRY.register(
        StateCollector(
            [
                ("tidegate_builds", "Builds by state.", namespaced, counts("BuildRequest")),
                ("tidegate_tasks", "Tasks by state.", namespaced, counts("AgentTask")),
                ("tidegate_lane_depth", "Unlanded MergeJobs.", ("namespace", "lane"), counts("MergeJob")),
                ("tidegate_queue_keys", "Keys in the work queue.", ("state",), lambda: _queue(ctx)),
                ("tidegate_cache_objects", "Objects in the cache.", ("kind",), lambda: _objects(ctx)),
            ]
        )
    )


_TALLIES: dict[str, Callable[[Any], Labels | None]] = {
    "BuildRequest": build_state,
    "AgentTask": task_state,
    "MergeJob": lane_of_waiting,
}


def _queue(ctx: Context) -> Counts:
    ready = ctx.queue.ready()
    return {("ready",): ready, ("later",): len(ctx.queue) - ready, ("running",): ctx.queue.running}


def _objects(ctx: Context) -> Counts:
    return {(kind,): ctx.cache.count(kind) for kind in ctx.cache.kinds()}
