"""A change to be reviewed: fetched, and written down as text. Nothing that the change holds decides how it is shown."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.api.review import MAX_CHANGE_BYTES
from tidegate.api.wire import AgentInput
from tidegate.clients.git import Git
from tidegate.clients.git_change import change_text
from tidegate.runner.checkout import fetch_commit
from tidegate.runner.repository import patiently

_SECONDS = 300.0
_CHANGE = "refs/runner/change"


def fetch_change(git: Git, given: AgentInput) -> str:
    """Bring the change and its bases here; returns its commit. Raises PermanentError SourceMissing, GitError."""
    patiently(lambda: fetch_commit(git, given.review_commit, given.review_ref, _CHANGE, full=False))
    for number, base in enumerate(given.review_bases):
        if git.run("cat-file", "-e", f"{base}^{{commit}}", ok=None).code != 0:
            _fetch_base(git, given, base, f"refs/runner/base-{number}")
    return given.review_commit


def _fetch_base(git: Git, given: AgentInput, base: str, ref: str) -> None:
    patiently(lambda: fetch_commit(git, base, given.review_ref, ref, full=False))


def write_change(git: Git, given: AgentInput, path: Path) -> None:
    """Write what the change does to each of its bases. The file of a change that is too long has a byte more than
    MAX_CHANGE_BYTES, by which the engine can tell. Raises GitError."""
    path.unlink(missing_ok=True)
    empty = git.text("hash-object", "-t", "tree", os.devnull)
    with path.open("wb") as out:
        for base in given.review_bases or [empty]:
            text = change_text(git, base, given.review_commit, MAX_CHANGE_BYTES, _SECONDS)
            if text is None or out.tell() + len(text) > MAX_CHANGE_BYTES:
                out.truncate(MAX_CHANGE_BYTES + 1)
                break
            out.write(text)
    path.chmod(0o444)
