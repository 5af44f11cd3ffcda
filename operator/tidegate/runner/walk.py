"""Reads a directory that somebody hostile may change at the same time.

Every step is an `openat` on a directory we hold, with O_NOFOLLOW: a directory swapped for a symlink is an error, never
a way out. O_NONBLOCK keeps a FIFO from stopping us. Nothing here runs git or reads configuration.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.runner.paths import EXECUTABLE, FILE, LINK, is_dot_git

MAX_FILE_BYTES = 32 * 1024 * 1024  # one file; it is held in memory while it is scanned
MAX_DEPTH = 128
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class WalkStoppedError(Exception):
    """The walk was called off, or ran out of time."""


class LimitError(Exception):
    """More files or bytes than allowed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something in the workspace that isn't published. `content` is False where no content is lost (FIFOs, sockets)."""

    path: bytes
    why: str
    content: bool = True


@dataclass(frozen=True, slots=True)
class Stamp:
    """What of a file's metadata changes whenever its content does. The change time can't be set by a process."""

    inode: int
    size: int
    changed_ns: int
    modified_ns: int


@dataclass(slots=True)
class Reader:
    """What the walk tells and asks whoever uses it.

    `ignored` gets the untracked paths of one level (directories end with a slash) and returns those to leave out.
    `known` may answer from a file's stamp that its content need not be read again. `take` gets each file's content;
    of one too large, `unchanged` gets the size and what computes its name in git, and may say that it is as it was.
    """

    ignored: Callable[[Sequence[bytes]], Collection[bytes]]
    tracked: Callable[[bytes], bool]
    take: Callable[[bytes, int, bytes, Stamp], None]
    known: Callable[[bytes, int, Stamp], bool] = lambda _path, _mode, _stamp: False
    unchanged: Callable[[bytes, int, int, Callable[[], str]], bool] = lambda _path, _mode, _size, _name: False
    stopped: Callable[[], bool] = lambda: False
    max_names: int = 1_000_000
    deadline: float = float("inf")  # on the monotonic clock
    refusals: list[Refusal] = field(default_factory=list)
    names: int = 0

    def refuse(self, path: bytes, why: str, *, content: bool = True) -> None:
        """Note what isn't published."""
        self.refusals.append(Refusal(path, why, content))

    def check(self) -> None:
        """Raise WalkStoppedError when the walk should end."""
        if self.stopped():
            raise WalkStoppedError("called off")
        if time.monotonic() > self.deadline:
            raise WalkStoppedError("the workspace took too long to read")


def open_root(path: str | Path) -> int:
    """Open a directory by its own path; the last component may not be a symlink."""
    return os.open(path, _DIRECTORY_FLAGS)


@contextmanager
def open_directory(root: int, path: bytes) -> Iterator[int]:
    """Open `path` below `root`, component by component, never through a symlink. Raises OSError."""
    current = os.dup(root)
    try:
        for part in path.split(b"/") if path else ():
            below = os.open(part, _DIRECTORY_FLAGS, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def walk(root: int, reader: Reader) -> None:
    """Read everything below `root`, level by level. Raises WalkStoppedError and LimitError."""
    level: list[bytes] = [b""]
    for depth in range(MAX_DEPTH + 1):
        if not level:
            return
        if depth == MAX_DEPTH:
            for path in level:
                reader.refuse(path, f"nested deeper than {MAX_DEPTH} directories")
            return
        listings = {path: listing for path in level if (listing := _list(root, path, reader)) is not None}
        dropped = _dropped(listings, reader)
        level = []
        for path, listing in listings.items():
            level += _read_directory(root, path, listing, dropped, reader)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _list(root: int, path: bytes, reader: Reader) -> list[tuple[bytes, bool]] | None:
    """Names of a directory and whether each is a directory, in order."""
    found: list[tuple[bytes, bool]] = []
    reader.check()
    try:
        with open_directory(root, path) as fd, os.scandir(fd) as entries:
            for entry in entries:
                reader.names += 1
                if reader.names > reader.max_names:
                    raise LimitError(f"more than {reader.max_names} names in the workspace")
                found.append((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)))
    except OSError as error:
        reader.refuse(path, f"the directory can't be read: {os.strerror(error.errno or 0)}")
        return None
    return sorted(found)


def _dropped(listings: dict[bytes, list[tuple[bytes, bool]]], reader: Reader) -> frozenset[bytes]:
    untracked = [
        path + b"/" if is_directory else path
        for directory, listing in listings.items()
        for name, is_directory in listing
        if not is_dot_git(name) and not reader.tracked(path := _join(directory, name))
    ]
    if not untracked:
        return frozenset()
    return frozenset(path.rstrip(b"/") for path in reader.ignored(untracked))


