"""Objects of a bare repository, read and written without a process per object."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
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
    """Reads through one git process, writes loose objects without any. Close it when the piece of work ends."""

    def __init__(self, git: Git, timeout: float = 600.0) -> None:
        self.git = git
        self._timeout = timeout
        self._reader: Stream | None = None
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

    def entries(self, tree: str) -> dict[bytes, tuple[str, str]]:
        """The entries of a tree: name to mode and object name."""
        found = self.read(tree)
        if found is None or found[1] != "tree":
            raise GitError(("cat-file", "tree", tree), 128, f"no tree {tree}")
        entries, data, start, size = {}, found[2], 0, len(found[0]) // 2
        while start < len(data):
            end = data.index(b"\0", start)
            mode, _, name = data[start:end].partition(b" ")
            start = end + 1 + size
            entries[name] = (mode.decode(), data[end + 1 : start].hex())
        return entries

    def write(self, kind: str, data: bytes) -> str:
        """Store an object and return its name."""
        stored = self._store.store(IStream(kind.encode(), len(data), io.BytesIO(data)))
        return str(stored.hexsha.decode())

    def write_commit(self, tree: str, parents: tuple[str, ...], author: Person, committer: Person, time: int,
                     message: str, sign: Callable[[bytes], bytes] | None = None) -> str:  # fmt: skip
        """Store a commit whose author and committer dates are `time`, in UTC, with the signature that `sign` gives."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines.append(f"author {author.name} <{author.email}> {time} +0000")
        lines.append(f"committer {committer.name} <{committer.email}> {time} +0000")
        body = b"\n\n" + message.encode("utf-8", "replace")
        head = "\n".join(lines).encode("utf-8", "replace")
        if sign is not None:
            signature = sign(head + body).rstrip(b"\n").replace(b"\n", b"\n ")
            head += b"\ngpgsig " + signature
        return self.write("commit", head + body)

    def close(self) -> None:
        """End the git process."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None

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
