"""What a change does to which paths, by tree entries: both names of a rename, modes too."""

from __future__ import annotations

from tidegate.clients.git_objects import Objects

_TREE = "40000"
_Entries = dict[bytes, tuple[str, str]]


def changed_paths(objects: Objects, before: str, after: str) -> list[str]:
    """The files, symlinks and submodules that differ between two trees. Folders that are equal are not entered."""
    found: list[bytes] = []
    pending = [(b"", before, after)]
    while pending:
        folder, old, new = pending.pop()
        if old == new:
            continue
        ours, theirs = _entries(objects, old), _entries(objects, new)
        for name in ours.keys() | theirs.keys():
            was, now = ours.get(name), theirs.get(name)
            if was == now:
                continue
            pending.append((folder + name + b"/", _tree(was), _tree(now)))
            if any(entry is not None and entry[0] != _TREE for entry in (was, now)):
                found.append(folder + name)
    return [path.decode("utf-8", "replace") for path in sorted(found)]


def _tree(entry: tuple[str, str] | None) -> str:
    return entry[1] if entry is not None and entry[0] == _TREE else ""


def _entries(objects: Objects, tree: str) -> _Entries:
    return objects.entries(tree) if tree else {}
