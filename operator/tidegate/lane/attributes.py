"""Merge attributes of the base: git reads none of them in a bare repository, so that they are looked up here."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.clients.git import Git
from tidegate.clients.git_objects import Objects

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


def merge_attributes(objects: Objects, bases: list[str], base: str, source: str) -> MergeAttributes | None:
    """Look up the paths that both sides changed to different contents; None when no attribute speaks of them."""
    ours = {change.path: change for change in objects.changes(bases[0], base)}
    theirs = objects.changes(bases[0], source)
    both = [
        change.path
        for change in theirs
        if change.path in ours and (change.new_oid, change.new_mode) != (ours[change.path].new_oid,
                                                                         ours[change.path].new_mode)
    ]  # fmt: skip
    files = _attribute_files(objects, base, both)
    if not files:
        return None
    values = _lookup(objects.git, files, both)
    refused = tuple(
        path.decode("utf-8", "replace") for path in both if values.get(path, b"set") not in (*_TEXT, b"union")
    )
    union = tuple(path for path in both if values.get(path) == b"union")
    return MergeAttributes(refused, union)


def _attribute_files(objects: Objects, base: str, paths: list[bytes]) -> list[tuple[bytes, str]]:
    """Name and blob of each `.gitattributes` of the base that could speak of the paths."""
    folders = {b""} if paths else set()
    for path in paths:
        parts = path.split(b"/")[:-1]
        folders.update(b"/".join(parts[: n + 1]) + b"/" for n in range(len(parts)))
    found = []
    for folder in sorted(folders):
        if b"\n" in folder:
            continue
        info = objects.info(f"{base}:{(folder + b'.gitattributes').decode('utf-8', 'surrogateescape')}")
        if info is not None and info[1] == "blob":
            found.append((folder + b".gitattributes", info[0]))
    return found


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
