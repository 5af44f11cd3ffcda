"""Leader election by a `coordination.k8s.io` Lease.

The holder may write until `renew deadline` after the moment its last successful renewal was SENT; others may take the
Lease only `duration` after they SAW it change, which is later. Both measure with their own monotonic clock: wall clocks
may disagree. That leaves the margin (duration less deadline) for a write that is on its way. What a stopped and
continued process sends in spite of that is fenced by resourceVersions and by git.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tidegate.clients.kube import Kube
from tidegate.errors import AlreadyExists, Conflict, KubeError, NotFound, NotLeaderError
from tidegate.settings import Settings
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AGAIN_SECONDS = 0.3  # after a failure
NEVER = float("-inf")


def new_identity(name: str) -> str:
    """A holder's name: new at every start of the process, so that a restart is never taken for its predecessor."""
    return f"{name or socket.gethostname()}_{uuid.uuid4().hex[:12]}"


class Lease:
    """One replica's part in the election. `run` it as a task; ask `check` before every write."""

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        on_change: Callable[[bool], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._on_change = on_change
        self._monotonic = monotonic
        self.identity = new_identity(settings.identity)
        self._deadline = NEVER
        self._leading = False
        self._version = ""  # resourceVersion of the Lease as last seen
        self._spec: dict[str, Any] = {}
        self._seen_at = NEVER  # when this version was seen first

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        return self._monotonic() < self._deadline

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as known, empty for nobody."""
        return str(self._spec.get("holderIdentity") or "")

    def check(self) -> None:
        """Raise NotLeaderError unless this replica may write at this very moment."""
        if not self.leading:
            raise NotLeaderError(f"the Lease is not held (any more) by {self.identity}")

    async def run(self) -> None:
        """Take the Lease when it is free, renew it while held; forever."""
        while True:
            try:
                if self._leading:
                    await self._renew_once()
                else:
                    await self._stand_by_once()
            except KubeError as error:
                log.warning("the Lease could not be read or written", extra={"error": str(error)})
                self._give_up_if_late()
                await asyncio.sleep(AGAIN_SECONDS)

    async def release(self) -> None:
        """Stop writing and let another replica take over at once."""
        held = self._leading
        self._step_down()
        if not held:
            return
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        with contextlib.suppress(KubeError):
            try:
                await self._patch(spec, timeout_seconds=2.0)
            except Conflict:  # a renewal was cut off after it was sent
                await self._look()
                if self.holder == self.identity:
                    await self._patch(spec, timeout_seconds=2.0)

    # -- leading

    async def _renew_once(self) -> None:
        # Measured from the last success: after a failure the next try comes at once.
        due = self._deadline - self._settings.lease_renew_deadline_seconds + self._settings.lease_retry_seconds
        await asyncio.sleep(max(0.0, due - self._monotonic()))
        self._give_up_if_late()
        if not self._leading:
            return
        left = self._deadline - self._monotonic()
        sent = self._monotonic()
        try:
            await self._patch({"renewTime": _now()}, timeout_seconds=max(0.5, min(left, 3.0)))
        except (Conflict, NotFound):
            await self._look()
            if self.holder != self.identity:
                log.warning("the Lease was taken away", extra={"holder": self.holder})
                self._step_down()
            return
        self._deadline = sent + self._settings.lease_renew_deadline_seconds

    def _give_up_if_late(self) -> None:
        if self._leading and not self.leading:
            log.warning("the Lease could not be renewed in time: standing by")
            self._step_down()

    def _step_down(self) -> None:
        self._deadline = NEVER
        if self._leading:
            self._leading = False
            metrics.LEADER.set(0)
            metrics.LEADER_CHANGES.labels("standby").inc()
            self._on_change(False)

    # -- standing by

    async def _stand_by_once(self) -> None:
        await self._look()
        if self._free():
            await self._take()
            if self._leading:
                return
        await self._wait_for_change()
        if self._free():
            await self._take()

    def _free(self) -> bool:
        duration = float(self._spec.get("leaseDurationSeconds") or 0)
        return self.holder in ("", self.identity) or self._monotonic() >= self._seen_at + duration

    async def _wait_for_change(self) -> None:
        """Follow the Lease until it is free, or for a while when it can't be followed."""
        if not self._version:
            await asyncio.sleep(POLL_SECONDS)
            return
        started = self._monotonic()
        try:
            async with asyncio.timeout(self._left()) as timeout:
                watch = self._kube.watch_one(
                    "Lease", self._settings.operator_namespace, self._settings.lease_name, self._version, 30
                )
                async with contextlib.aclosing(watch) as events:
                    async for event in events:
                        if event["type"] not in ("ADDED", "MODIFIED"):
                            return
                        self._note(event["object"])
                        if self._free():
                            return
                        timeout.reschedule(asyncio.get_running_loop().time() + self._left())
        except TimeoutError:
            return
        if self._monotonic() - started < POLL_SECONDS / 2:
            await asyncio.sleep(POLL_SECONDS)

    def _left(self) -> float:
        """Seconds until the holder's time is over."""
        duration = float(self._spec.get("leaseDurationSeconds") or 0)
        return max(0.05, self._seen_at + duration - self._monotonic())

    async def _take(self) -> None:
        settings = self._settings
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(settings.lease_duration_seconds),
            "acquireTime": _now(),
            "renewTime": _now(),
            "leaseTransitions": int(self._spec.get("leaseTransitions") or 0) + 1,
        }
        sent = self._monotonic()
        try:
            if self._version:
                await self._patch(spec, timeout_seconds=3.0)
            else:
                body = {
                    "metadata": {"name": settings.lease_name, "namespace": settings.operator_namespace},
                    "spec": spec,
                }
                self._note(await self._kube.create("Lease", settings.operator_namespace, body))
        except (Conflict, AlreadyExists, NotFound):
            return  # somebody was faster: look again
        if self.holder != self.identity:
            return
        self._deadline = sent + settings.lease_renew_deadline_seconds
        self._leading = True
        metrics.LEADER.set(1)
        metrics.LEADER_CHANGES.labels("leader").inc()
        log.info("took the Lease", extra={"identity": self.identity})
        self._on_change(True)

    # -- the object

    async def _look(self) -> None:
        try:
            lease = await self._kube.get(
                "Lease", self._settings.operator_namespace, self._settings.lease_name, timeout_seconds=3.0
            )
        except NotFound:
            self._version, self._spec, self._seen_at = "", {}, NEVER
            return
        self._note(lease)

    async def _patch(self, spec: dict[str, Any], timeout_seconds: float) -> None:
        patch = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        answer = await self._kube.patch(
            "Lease",
            self._settings.operator_namespace,
            self._settings.lease_name,
            patch,
            timeout_seconds=timeout_seconds,
            attempts=1,
        )
        self._note(answer)

    def _note(self, lease: dict[str, Any]) -> None:
        version = lease["metadata"]["resourceVersion"]
        if version != self._version:
            self._version = version
            self._spec = lease.get("spec") or {}
            self._seen_at = self._monotonic()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
