"""What the operator knows of the cluster: one small frozen view for each object, with indexes.

Three sources feed it: watch events, lists, and the answers of own writes. Whatever the order they come in, the newest
resourceVersion wins, a deletion beats everything older than itself, and nobody is told the same thing twice.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import Kind

log = logging.getLogger(__name__)

Listener = Callable[[Key, Any, Any], None]  # key, old view or None, new view or None
IndexOf = Callable[[Any], Iterable[str]]

TOMBSTONES_PER_KIND = 20_000


class _Index:
    """Keys by value, kept as views come and go."""

    __slots__ = ("keys", "of")

    def __init__(self, of: IndexOf) -> None:
        self.of = of
        self.keys: defaultdict[str, dict[Key, None]] = defaultdict(dict)

    def move(self, key: Key, old: Any, new: Any) -> None:
        before = set(self.of(old)) if old is not None else set()
        after = set(self.of(new)) if new is not None else set()
        for value in before - after:
            held = self.keys[value]
            held.pop(key, None)
            if not held:
                del self.keys[value]
        for value in after - before:
            self.keys[value][key] = None


class _Shelf:
    """All that is kept of one kind."""

    __slots__ = ("indexes", "kind", "listeners", "tombstones", "views")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.views: dict[Key, Any] = {}
        self.tombstones: OrderedDict[Key, int] = OrderedDict()  # resourceVersion of the deletion
        self.indexes: dict[str, _Index] = {}
        self.listeners: list[Listener] = []


class Cache:
    """Views by key. Not thread-safe: used from one event loop."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._shelves = {name: _Shelf(kind) for name, kind in kinds.items()}

    def kinds(self) -> tuple[str, ...]:
        """The kinds that are kept."""
        return tuple(self._shelves)

    def watches(self, kind: str) -> bool:
        """Whether objects of a kind are kept at all."""
        return kind in self._shelves

    def get(self, key: Key) -> Any:
        """The view of an object, or None. Typed Any: the kind decides the view's class."""
        return self._shelves[key.kind].views.get(key)

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Any]:
        """Every view of a kind, of one namespace where given. Don't offer or remove while iterating."""
        views = self._shelves[kind].views.values()
        return iter(views) if namespace is None else (view for view in views if view.meta.namespace == namespace)

    def keys(self, kind: str) -> tuple[Key, ...]:
        """Every key of a kind."""
        return tuple(self._shelves[kind].views)

    def count(self, kind: str) -> int:
        """How many objects of a kind are known."""
        return len(self._shelves[kind].views)

    def add_index(self, kind: str, index: str, of: IndexOf) -> None:
        """Keep an index: `of` gives the values under which a view is found. It must be pure and cheap."""
        shelf = self._shelves[kind]
        if index in shelf.indexes:
            raise ValueError(f"index {index!r} of {kind} exists already")
        made = shelf.indexes[index] = _Index(of)
        for key, view in shelf.views.items():
            made.move(key, None, view)

    def indexed(self, kind: str, index: str, value: str) -> tuple[Any, ...]:
        """The views under a value of an index, in the order in which they came under it."""
        shelf = self._shelves[kind]
        keys = shelf.indexes[index].keys.get(value)
        return tuple(shelf.views[key] for key in keys) if keys else ()

    def indexed_count(self, kind: str, index: str, value: str) -> int:
        """How many views are under a value of an index."""
        return len(self._shelves[kind].indexes[index].keys.get(value, ()))

    def add_listener(self, kind: str, listener: Listener) -> None:
        """Be told of every change: (key, old, new), where None is absence. Where an object was replaced by another of
        the same name, old and new differ in UID. Called at once and in order: must be fast and must not await."""
        self._shelves[kind].listeners.append(listener)

    def offer(self, kind: str, obj: dict[str, Any]) -> bool:
        """Take an object as seen in an event, a list or the answer of a write. False: it was old news."""
        shelf = self._shelves[kind]
        meta = obj["metadata"]
        key = Key(kind, meta.get("namespace", ""), meta["name"])
        version = int(meta["resourceVersion"])
        old = shelf.views.get(key)
        if old is not None and version <= old.meta.resource_version:
            return False
        if version <= shelf.tombstones.get(key, -1):
            return False
        new = shelf.kind.view(obj)
        shelf.views[key] = new
        self._tell(shelf, key, old, new)
        return True

    def remove(self, key: Key, uid: str, resource_version: int) -> None:
        """Take the news that an object is gone: `resource_version` is that of the deletion, 0 where it isn't known
        (a live GET said 404). News older than what is there, or about an object of another UID, is dropped."""
        shelf = self._shelves[key.kind]
        old = shelf.views.get(key)
        if old is None:
            self._bury(shelf, key, resource_version)
            return
        if uid and old.meta.uid != uid:
            return
        if resource_version and resource_version < old.meta.resource_version:
            return
        self._bury(shelf, key, max(resource_version, old.meta.resource_version))
        del shelf.views[key]
        self._tell(shelf, key, old, None)

    def is_behind(self, key: Key, version: int) -> bool:
        """Whether an object of this resourceVersion would be news."""
        shelf = self._shelves[key.kind]
        view = shelf.views.get(key)
        return version > (view.meta.resource_version if view is not None else shelf.tombstones.get(key, -1))

    def reconcile_list(
        self, kind: str, namespace: str | None, present: set[tuple[str, str, str]], version: int
    ) -> list[Key]:
        """Drop what a list of (namespace, name, uid) taken at `version` doesn't hold: objects whose deletion nobody
        told us about. Returns their keys. What is newer than the list stays."""
        shelf = self._shelves[kind]
        ghosts = [
            (key, view.meta.uid)
            for key, view in shelf.views.items()
            if (namespace is None or key.namespace == namespace)
            and view.meta.resource_version <= version
            and (key.namespace, key.name, view.meta.uid) not in present
        ]
        again = {(space, name) for space, name, _ in present}  # names that another object has now
        for key, uid in ghosts:
            # the deletion is no younger than the list, but an object of the same name may be as old as that
            self.remove(key, uid, 0 if (key.namespace, key.name) in again else version - 1)
        return [key for key, _ in ghosts]

    def _bury(self, shelf: _Shelf, key: Key, version: int) -> None:
        if version > shelf.tombstones.get(key, 0):
            shelf.tombstones[key] = version
            shelf.tombstones.move_to_end(key)
            while len(shelf.tombstones) > TOMBSTONES_PER_KIND:
                shelf.tombstones.popitem(last=False)

    def _tell(self, shelf: _Shelf, key: Key, old: Any, new: Any) -> None:
        for index in shelf.indexes.values():
            index.move(key, old, new)
        for listener in shelf.listeners:
            try:
                listener(key, old, new)
            except Exception:  # one room's mistake must not blind the others
                log.exception("a cache listener failed", extra={"key": str(key)})
