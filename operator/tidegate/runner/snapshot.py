"""The workspace as a git tree: what of it is published, what is held back and what is refused, with reasons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tidegate.clients.git import Git
from tidegate.runner.base import Base, Blobs, Entry, is_layable
from tidegate.runner.ignore import ignore_rules
from tidegate.runner.objects import ObjectStore, object_id, write_tree
from tidegate.runner.paths import GITLINK, LINK, is_git_modules, link_refusal, name_refusal, show, twin_key
from tidegate.runner.scan import Finding, Scanner
from tidegate.runner.walk import LimitError, Reader, Refusal, Stamp, WalkStoppedError, open_root, walk

_RACE_NS = 2_000_000_000  # a file that changed this shortly before it was read may change again unseen


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what one attempt may add or change, and of the time to read it."""

    max_files: int
    max_bytes: int
    deadline: float = float("inf")  # on the monotonic clock
    stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree in the repository, and how it differs from the base. `over_limit` says why the rest is missing."""

    tree: str
    changed: tuple[str, ...]
    refused: tuple[Refusal, ...]
    held_back: tuple[Finding, ...]
    over_limit: str = ""


@dataclass(slots=True)
class Memory:
    """What the last walk found, so that a checkpoint reads only what changed since."""

    files: dict[bytes, tuple[int, Stamp, str]] = field(default_factory=dict)


def _ancestors(path: bytes) -> list[bytes]:
    """Every directory above a path, the nearest last."""
    parts = path.split(b"/")
    return [b"/".join(parts[:n]) for n in range(1, len(parts))]


@dataclass(slots=True)
class _Collector:
    """Takes what the walk reads and decides file by file."""

    base: Base
    blobs: Blobs
    store: ObjectStore
    scanner: Scanner
    limits: Limits
    refuse: Callable[[bytes, str], None]
    memory: Memory | None
    now_ns: int
    entries: dict[bytes, Entry] = field(default_factory=dict)
    links: dict[bytes, bytes] = field(default_factory=dict)
    held_back: dict[bytes, list[Finding]] = field(default_factory=dict)
    files: int = 0
    size: int = 0

    def take(self, path: bytes, mode: int, content: bytes, stamp: Stamp) -> None:
        if why := self._refusal(path, mode, content):
            self.refuse(path, why)
            return
        if mode == LINK:
            self.links[path] = content
        before = self.base.entries.get(path)
        oid = object_id("blob", content)
        if _differs(before, Entry(mode, oid)):
            self.files += 1
            self.size += len(content)
            if self.files > self.limits.max_files:
                raise LimitError(f"more than {self.limits.max_files} files added or changed")
            if self.size > self.limits.max_bytes:
                raise LimitError(f"more than {self.limits.max_bytes} bytes added or changed")
            if found := self._scan(path, content, before):
                self.held_back[path] = found
                self.links.pop(path, None)
                return
            self.store.write("blob", content)
        self.entries[path] = Entry(mode, oid, len(content))
        if self.memory is not None and mode != LINK and stamp.changed_ns < self.now_ns - _RACE_NS:
            self.memory.files[path] = (mode, stamp, oid)

    def known(self, path: bytes, mode: int, stamp: Stamp) -> bool:
        """Use what an earlier walk found, when the file is the same since."""
        if self.memory is None:
            return False
        found = self.memory.files.get(path)
        if found is None or found[:2] != (mode, stamp):
            self.memory.files.pop(path, None)
            return False
        self.entries[path] = Entry(mode, found[2], stamp.size)
        return True

    def unchanged(self, path: bytes, mode: int, size: int, name: Callable[[], str]) -> bool:
        """Keep a large file of the base that is as it was."""
        before = self.base.entries.get(path)
        if before is None or before.mode != mode or before.size != size or name() != before.oid:
            return False
        self.entries[path] = before
        return True

    def _refusal(self, path: bytes, mode: int, content: bytes) -> str:
        if path in self.base.entries:
            entry = self.base.entries[path]
            changed = _differs(entry, Entry(mode, object_id("blob", content)))
            modules = is_git_modules(path.rpartition(b"/")[2])
            return "submodules are off: .gitmodules may not be added or changed" if changed and modules else ""
        above = [*_ancestors(path), path]
        if any(self._is_gitlink(one) for one in above):
            return "lies in a submodule"
        new = (one.rpartition(b"/")[2] for one in above if not self.base.is_tracked(one))
        return next((why for name in new if (why := name_refusal(name))), "")

    def _is_gitlink(self, path: bytes) -> bool:
        entry = self.base.entries.get(path)
        return entry is not None and entry.mode == GITLINK

    def _scan(self, path: bytes, content: bytes, before: Entry | None) -> list[Finding]:
        def read_base() -> bytes | None:
            return self.blobs.read(before.oid) if before is not None and before.mode != GITLINK else None

        return self.scanner.findings(show(path), content, read_base)


def take_snapshot(
    git: Git, base: Base, workspace: str, scanner: Scanner, limits: Limits, *, now_ns: int, memory: Memory | None = None
) -> Snapshot:
    """Walk the workspace and write its tree. Raises WalkStoppedError only when `limits.stopped` called it off."""
    store = ObjectStore(git.directory / "objects", {entry.oid for entry in base.entries.values()})
    with Blobs.open(git, timeout=600) as blobs, ignore_rules(git, base, blobs) as ignored:
        reader = Reader(
            ignored,
            base.is_tracked,
            take=lambda *found: collector.take(*found),
            known=lambda *found: collector.known(*found),
            unchanged=lambda *found: collector.unchanged(*found),
            stopped=limits.stopped,
            max_names=4 * limits.max_files + 2 * len(base.entries) + 10_000,
            deadline=limits.deadline,
        )
        collector = _Collector(base, blobs, store, scanner, limits, reader.refuse, memory, now_ns)
        over_limit = _walk_all(workspace, reader, limits)
        if memory is not None:
            memory.files = {path: row for path, row in memory.files.items() if path in collector.entries}
        entries = _settle(base, collector, reader, over_limit)
        held_back = [finding for path in sorted(collector.held_back) for finding in collector.held_back[path]]
        tree = write_tree(store, {path: (e.mode, e.oid) for path, e in entries.items()}, base.trees)
    return Snapshot(tree, _changes(base, entries), tuple(reader.refusals), tuple(held_back), over_limit)


def _walk_all(workspace: str, reader: Reader, limits: Limits) -> str:
    root = open_root(workspace)
    try:
        walk(root, reader)
    except LimitError as error:
        return str(error)
    except WalkStoppedError as error:
        if limits.stopped():
            raise
        return str(error)
    finally:
        os.close(root)
    return ""


def _settle(base: Base, collector: _Collector, reader: Reader, over_limit: str) -> dict[bytes, Entry]:
    """The tree's entries: what was taken, and the base's for whatever was not read, held back or refused."""
    entries = dict(collector.entries)
    standing = [r.path for r in reader.refusals if base.is_tracked(r.path)] + [*collector.held_back]
    for path, why in [*_twins(base, [*entries, *standing]), *_bad_links(base, entries, collector.links)]:
        reader.refuse(path, why)
    kept = {refusal.path for refusal in reader.refusals} | set(collector.held_back)
    entries = {p: e for p, e in entries.items() if p not in kept and kept.isdisjoint(_ancestors(p))}
    for path, entry in base.entries.items():
        keep = over_limit or entry.mode == GITLINK or not is_layable(path) or path in kept or b"" in kept
        if path not in entries and (keep or not kept.isdisjoint(_ancestors(path))):
            entries[path] = entry
    for path in list(entries):  # a file of the base that was kept, where a directory stands now, or the other way
        clash = next((above for above in _ancestors(path) if above in entries), None)
        if clash is not None:
            loser = clash if path in base.entries and clash not in base.entries else path
            entries.pop(loser, None)
    return entries


def _twins(base: Base, paths: Iterable[bytes]) -> list[tuple[bytes, str]]:
    """New names that a case-insensitive file system takes for another of the same directory."""
    names = {one for path in paths for one in (*_ancestors(path), path)}
    groups: dict[tuple[bytes, str], list[bytes]] = {}
    for path in names:
        directory, _, name = path.rpartition(b"/")
        groups.setdefault((directory, twin_key(name)), []).append(path)
    found: list[tuple[bytes, str]] = []
    for group in groups.values():
        if len(group) > 1:
            old = [path for path in group if base.is_tracked(path)]
            first = old or [min(group)]
            found += [(p, f"differs from {show(first[0])} only in case or form") for p in group if p not in first]
    return sorted(found)


def _bad_links(base: Base, entries: dict[bytes, Entry], links: dict[bytes, bytes]) -> list[tuple[bytes, str]]:
    """New or changed symlinks that lead out of the tree, by themselves or by bending others."""
    new = [path for path in links if _differs(base.entries.get(path), entries.get(path))]
    if not new:
        return []
    found = {path: why for path in new if (why := link_refusal(path, links))}
    old = {path: target for path, target in links.items() if path not in new}
    left = {path: target for path, target in links.items() if path not in found}
    bent = any(link_refusal(path, left) and not link_refusal(path, old) for path in old)
    if bent:
        found.update((path, "a symlink that leads another one out of the tree") for path in new if path not in found)
    return sorted(found.items())


def _changes(base: Base, entries: dict[bytes, Entry]) -> tuple[str, ...]:
    """Paths that differ from the base, both names of a rename."""
    paths = base.entries.keys() | entries.keys()

    changed = (path for path in sorted(paths) if _differs(base.entries.get(path), entries.get(path)))
    return tuple(path.decode("utf-8", "surrogateescape") for path in changed)


def _differs(before: Entry | None, after: Entry | None) -> bool:
    return before is None or after is None or (before.mode, before.oid) != (after.mode, after.oid)
