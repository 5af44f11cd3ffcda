"""Merge attributes of the base: git reads none of them in a bare repository, so that they are looked up here."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidegate.clients.git import Git
from tidegate.clients.git_objects import Objects

_TREE = "40000"
_NONE = ("", "")
_TEXT = (b"unspecified", b"set", b"text")


@dataclass(frozen=True, slots=True)
class MergeAttributes:
    """Of the paths that both sides changed: those that no text merge may touch, and those merged by `union`."""

    refused: tuple[str, ...]
    union: tuple[bytes, ...]

    def apply(self, git: Git, directory: Path) -> Git:
        """Git that merges the `union` paths so; the rule file is written into `directory`."""
        rules = directory / "attributes"
        rules.write_bytes(b"".join(_pattern(path) + b" merge=union\n" for path in self.union))
        return replace(git, config=(*git.config, f"core.attributesFile={rules}"))


def merge_attributes(objects: Objects, merge_base: str, base: str, source: str) -> MergeAttributes | None:
    """Look up the paths that both sides changed to different contents; None when no attribute speaks of them."""
    trees = tuple(objects.commit(commit).tree for commit in (merge_base, base, source))
    found = _Overlap()
    found.walk(objects, trees, b"")
    if not found.paths or not found.files:
        return None
    values = _lookup(objects.git, found.files, found.paths)
    texts = (*_TEXT, b"union")
    refused = tuple(path.decode("utf-8", "replace") for path in found.paths if values.get(path, b"set") not in texts)
    return MergeAttributes(refused, tuple(path for path in found.paths if values.get(path) == b"union"))


@dataclass
class _Overlap:
    """What both sides changed to different contents, and the base's `.gitattributes` on the way there."""

    paths: list[bytes] = field(default_factory=list)
    files: list[tuple[bytes, str]] = field(default_factory=list)  # name and blob

    def walk(self, objects: Objects, trees: tuple[str, ...], folder: bytes) -> None:
        """Compare three trees entry by entry; only folders that both sides changed are entered."""
        old, ours, theirs = (objects.entries(tree) if tree else {} for tree in trees)
        attributes = ours.get(b".gitattributes")
        if attributes is not None:
            self.files.append((folder + b".gitattributes", attributes[1]))
        for name in theirs.keys() | ours.keys():
            was, mine, other = (entries.get(name, _NONE) for entries in (old, ours, theirs))
            if was in (mine, other) or mine == other:
                continue
            if _is_folder(mine) and _is_folder(other):  # gone on one side: perhaps renamed there, and merged elsewhere
                below = (was[1] if was[0] == _TREE else "", mine[1], other[1])
                self.walk(objects, below, folder + name + b"/")
            else:
                self.paths.append(folder + name)


def _is_folder(entry: tuple[str, str]) -> bool:
    return entry[0] in (_TREE, "")


def _lookup(git: Git, files: list[tuple[bytes, str]], paths: list[bytes]) -> dict[bytes, bytes]:
    """The attribute `merge` of each path, read through an index that holds the attribute files alone."""
    with tempfile.TemporaryDirectory(prefix="tidegate-index-") as directory:
        env = {"GIT_INDEX_FILE": f"{directory}/index"}
        entries = b"".join(b"100644 %s\t%s\0" % (oid.encode(), name) for name, oid in files)
        git.run("update-index", "-z", "--index-info", input=entries, env=env)
        asked = b"".join(path + b"\0" for path in paths)
        out = git.run("check-attr", "--cached", "-z", "--stdin", "merge", input=asked, env=env).out
    words = out.split(b"\0")
    return dict(zip(words[0::3], words[2::3], strict=False))


def _pattern(path: bytes) -> bytes:
    """A path as an anchored attribute pattern that matches itself alone."""
    escaped = b"".join(b"\\" + bytes([byte]) if byte in b"*?[\\!#" else bytes([byte]) for byte in path)
    quoted = escaped.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"/' + quoted + b'"'
