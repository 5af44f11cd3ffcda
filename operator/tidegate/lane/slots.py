"""Gate slots of a lane: Pods are counted, and only one process may make them.

The Lease alone doesn't see to that: a process that is stopped between its look at the Lease and the request sends it
when another one has long taken over. So whoever begins to start gates in a lane first writes its name into the lane's
status (`gateHolder`), and each gate's Pod carries the name of its sender: the chart's policy has the API server refuse
Pods of any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate import names
from tidegate.api.views import GateRunView, LaneView, PodView
from tidegate.lane.index import GATE_PODS, TASK, URGENT
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key

DEFAULT_SLOTS = 4
CLAIM_SECONDS = 1.0  # from a new name in the lane's status until every API server has seen it


class GateSlots:
    """The slots of all lanes."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._creating: set[Key] = set()  # slots taken by Pods that are being created
        self._claimed: dict[Key, float] = {}  # lanes in which we have just become the holder, and when

    def total(self, view: GateRunView) -> int:
        """How many slots the run's lane has."""
        lane = self._lane(view)
        return int(lane.spec.get("gateSlots") or DEFAULT_SLOTS) if lane is not None else DEFAULT_SLOTS

    async def claim(self, view: GateRunView) -> float | None:
        """Become the one that starts gates in the run's lane; seconds to wait before it is so, None when it is."""
        lane = self._lane(view)
        if lane is None:
            return None  # it is being deleted, and its runs with it
        key = Key("MergeLane", lane.meta.namespace, lane.meta.name)
        if lane.status.get("gateHolder") != self._ctx.holder:
            holder = {"gateHolder": self._ctx.holder}
            self._claimed[key] = math.inf  # the watch may tell others before the answer tells us
            try:
                await self._ctx.writer.patch_status(key, holder, resource_version=lane.meta.resource_version)
            finally:  # an answer that is lost doesn't mean that nothing was written
                self._claimed[key] = self._ctx.monotonic()
        since = self._claimed.get(key)
        if since is None:
            return None
        left = min(since + CLAIM_SECONDS - self._ctx.monotonic(), CLAIM_SECONDS)
        if left > 0:
            return left
        await self._look(lane)
        self._claimed.pop(key, None)
        return None

    async def _look(self, lane: LaneView) -> None:
        """Enter what the holder before made last: the watch may be behind."""
        wanted = {names.LABEL_COMPONENT: names.COMPONENT_GATE, names.LABEL_LANE: lane.meta.name}
        selector = ",".join(f"{label}={value}" for label, value in wanted.items())
        pods, _ = await self._ctx.kube.list("Pod", lane.meta.namespace, selector)
        for pod in pods:
            self._ctx.cache.offer("Pod", pod)

    def free(self, key: Key, view: GateRunView) -> bool:
        """Whether the run may have a Pod. Pods are counted, not runs: also right after a takeover there are no more
        than slots."""
        name = _lane_name(view)
        pods: tuple[PodView, ...] = self._ctx.cache.indexed("Pod", GATE_PODS, f"{view.meta.namespace}/{name}")
        known = {pod.meta.name for pod in pods if not pod.terminal}
        known.update(other.name for other in self._creating if other != key and other.namespace == key.namespace)
        if view.spec.get("purpose") == TASK:  # the lane's own runs go first: what lands waits for no task's work
            known.update(run.meta.name for run in self._ctx.cache.indexed("GateRun", URGENT, f"{key.namespace}/{name}"))
        return len(known) < self.total(view)

    @contextmanager
    def taken(self, key: Key) -> Iterator[None]:
        """Hold a slot for a Pod that is being created."""
        self._creating.add(key)
        try:
            yield
        finally:
            self._creating.discard(key)

    def _lane(self, view: GateRunView) -> LaneView | None:
        found: LaneView | None = self._ctx.cache.get(Key("MergeLane", view.meta.namespace, _lane_name(view)))
        return found


def _lane_name(view: GateRunView) -> str:
    return str((view.spec.get("laneRef") or {}).get("name") or "")
