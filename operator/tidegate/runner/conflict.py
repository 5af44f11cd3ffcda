"""A Fixer's workspace: the target's head with a change merged in, conflict markers left. And whether any are left.

Merging is `git merge-tree` in our own bare repository: no code of the repository runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from tidegate.api import reasons
from tidegate.api.wire import AgentInput
from tidegate.clients.git import Git, GitError
from tidegate.errors import PermanentError
from tidegate.runner.base import Base, Blobs
from tidegate.runner.paths import show
from tidegate.runner.repository import patiently

TARGET = "refs/runner/target"  # the names that the markers show
CHANGE = "refs/runner/change"
MAX_TEXT = 32 * 1024 * 1024  # bytes; no bigger file is merged as text
MAX_PLACES = 20
_MARKER = re.compile(rb"(?:<{7}|\|{7}|>{7})(?: .*)?|={7}")


def merged_tree(git: Git, base: str, given: AgentInput) -> str:
    """The tree of `base` with the change merged in. Raises PermanentError SourceMissing, MergeConflict where there is
    nothing to merge by; TransientError when the remote can't be reached."""
    _fetch_history(git, f"refs/heads/{given.target_branch}", TARGET)
    git.run("update-ref", TARGET, base)
    _fetch_history(git, given.merge_ref, CHANGE)
    if git.run("cat-file", "-e", f"{given.merge_commit}^{{commit}}", ok=None).code != 0:
        message = f"{given.merge_ref} at the remote doesn't hold {given.merge_commit}"
        raise PermanentError(reasons.SOURCE_MISSING, message)
    git.run("update-ref", CHANGE, given.merge_commit)
    if git.run("merge-base", base, given.merge_commit, ok=(0, 1)).code == 1:
        message = "the change shares no history with the target branch: no merge can be prepared"
        raise PermanentError(reasons.MERGE_CONFLICT, message)
    result = git.run("merge-tree", "--write-tree", "-z", "--no-messages", TARGET, CHANGE, ok=(0, 1))
    return result.out.split(b"\0", 1)[0].strip().decode()


def _fetch_history(git: Git, ref: str, own: str) -> None:
    """Fetch a ref with all of its history: a merge base may lie anywhere."""

    def fetch() -> str:
        deepen = ["--unshallow"] if (git.directory / "shallow").exists() else []
        words = ["fetch", "--quiet", "--no-tags", *deepen, "--", git.url, f"+{ref}:{own}"]
        done = git.run(*words, remote=True, ok=None)
        if done.code != 0 and "couldn't find remote ref" in done.err:
            raise PermanentError(reasons.SOURCE_MISSING, f"the remote has no {ref}")
        if done.code != 0:
            raise GitError(words, done.code, done.err)
        return ""

    patiently(fetch)


def left_markers(git: Git, tree: str, changed: Iterable[str], base: Base, merged: str) -> list[dict[str, object]]:
    """File and line of conflict markers in changed files of a tree: any where a change was `merged` into the workspace,
    whole conflicts where none was (`merged` is empty). A line that the file has on either side is its own."""
    after = Base.read(git, tree)
    sides_of = (base, Base.read(git, merged)) if merged else (base,)
    first = first_marker if merged else first_conflict
    found: list[dict[str, object]] = []
    with Blobs.open(git, timeout=120) as blobs:
        for path in changed:
            name = os.fsencode(path)
            entry = after.entries.get(name)
            if entry is None or entry.mode & 0o170000 != 0o100000 or entry.size > MAX_TEXT:
                continue
            content = blobs.read(entry.oid)
            if not any(mark in content for mark in (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")):
                continue
            sides = [side.entries.get(name) for side in sides_of]
            known = [blobs.read(side.oid) for side in sides if side is not None and side.size <= MAX_TEXT]
            line = first(content, *known)
            if line:
                found.append({"file": show(name), "line": line})
            if len(found) >= MAX_PLACES:
                break
    return found


def first_marker(content: bytes, *sides: bytes) -> int:
    """The number of the first line that is a conflict marker and that no side holds; 0 when there is none. Pure."""
    return next((number for number, _ in _new_markers(content, sides)), 0)


def first_conflict(content: bytes, *sides: bytes) -> int:
    """The number of the line where a whole conflict begins that no side holds; 0 when there is none: `=======` alone
    underlines headings. Pure."""
    begins, expected = 0, b"="
    for number, mark in _new_markers(content, sides):
        if mark == b"<":
            begins, expected = number, b"="
        elif begins and mark == expected == b">":
            return begins
        elif mark == b"=":
            expected = b">"
    return 0


def _new_markers(content: bytes, sides: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and first character of each line that is a conflict marker and that no side holds."""
    own = {line.rstrip(b"\r") for side in sides for line in side.split(b"\n") if _MARKER.fullmatch(line.rstrip(b"\r"))}
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.rstrip(b"\r")
        if _MARKER.fullmatch(text) and text not in own:
            yield number, text[:1]
