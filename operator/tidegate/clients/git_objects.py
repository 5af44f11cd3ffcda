"""Objects of a bare repository, read and written without a process per object."""

from __future__ import annotations

import io
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gitdb import IStream, LooseObjectDB  # type: ignore[import-untyped]

from tidegate.clients.git import Git, GitError, Stream

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_IDENTITY = re.compile(rb"^(?P<name>.*?) ?<(?P<email>[^>]*)> (?P<time>\d+) (?P<zone>[+-]\d{4})$")


@dataclass(frozen=True, slots=True)
class Person:
    """Name and address as a commit shows them."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit object says. `time` is the committer's, in seconds since 1970."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    time: int
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees; an oid of zeros stands for a missing side."""

    path: bytes
    old_mode: str
    new_mode: str
    old_oid: str
    new_oid: str


def parse_commit(oid: str, data: bytes) -> Commit:
    """Read a commit object's text; an unknown encoding is read as UTF-8 with replacements."""
    head, _, message = data.partition(b"\n\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key, []).append(value)
    encoding = fields.get(b"encoding", [b"utf-8"])[0].decode("ascii", "replace")
    author, _ = _person(fields[b"author"][0], encoding)
    _, time = _person(fields[b"committer"][0], encoding)
    parents = tuple(value.decode() for value in fields.get(b"parent", []))
    return Commit(oid, fields[b"tree"][0].decode(), parents, author, time, _decode(message, encoding))


def _person(value: bytes, encoding: str) -> tuple[Person, int]:
    match = _IDENTITY.match(value)
    if match is None:
        return Person("unknown", "unknown"), 0
    return Person(_decode(match["name"], encoding), _decode(match["email"], encoding)), int(match["time"])


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


class Objects:
    """Reads through long-lived git processes, writes loose objects in process. Close it when the piece of work ends."""

    def __init__(self, git: Git, timeout: float = 600.0) -> None:
        self.git = git
        self._timeout = timeout
        self._reader: Stream | None = None
        self._differ: Stream | None = None
        self._store = LooseObjectDB(str(Path(git.directory) / "objects"))

    def info(self, name: str) -> tuple[str, str] | None:
        """Object name and type of a revision expression, None when there is none."""
        self._ask("info", name)
        answer = self._cat().line()
        if answer.endswith((b" missing", b" ambiguous")):
            return None
        oid, kind, _ = answer.decode().split(" ")
        return oid, kind

    def read(self, name: str) -> tuple[str, str, bytes] | None:
        """Object name, type and content of a revision expression, None when there is none."""
        self._ask("contents", name)
        answer = self._cat().line()
        if answer.endswith((b" missing", b" ambiguous")):
            return None
        oid, kind, size = answer.decode().split(" ")
        data = self._cat().read(int(size) + 1)
        return oid, kind, data[:-1]

    def commit(self, name: str) -> Commit:
        """A commit that must be there; raises GitError."""
        found = self.read(name)
        if found is None or found[1] != "commit":
            raise GitError(("cat-file", "commit", name), 128, f"no commit {name}")
        return parse_commit(found[0], found[2])

    def changes(self, old: str, new: str) -> list[Change]:
        """Paths that differ between two trees or commits, renames not followed."""
        old, new = self._tree(old), self._tree(new)
        if self._differ is None:
            self._differ = self.git.stream("diff-tree", "--stdin", "-r", "-z", "--no-renames", timeout=self._timeout)
        marker = f"end {secrets.token_hex(8)}"
        self._differ.write(f"{old} {new}\n{marker}\n".encode())
        return _parse_changes(self._differ, marker.encode())

    def write(self, kind: str, data: bytes) -> str:
        """Store an object and return its name."""
        stored = self._store.store(IStream(kind.encode(), len(data), io.BytesIO(data)))
        return str(stored.hexsha.decode())

    def write_commit(self, tree: str, parents: tuple[str, ...], author: Person, committer: Person, time: int,
                     message: str) -> str:  # fmt: skip
        """Store a commit whose author and committer dates are `time`, in UTC."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines.append(f"author {author.name} <{author.email}> {time} +0000")
        lines.append(f"committer {committer.name} <{committer.email}> {time} +0000")
        return self.write("commit", ("\n".join(lines) + "\n\n" + message).encode("utf-8", "replace"))

    def close(self) -> None:
        """End the git processes."""
        for stream in (self._reader, self._differ):
            if stream is not None:
                stream.close()
        self._reader = self._differ = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, command: str, name: str) -> None:
        if "\n" in name:
            raise ValueError("a revision expression is one line")
        self._cat().write(f"{command} {name}\n".encode("utf-8", "surrogateescape"))

    def _cat(self) -> Stream:
        if self._reader is None:
            self._reader = self.git.stream("cat-file", "--batch-command", timeout=self._timeout)
        return self._reader

    def _tree(self, name: str) -> str:
        found = self.info(f"{name}^{{tree}}")
        if found is None:
            raise GitError(("diff-tree", name), 128, f"no tree {name}")
        return found[0]


def _parse_changes(stream: Stream, marker: bytes) -> list[Change]:
    """Entries `:<mode> <mode> <oid> <oid> <status>NUL<path>NUL` between a header line and the marker line."""
    text = b""
    while not text.endswith(marker):
        text += stream.line() + b"\n"
        text = text.removesuffix(b"\n") if text.endswith(marker + b"\n") else text
    header, _, body = text.removesuffix(marker).partition(b"\n")
    if not header.strip():
        return []
    words = body.split(b"\0")
    found = []
    for entry, path in zip(words[0::2], words[1::2], strict=False):
        if not entry.startswith(b":"):
            break
        old_mode, new_mode, old_oid, new_oid, _ = entry[1:].decode().split(" ")
        found.append(Change(path, old_mode, new_mode, old_oid, new_oid))
    return found