def _read_directory(
    root: int, directory: bytes, listing: list[tuple[bytes, bool]], dropped: frozenset[bytes], reader: Reader
) -> list[bytes]:
    """Read the files of one directory; returns the directories below it."""
    below: list[bytes] = []
    try:
        with open_directory(root, directory) as fd:
            for name, is_directory in listing:
                path = _join(directory, name)
                if path in dropped:
                    continue
                if is_dot_git(name):
                    if name != b".git":
                        reader.refuse(path, "the name is .git on some file system")
                elif is_directory:
                    below.append(path)
                else:
                    reader.check()
                    _read_entry(fd, name, path, reader)
    except OSError as error:
        reader.refuse(directory, f"the directory can't be read: {os.strerror(error.errno or 0)}")
    return below


def _read_entry(fd: int, name: bytes, path: bytes, reader: Reader) -> None:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            reader.take(path, LINK, os.readlink(name, dir_fd=fd), _stamp(status))
        elif stat.S_ISREG(status.st_mode):
            _read_file(fd, name, path, reader)
        elif stat.S_ISDIR(status.st_mode):
            reader.refuse(path, "became a directory while it was read")
        else:
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "neither a file, a directory nor a symlink")
            reader.refuse(path, kind, content=False)
    except FileNotFoundError:
        return  # gone between the listing and now: then it is not part of the work
    except OSError as error:
        reader.refuse(path, f"can't be read: {os.strerror(error.errno or 0)}")


def _read_file(fd: int, name: bytes, path: bytes, reader: Reader) -> None:
    file = os.open(name, _FILE_FLAGS, dir_fd=fd)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            reader.refuse(path, "changed its kind while it was read")
            return
        mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE
        stamp = _stamp(status)
        if reader.known(path, mode, stamp):
            return
        size = status.st_size
        if size > MAX_FILE_BYTES and reader.unchanged(path, mode, size, lambda: _blob_name(file, size, reader.check)):
            return
        content = None if size > MAX_FILE_BYTES else _read_all(file, MAX_FILE_BYTES, size)
    finally:
        os.close(file)
    if content is None:
        reader.refuse(path, f"larger than {MAX_FILE_BYTES // (1024 * 1024)} MiB")
    else:
        reader.take(path, mode, content, stamp)


def _read_all(file: int, limit: int, expected: int) -> bytes | None:
    """The content up to its end; None when there is more than `limit`."""
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(file, min(max(expected - size, 0) + 1, 1024 * 1024)):
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _blob_name(file: int, size: int, check: Callable[[], None]) -> str:
    """The name that git gives to a file's content, read in pieces."""
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    left = size
    while left > 0 and (chunk := os.read(file, min(left, 1024 * 1024))):
        check()
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest() if left == 0 else ""


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns)


def read_small_file(path: str | Path, limit: int) -> bytes | None:
    """A regular file of at most `limit` bytes in a directory that may be hostile; None when there is none.

    Raises ValueError when something else stands there, when it is larger, or when it can't be read.
    """
    return _read_small(Path(path), limit, tail=False)


def read_tail(path: str | Path, limit: int) -> bytes:
    """The last `limit` bytes of a regular file; empty when there is none or something else stands there."""
    with suppress(ValueError):
        return _read_small(Path(path), limit, tail=True) or b""
    return b""


def read_below(root: int, path: bytes, limit: int) -> bytes | None:
    """A regular file of at most `limit` bytes below an open directory, reached through no symlink; None when there is
    none. Raises ValueError as `read_small_file`."""
    directory, _, name = path.rpartition(b"/")
    try:
        with open_directory(root, directory) as fd:
            return _read_regular(fd, name, limit, tail=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"its directory can't be opened: {os.strerror(error.errno or 0)}") from None


def _read_small(path: Path, limit: int, *, tail: bool) -> bytes | None:
    try:
        directory = open_root(path.parent)
    except OSError as error:
        raise ValueError(f"{path.parent} can't be opened: {os.strerror(error.errno or 0)}") from None
    try:
        return _read_regular(directory, os.fsencode(path.name), limit, tail=tail)
    finally:
        os.close(directory)


def _read_regular(directory: int, name: bytes, limit: int, *, tail: bool) -> bytes | None:
    try:
        file = os.open(name, _FILE_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"not a regular file that can be read: {os.strerror(error.errno or 0)}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if tail:
            os.lseek(file, max(0, status.st_size - limit), os.SEEK_SET)
            return os.read(file, limit)
        content = _read_all(file, limit, status.st_size)
    except OSError as error:
        raise ValueError(f"can't be read: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(file)
    if content is None:
        raise ValueError(f"larger than {limit} bytes")
    return content
