"""A change to be reviewed: fetched, and written down as text. Nothing that the change holds decides how it is shown."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from tidegate.api.wire import AgentInput
from tidegate.clients.git import Git, GitError, Limits
from tidegate.runner.checkout import fetch_commit
from tidegate.runner.repository import patiently

MAX_BYTES = 2 * 1024 * 1024  # of a change as text; what is longer is cut here and refused by the engine
_SECONDS = 300.0
_CHANGE = "refs/runner/change"
_SHOWN = ("--no-renames", "--no-ext-diff", "--no-textconv", "--text", "--no-color", "--unified=10",
          "--ignore-submodules=none")  # fmt: skip


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
    """Write what the change does to each of its bases, in at most MAX_BYTES + 1 bytes. Every file is shown as text:
    the change's own attributes hide nothing."""
    path.unlink(missing_ok=True)
    empty = git.text("hash-object", "-t", "tree", os.devnull)
    with path.open("wb") as out:
        for base in given.review_bases or [empty]:
            out.write(_shown(git, base, given.review_commit)[: MAX_BYTES + 1 - out.tell()])
    path.chmod(0o444)


def _shown(git: Git, base: str, commit: str) -> bytes:
    """The beginning of the difference, by way of a file: the whole may be larger than our memory."""
    with tempfile.TemporaryDirectory(prefix="tidegate-change-") as directory:
        file = Path(directory) / "diff"
        bounded = replace(git, limits=Limits(file_bytes=MAX_BYTES + 1))
        command = ("diff-tree", "-r", "-p", *_SHOWN, f"--output={file}", base, f"{commit}^{{tree}}")
        done = bounded.run(*command, timeout=_SECONDS, ok=None)
        if done.code != 0 and not (file.exists() and file.stat().st_size > MAX_BYTES):
            raise GitError(command, done.code, done.err)
        with file.open("rb") as content:
            return content.read(MAX_BYTES + 1)
