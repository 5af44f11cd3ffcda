"""An API server in memory: resourceVersions, merge patches, finalizers, and a watch that lags as far as a test likes.

Calls of a client yield before the request takes effect and again before its answer: whoever drives the coroutine may
let others go first, or never go on.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

from tidegate.errors import AlreadyExists, Conflict, NotFound

Json = dict[str, Any]
Name = tuple[str, str, str]  # kind, namespace, name


class Pause(Awaitable[None]):
    """A point at which the driver takes over."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


class FakeApi:
    """All objects, every event, and whoever wants to look at a change."""

    def __init__(self) -> None:
        self.objects: dict[Name, Json] = {}
        self.events: list[tuple[str, str, Json]] = []  # kind, type, object
        self.told: list[tuple[str, str]] = []  # Events: object, reason
        self.version = 100
        self.on_change: Callable[[str, Json, Json], None] = lambda _kind, _old, _new: None
        self.admit: Callable[[str, Json], None] = lambda _kind, _obj: None  # may refuse a creation

    def get(self, kind: str, namespace: str, name: str) -> Json:
        """A copy of an object; raises NotFound."""
        found = self.objects.get((kind, namespace, name))
        if found is None:
            raise NotFound(404, "NotFound", f"{kind} {name}")
        return copy.deepcopy(found)

    def listed(self, kind: str) -> list[Json]:
        """Copies of all objects of a kind."""
        return [copy.deepcopy(obj) for (one, _, _), obj in self.objects.items() if one == kind]

    def create(self, kind: str, namespace: str, obj: Json) -> Json:
        """Raises AlreadyExists."""
        name = (kind, namespace, obj["metadata"]["name"])
        if name in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{kind} {name[2]}")
        self.admit(kind, obj)
        made = copy.deepcopy(obj)
        meta = made["metadata"]
        meta |= {"namespace": namespace, "uid": f"uid-{kind.lower()}-{self.version}", "generation": 1}
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        return self._store(name, made, "ADDED")

    def patch(self, kind: str, namespace: str, name: str, patch: Json, *, status: bool) -> Json:
        """A merge patch of the status or of all but the status; raises NotFound, Conflict."""
        old = self.get(kind, namespace, name)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", f"{kind} {name} has changed")
        if status:
            changed = {**old, "status": merge_patch(old.get("status"), patch.get("status"))}
        else:
            changed = merge_patch(old, {key: value for key, value in patch.items() if key != "status"})
        if changed == old:
            return old
        if changed.get("spec") != old.get("spec"):
            changed["metadata"] = {**changed["metadata"], "generation": old["metadata"]["generation"] + 1}
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            self._drop((kind, namespace, name), changed)
            return changed
        return self._store((kind, namespace, name), changed, "MODIFIED")

    def delete(self, kind: str, namespace: str, name: str, uid: str | None) -> None:
        """Raises NotFound, Conflict."""
        old = self.get(kind, namespace, name)
        if uid and uid != old["metadata"]["uid"]:
            raise Conflict(409, "Conflict", f"{kind} {name} is another object")
        if old["metadata"].get("finalizers"):
            old["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}
            self._store((kind, namespace, name), old, "MODIFIED")
            return
        self._drop((kind, namespace, name), old)

    def _drop(self, name: Name, old: Json) -> None:
        kind = name[0]
        del self.objects[name]
        self.version += 1
        old["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((kind, "DELETED", old))

    def _store(self, name: Name, obj: Json, type_: str) -> Json:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        old = self.objects.get(name, {})
        self.objects[name] = obj
        self.events.append((name[0], type_, copy.deepcopy(obj)))
        self.on_change(name[0], old, obj)
        return copy.deepcopy(obj)


class FakeKube:
    """The client of one replica, with the methods that the lane uses. The guard is asked before the first pause: a
    process may stop right after it looked at its Lease."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api

    async def get(self, kind: str, namespace: str, name: str, **_: Any) -> Json:
        """As Kube.get."""
        await Pause()
        return self._api.get(kind, namespace, name)

    async def list(self, kind: str, _namespace: str, selector: str) -> tuple[list[Json], str]:
        """As Kube.list."""
        await Pause()
        wanted = dict(part.split("=") for part in selector.split(","))
        found = self._api.listed(kind)
        return [obj for obj in found if wanted.items() <= (obj["metadata"].get("labels") or {}).items()], ""

    async def create(self, kind: str, namespace: str, obj: Json, *, guard: Callable[[], None]) -> Json:
        """As Kube.create; Events are only told."""
        guard()
        if kind == "Event":
            self._api.told.append((obj["regarding"]["name"], obj["reason"]))
            return {}
        await Pause()
        answer = self._api.create(kind, namespace, obj)
        await Pause()
        return answer

    async def patch(self, kind: str, namespace: str, name: str, patch: Any, *, guard: Callable[[], None],
                    status: bool = False, content: str = "merge") -> Json:  # fmt: skip
        """As Kube.patch, merge patches only."""
        assert content == "merge"
        guard()
        await Pause()
        answer = self._api.patch(kind, namespace, name, cast("Json", patch), status=status)
        await Pause()
        return answer

    async def delete(self, kind: str, namespace: str, name: str, *, guard: Callable[[], None], uid: str | None = None,
                     **_: Any) -> None:  # fmt: skip
        """As Kube.delete: gone already is a success."""
        guard()
        await Pause()
        try:
            self._api.delete(kind, namespace, name, uid)
        except NotFound:
            return
