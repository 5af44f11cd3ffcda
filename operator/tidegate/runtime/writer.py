"""Guarded writes: checked against the Lease right before each sending, and entered into the cache at once."""

from __future__ import annotations

import logging
import random
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tidegate.clients.kube import Json, Kube, PatchContent
from tidegate.clients.resources import resource_of
from tidegate.errors import KubeError, NotLeaderError
from tidegate.names import OPERATOR
from tidegate.runtime.cache import Cache
from tidegate.runtime.conditions import clean_message
from tidegate.runtime.keys import Key

log = logging.getLogger(__name__)

EVENT_REPEAT_SECONDS = 300.0
EVENT_MEMORY = 4096


class Writer:
    """The only way in which reconcilers change the cluster. Without a Lease it raises NotLeaderError and writes not."""

    def __init__(self, kube: Kube, cache: Cache, guard: Callable[[], None], instance: str = "") -> None:
        self._kube = kube
        self._cache = cache
        self._guard = guard
        self._instance = instance or OPERATOR
        self._told: dict[tuple[str, str, str], float] = {}  # Events of late

    def check(self) -> None:
        """Raise NotLeaderError unless the Lease is held: for writes outside the cluster (a git push)."""
        self._guard()

    async def create(self, kind: str, namespace: str, obj: Json) -> Json:
        """Create an object; raises AlreadyExists (look whose it is: `names.py` says which names are ours alone)."""
        return self._learn(kind, await self._kube.create(kind, namespace, obj, guard=self._guard))

    async def patch(
        self, kind: str, namespace: str, name: str, patch: Any, *, status: bool = False, content: PatchContent = "merge"
    ) -> Json:
        """Change an object; with `metadata.resourceVersion` in a merge patch it raises Conflict when it moved."""
        answer = await self._kube.patch(kind, namespace, name, patch, status=status, content=content, guard=self._guard)
        return self._learn(kind, answer)

    async def patch_status(self, key: Key, status: Json, *, resource_version: int | None = None) -> Json:
        """Merge into an object's status: lists are replaced whole, None removes a field. With `resource_version` it
        raises Conflict when the object has moved since."""
        patch: Json = {"status": status}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": str(resource_version)}
        return await self.patch(key.kind, key.namespace, key.name, patch, status=True)

    async def apply(self, kind: str, namespace: str, obj: Json) -> Json:
        """Server-side apply as field manager `tidegate`: create or change what is ours of it."""
        answer = await self._kube.patch(
            kind, namespace, obj["metadata"]["name"], obj, content="apply", guard=self._guard
        )
        return self._learn(kind, answer)

    async def delete(
        self, kind: str, namespace: str, name: str, *, uid: str | None = None, grace_seconds: int | None = None
    ) -> None:
        """Delete an object; gone already is a success, another UID is Conflict. The cache learns it from the watch."""
        await self._kube.delete(kind, namespace, name, uid=uid, grace_seconds=grace_seconds, guard=self._guard)

    async def event(self, kind: str, view: Any, type_: str, reason: str, note: str) -> None:
        """Record an Event (`Normal` or `Warning`) on an object. The same one is recorded once in five minutes. A
        failure is logged and goes no further, except NotLeaderError."""
        note = clean_message(note)
        now = datetime.now(UTC)
        fingerprint = (view.meta.uid, reason, note)
        if now.timestamp() - self._told.get(fingerprint, 0.0) < EVENT_REPEAT_SECONDS:
            return
        self._remember(fingerprint, now.timestamp())
        try:
            await self._kube.create(
                "Event", view.meta.namespace or "default", self._event(kind, view, type_, reason, note, now),
                guard=self._guard,
            )  # fmt: skip
        except NotLeaderError:
            raise
        except KubeError as error:
            log.warning("an Event could not be recorded", extra={"reason": reason, "error": str(error)})

    def _event(self, kind: str, view: Any, type_: str, reason: str, note: str, now: datetime) -> Json:
        suffix = "".join(random.choices(string.ascii_lowercase + string.digits, k=10))
        return {
            "metadata": {"name": f"{view.meta.name[:200]}.{suffix}", "namespace": view.meta.namespace or "default"},
            "regarding": {
                "apiVersion": resource_of(kind).api_version,
                "kind": kind,
                "namespace": view.meta.namespace,
                "name": view.meta.name,
                "uid": view.meta.uid,
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": type_,
            "reason": reason,
            "action": reason,
            "note": note,
            "reportingController": "tidegate.dev/operator",
            "reportingInstance": self._instance[:128],
        }

    def _remember(self, fingerprint: tuple[str, str, str], moment: float) -> None:
        if len(self._told) >= EVENT_MEMORY:
            for old in sorted(self._told, key=self._told.__getitem__)[: EVENT_MEMORY // 2]:
                del self._told[old]
        self._told[fingerprint] = moment

    def _learn(self, kind: str, answer: Json) -> Json:
        if self._cache.watches(kind):
            self._cache.offer(kind, answer)
        return answer
