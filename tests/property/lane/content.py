"""Content of commits by dulwich alone: reading, writing, and a three-way merge that shares nothing with git's."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.repo import Repo

REGULAR, EXECUTABLE, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000
FILES = (REGULAR, EXECUTABLE)

Entry = tuple[int, bytes]  # mode, content; of a submodule the name of its commit
Files = dict[bytes, Entry]


class MergeClash(Exception):  # noqa: N818 - an answer, not a failure
    """Both sides changed the same thing in different ways."""


@dataclass
class Store:
    """A bare repository, read and written in process."""

    directory: Path

    def __post_init__(self) -> None:
        self._repo = Repo(str(self.directory))
        self._files: dict[bytes, Files] = {}
        self._parents: dict[str, tuple[str, ...]] = {}

    def close(self) -> None:
        """Let the repository go."""
        self._repo.close()

    def commit_object(self, commit: str) -> Commit:
        """A commit as dulwich sees it."""
        found = self._repo.object_store[ObjectID(commit.encode())]
        assert isinstance(found, Commit)
        return found

    def tree(self, commit: str) -> str:
        """The name of a commit's tree."""
        return str(self.commit_object(commit).tree.decode())

    def parents(self, commit: str) -> tuple[str, ...]:
        """The names of a commit's parents."""
        if commit not in self._parents:
            self._parents[commit] = tuple(parent.decode() for parent in self.commit_object(commit).parents)
        return self._parents[commit]

    def files(self, commit: str) -> Files:
        """Every path of a commit."""
        name = self.commit_object(commit).tree
        if name not in self._files:
            self._files[name] = dict(self._walk(name, b""))
        return dict(self._files[name])

    def _walk(self, tree: bytes, prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
        listed = self._repo.object_store[tree]  # type: ignore[index]
        assert isinstance(listed, Tree)
        for item in listed.items():
            assert item.path is not None
            assert item.mode is not None
            assert item.sha is not None
            if item.mode == 0o040000:
                yield from self._walk(item.sha, prefix + item.path + b"/")
            elif item.mode == SUBMODULE:
                yield prefix + item.path, (item.mode, item.sha)
            else:
                blob = self._repo.object_store[item.sha]
                yield prefix + item.path, (item.mode, blob.as_raw_string())

    def write(self, files: Mapping[bytes, Entry], *parents: str, message: str = "Change", time: int = 0) -> str:
        """A commit with exactly these files."""
        commit = Commit()
        commit.tree = self._write_tree(files)
        commit.parents = [parent.encode() for parent in parents]  # type: ignore[misc]
        commit.author = commit.committer = b"Ann <ann@example.org>"
        commit.author_time = commit.commit_time = time or 1_700_000_000 + len(self._parents)
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = message.encode()
        self._repo.object_store.add_object(commit)
        return str(commit.id.decode())

    def _write_tree(self, files: Mapping[bytes, Entry]) -> bytes:
        tree, folders = Tree(), dict[bytes, Files]()
        for path, entry in files.items():
            head, slash, rest = path.partition(b"/")
            if slash:
                folders.setdefault(head, {})[rest] = entry
            else:
                tree.add(head, entry[0], self._write_blob(entry))  # type: ignore[arg-type]
        for name, inside in folders.items():
            tree.add(name, 0o040000, self._write_tree(inside))  # type: ignore[arg-type]
        self._repo.object_store.add_object(tree)
        return tree.id

    def _write_blob(self, entry: Entry) -> bytes:
        if entry[0] == SUBMODULE:
            return entry[1]
        blob = Blob.from_string(entry[1])
        self._repo.object_store.add_object(blob)
        return blob.id

    # --- history

    def ancestors(self, commit: str) -> set[str]:
        """A commit and everything before it."""
        found, waiting = set[str](), [commit]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.parents(one))
        return found

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether one commit is in the history of another."""
        return ancestor in self.ancestors(descendant)

    def merge_bases(self, one: str, other: str) -> list[str]:
        """The best common ancestors."""
        common = self.ancestors(one) & self.ancestors(other)
        inner = {old for commit in common for parent in self.parents(commit) for old in self.ancestors(parent)}
        return sorted(common - inner)

    def merged(self, ours: str, theirs: str) -> Files:
        """The files of the merge of two commits; raises MergeClash. There must be one merge base."""
        (base,) = self.merge_bases(ours, theirs)
        return merge_files(self.files(base), self.files(ours), self.files(theirs))


def merge_files(base: Files, ours: Files, theirs: Files) -> Files:
    """Three-way merge, renames not followed; raises MergeClash."""
    found: Files = {}
    for path in base.keys() | ours.keys() | theirs.keys():
        entry = _merge_entry(path, base.get(path), ours.get(path), theirs.get(path))
        if entry is not None:
            found[path] = entry
    return found


def _merge_entry(path: bytes, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if base is None or ours is None or theirs is None or any(e[0] not in FILES for e in (base, ours, theirs)):
        raise MergeClash(path)
    mode = theirs[0] if ours[0] == base[0] else ours[0]
    try:
        return mode, merge_text(base[1], ours[1], theirs[1])
    except MergeClash:
        raise MergeClash(path) from None


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Three-way merge by lines: changes must be apart by a line at least, or be the same; raises MergeClash."""
    lines = base.splitlines(keepends=True)
    changes = sorted({*_changes(lines, ours), *_changes(lines, theirs)})
    merged, at = list[bytes](), 0
    for number, (start, end, text) in enumerate(changes):
        if number and start <= changes[number - 1][1]:
            raise MergeClash
        merged += lines[at:start] + list(text)
        at = end
    return b"".join(merged + lines[at:])


def _changes(base: list[bytes], other: bytes) -> Iterator[tuple[int, int, tuple[bytes, ...]]]:
    """What a side did: base lines from, to, and what stands there now."""
    now = other.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, base, now, autojunk=False)
    for tag, start, end, first, last in matcher.get_opcodes():
        if tag != "equal":
            yield start, end, tuple(now[first:last])
