"""Git objects, written without git: the workspace's content never passes through a program that might act on it."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

_TREE = 0o040000


def object_id(kind: str, content: bytes) -> str:
    """The name git gives to this content."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class ObjectStore:
    """Writes loose objects into a repository's `objects` directory; `present` holds names that need no writing."""

    directory: Path
    present: set[str] = field(default_factory=set)

    def write(self, kind: str, content: bytes) -> str:
        """Store an object; returns its name."""
        name = object_id(kind, content)
        if name in self.present:
            return name
        path = self.directory / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            header = f"{kind} {len(content)}\0".encode()
            with NamedTemporaryFile(dir=self.directory, prefix="tmp_obj_", delete=False) as file:
                file.write(zlib.compress(header + content, 1))
            Path(file.name).chmod(0o444)
            os.replace(file.name, path)  # noqa: PTH105 - the atomic call, by name
        self.present.add(name)
        return name


def write_tree(store: ObjectStore, entries: Mapping[bytes, tuple[int, str]], known: Collection[str] = ()) -> str:
    """Store the trees of `entries` (path to mode and object name); returns the root's name.

    `known` are trees the repository holds already.
    """
    store.present.update(known)
    return _write_level(store, sorted(entries.items()), 0)


def _write_level(store: ObjectStore, entries: list[tuple[bytes, tuple[int, str]]], at: int) -> str:
    """One directory: `entries` are all paths below it, sorted; `at` is where their names in it begin."""
    rows: list[tuple[bytes, bytes]] = []
    index = 0
    below: dict[bytes, list[tuple[bytes, tuple[int, str]]]] = {}
    while index < len(entries):
        path, (mode, name) = entries[index]
        slash = path.find(b"/", at)
        if slash < 0:
            rows.append((path[at:], _row(mode, path[at:], name)))
        else:
            below.setdefault(path[at:slash], []).append(entries[index])
        index += 1
    for directory, group in below.items():
        name = _write_level(store, group, at + len(directory) + 1)
        rows.append((directory + b"/", _row(_TREE, directory, name)))
    return store.write("tree", b"".join(row for _, row in sorted(rows)))


def _row(mode: int, name: bytes, oid: str) -> bytes:
    return b"%o %s\0" % (mode, name) + bytes.fromhex(oid)


def commit_object(tree: str, parents: Iterable[str], author: str, committer: str, message: str, seconds: int) -> bytes:
    """A commit's content. `author` and `committer` are `Name <email>`; `seconds` since 1970."""
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"author {author} {seconds} +0000", f"committer {committer} {seconds} +0000", "", message]
    return "\n".join(lines).rstrip("\n").encode("utf-8", "replace") + b"\n"
