"""The enforcer's picture of the cluster, shared by its threads, with a count of changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from dev.cluster.policy.model import Json, Pod, Policy, pod_of, policy_of
from dev.cluster.policy.render import World

Key = tuple[str, str]
_T = TypeVar("_T")


class Store:
    """Pods, Namespaces and policies as last seen, and the addresses that the network plugin handed out.

    An address from the plugin counts before the Pod's status names it, and until the plugin takes it back, also
    when the Pod object is gone by then: its processes may still run.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pods: dict[Key, Pod] = {}
        self._gone: dict[Key, Pod] = {}
        self._given: dict[Key, tuple[str, str]] = {}  # (Pod UID, address)
        self._namespaces: dict[Key, dict[str, str]] = {}
        self._policies: dict[Key, Policy] = {}
        self._version = 0
        self._applied = -1

    def replace(self, kind: str, items: Sequence[Json]) -> None:
        """Take a complete list of one kind."""
        with self._changed:
            keys = {_key(item) for item in items}
            known: dict[str, list[Key]] = {
                "pods": list(self._pods),
                "namespaces": list(self._namespaces),
                "networkpolicies": list(self._policies),
            }
            for key in known[kind]:
                if key not in keys:
                    self._drop(kind, key)
            for item in items:
                self._put(kind, item)

    def observe(self, kind: str, event: str, item: Json) -> None:
        """Take one watch event."""
        with self._changed:
            if event == "DELETED":
                self._drop(kind, _key(item))
            elif event in {"ADDED", "MODIFIED"}:
                self._put(kind, item)

    def _put(self, kind: str, item: Json) -> None:
        key = _key(item)
        if kind == "namespaces":
            self._set(self._namespaces, key, dict(item["metadata"].get("labels") or {}))
        elif kind == "networkpolicies":
            self._set(self._policies, key, policy_of(item))
        elif (pod := pod_of(item)) is None:
            self._remove(self._pods, key)
        else:
            self._set(self._pods, key, pod)

    def _drop(self, kind: str, key: Key) -> None:
        if kind == "namespaces":
            self._remove(self._namespaces, key)
        elif kind == "networkpolicies":
            self._remove(self._policies, key)
        else:
            pod = self._pods.get(key)
            if pod and key in self._given:
                self._gone[key] = pod
            self._remove(self._pods, key)

    def _set(self, where: dict[Key, _T], key: Key, value: _T) -> None:
        if where.get(key) != value:
            where[key] = value
            self._touch()

    def _remove(self, where: dict[Key, _T], key: Key) -> None:
        if where.pop(key, None) is not None:
            self._touch()

    def _touch(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def give(self, key: Key, uid: str, address: str, seconds: float) -> bool:
        """Record a new sandbox's address and wait until rules that know it are in force; False when that fails."""
        deadline = time.monotonic() + seconds
        with self._changed:
            if not self._wait(lambda: self._is_known(key, uid), deadline):
                return False
            self._gone.pop(key, None)
            self._given[key] = (self._pods[key].uid, address)
            self._touch()
            wanted = self._version
            return self._wait(lambda: self._applied >= wanted, deadline)

    def take_back(self, key: Key, uid: str) -> None:
        """Forget the address of a sandbox that is gone."""
        with self._changed:
            given = self._given.get(key)
            if given and uid in ("", given[0]):
                del self._given[key]
                self._gone.pop(key, None)
                self._touch()

    def _is_known(self, key: Key, uid: str) -> bool:
        pod = self._pods.get(key)
        return pod is not None and uid in ("", pod.uid)

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        return self._changed.wait_for(condition, max(0.0, deadline - time.monotonic()))

    def wait_for_change(self, seconds: float) -> None:
        """Wait until something is not applied yet, at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != self._applied, seconds)

    def snapshot(self) -> tuple[int, World]:
        """The version and everything that rules are made from."""
        with self._changed:
            pods = []
            for key, pod in {**self._gone, **self._pods}.items():
                uid, address = self._given.get(key, ("", ""))
                pods.append(pod.at(address) if uid == pod.uid else pod)
            namespaces = {key[1]: labels for key, labels in self._namespaces.items()}
            return self._version, World(pods, namespaces, list(self._policies.values()))

    def applied(self, version: int) -> None:
        """Record that rules of that version are in force."""
        with self._changed:
            self._applied = version
            self._changed.notify_all()


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
