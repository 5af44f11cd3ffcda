"""The commit that an attempt starts from, as git objects: entries, blobs, and files laid from them."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from tidegate.clients.git import Git, Stream
from tidegate.runner.paths import EXECUTABLE, GITLINK, LINK, is_dot_git
from tidegate.runner.walk import open_directory

_PIECE = 4 * 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob or gitlink of a tree."""

    mode: int
    oid: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Base:
    """All of a commit's tree: entries by path, the directories that hold them, the names of its trees."""

    commit: str
    tree: str
    entries: dict[bytes, Entry]
    directories: frozenset[bytes]
    trees: frozenset[str]

    @classmethod
    def read(cls, git: Git, commit: str) -> Self:
        """Read a commit's tree. Raises GitError."""
        root = git.text("rev-parse", "--verify", f"{commit}^{{tree}}")
        entries: dict[bytes, Entry] = {}
        directories: set[bytes] = set()
        trees = {root}
        for row in git.run("ls-tree", "-r", "-t", "-z", "-l", "--full-tree", root).out.split(b"\0")[:-1]:
            head, path = row.split(b"\t", 1)
            mode, kind, oid, size = head.split()
            if kind == b"tree":
                directories.add(path)
                trees.add(oid.decode())
            else:
                entries[path] = Entry(int(mode, 8), oid.decode(), int(size) if size.isdigit() else 0)
        return cls(commit, root, entries, frozenset(directories), frozenset(trees))

    def is_tracked(self, path: bytes) -> bool:
        """True when the base has a file or a directory of that path."""
        return path in self.entries or path in self.directories


class Blobs:
    """Reads blobs one after the other through one process."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @classmethod
    @contextmanager
    def open(cls, git: Git, timeout: float) -> Iterator[Self]:
        """Start the process; it ends with the block, or after `timeout` seconds."""
        with git.stream("cat-file", "--batch", timeout=timeout) as stream:
            yield cls(stream)

    def read(self, oid: str) -> bytes:
        """A blob's content. Raises GitError; LookupError when there is no such object."""
        return b"".join(self.pieces(oid))

    def pieces(self, oid: str) -> Iterator[bytes]:
        """A blob's content piece by piece, to be taken to its end. Raises as `read`."""
        self._stream.write(oid.encode() + b"\n")
        head = self._stream.line().split()
        if len(head) != 3:
            raise LookupError(f"git holds no object {oid}")
        left = int(head[2])
        while left:
            piece = self._stream.read(min(left, _PIECE))
            left -= len(piece)
            yield piece
        self._stream.read(1)


def is_layable(path: bytes) -> bool:
    """False for a path that would be, or lie in, a `.git` on some file system: it stays in the tree, untouched."""
    return not any(is_dot_git(part) for part in path.split(b"/"))


def empty_directory(root: int) -> None:
    """Remove everything below an open directory, without following symlinks."""
    with os.scandir(root) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_directory in entries:
        if is_directory:
            shutil.rmtree(name, dir_fd=root)
        else:
            os.unlink(name, dir_fd=root)


def lay(base: Base, blobs: Blobs, root: int) -> list[bytes]:
    """Write the base's files below an open, empty directory: content as it is in git, no filters, symlinks last.

    Returns the paths that were left out. Raises OSError and GitError.
    """
    left_out = [path for path in base.entries if not is_layable(path)]
    by_directory: dict[bytes, list[tuple[bytes, Entry]]] = {}
    for path, entry in sorted(base.entries.items(), key=lambda item: item[1].mode == LINK):
        if is_layable(path):
            directory, _, name = path.rpartition(b"/")
            by_directory.setdefault(directory, []).append((name, entry))
    for links in (False, True):
        for directory, entries in by_directory.items():
            wanted = [(name, entry) for name, entry in entries if (entry.mode == LINK) is links]
            if wanted:
                with _made_directory(root, directory) as fd:
                    for name, entry in wanted:
                        _lay_entry(fd, name, entry, blobs)
    return left_out


@contextmanager
def _made_directory(root: int, path: bytes) -> Iterator[int]:
    made = b""
    for part in path.split(b"/") if path else ():
        with open_directory(root, made) as fd, suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=fd)
        made = made + b"/" + part if made else part
    with open_directory(root, path) as fd:
        yield fd


def _lay_entry(fd: int, name: bytes, entry: Entry, blobs: Blobs) -> None:
    if entry.mode == GITLINK:
        os.mkdir(name, 0o755, dir_fd=fd)
    elif entry.mode == LINK:
        os.symlink(blobs.read(entry.oid), name, dir_fd=fd)
    else:
        mode = stat.S_IMODE(0o755 if entry.mode == EXECUTABLE else 0o644)
        file = os.open(name, _NEW_FILE, mode, dir_fd=fd)
        try:
            for piece in blobs.pieces(entry.oid):
                content = memoryview(piece)
                while content:
                    content = content[os.write(file, content) :]
            os.fchmod(file, mode)
        finally:
            os.close(file)
