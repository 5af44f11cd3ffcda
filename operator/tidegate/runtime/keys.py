"""The name of an object in the cache and the queue."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """An object by kind, namespace and name; the namespace of a cluster-scoped object is empty."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
