"""The init container `checkout` of a gate Pod: the exact commit as files, with or without a `.git`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tidegate.api import reasons
from tidegate.api.wire import CheckoutReport, GateInput
from tidegate.clients.git import Credentials, Git, GitError, init_bare
from tidegate.errors import PermanentError, TidegateError
from tidegate.runner.base import Base, Blobs, empty_directory, lay
from tidegate.runner.places import Places
from tidegate.runner.repository import patiently
from tidegate.runner.text import clean
from tidegate.runner.walk import open_root

_FETCHED = "refs/runner/fetched"
_BASE = "refs/runner/base"


def check_out(given: GateInput, places: Places) -> CheckoutReport:
    """Do the container's work; what went wrong is in the report."""
    try:
        with _scratch(places) as scratch:
            _check_out(given, places, scratch)
    except PermanentError as error:
        return CheckoutReport(error.reason, clean(error.message, 500))
    except GitError as error:
        return CheckoutReport(reasons.REMOTE_UNREACHABLE, clean(str(error), 500))
    except (TidegateError, OSError, ValueError, LookupError) as error:
        return CheckoutReport(reasons.WORKSPACE_FAILED, clean(f"{type(error).__name__}: {error}", 500))
    return CheckoutReport()


@contextmanager
def _scratch(places: Places) -> Iterator[Path]:
    """A directory for the time of the checkout, and for git's credentials; not shared with the gate where possible."""
    before = tempfile.tempdir
    directory = str(places.state) if os.access(places.state, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tidegate-checkout-", dir=directory) as scratch:
        tempfile.tempdir = scratch
        try:
            yield Path(scratch)
        finally:
            tempfile.tempdir = before


def _check_out(given: GateInput, places: Places, scratch: Path) -> None:
    root = open_root(places.workspace)
    try:
        empty_directory(root)
        directory = scratch / "git" if given.tree_only else places.workspace / ".git"
        init_bare(directory)
        credentials = Credentials.from_files(places.credentials)
        git = Git(directory, given.url, credentials, given.allowed_protocols, given.timeout_seconds)
        _fetch(git, given)
        base = _without(Base.read(git, given.commit), given.reports)
        with Blobs.open(git, timeout=given.timeout_seconds) as blobs:
            lay(base, blobs, root)
        if not given.tree_only:
            _finish_repository(git, given)
    finally:
        os.close(root)


def _without(base: Base, reports: Iterable[str]) -> Base:
    """The base without files at the paths of reports: what is judged must have been written by this run."""
    dropped = {os.fsencode(path) for path in reports}
    return replace(base, entries={path: entry for path, entry in base.entries.items() if path not in dropped})


def _fetch(git: Git, given: GateInput) -> None:
    """Bring the commit and its base here; with depth 1 unless the whole history is asked for."""
    patiently(lambda: fetch_commit(git, given.commit, given.fetch_ref, _FETCHED, full=given.full_history))
    if given.base and not _has(git, given.base):
        patiently(lambda: fetch_commit(git, given.base, given.fetch_ref, _BASE, full=False))


def _has(git: Git, commit: str) -> bool:
    return git.run("cat-file", "-e", f"{commit}^{{commit}}", ok=None).code == 0


def fetch_commit(git: Git, commit: str, holder: str, ref: str, *, full: bool) -> str:
    """Fetch a commit by its ref, by its name where the ref moved on, else with the ref's whole history."""
    tries = [(f"+{commit}:{ref}", "--depth=1"), (f"+{holder}:{ref}", "")]
    if full:
        tries = [(f"+{holder}:{ref}", "")]
    elif git.ls_remote(holder).get(holder) == commit:
        tries.insert(0, (f"+{holder}:{ref}", "--depth=1"))
    for refspec, depth in tries:
        deepen = "--unshallow" if not depth and (git.directory / "shallow").exists() else depth
        words = ["fetch", "--quiet", "--no-tags", *([deepen] if deepen else []), "--", git.url, refspec]
        done = git.run(*words, remote=True, ok=None)
        if _has(git, commit):
            return commit
    if done.code != 0 and "couldn't find remote ref" not in done.err:
        raise GitError(("fetch",), done.code, done.err)
    raise PermanentError(reasons.SOURCE_MISSING, f"{holder} at the remote doesn't hold the commit {commit}")


def _finish_repository(git: Git, given: GateInput) -> None:
    """Make the bare repository one with a working tree: detached HEAD, an index, no remote, nothing secret."""
    git.run("update-ref", "--no-deref", "HEAD", given.commit)
    git.run("read-tree", given.commit)
    for ref in (_FETCHED, _BASE):
        git.run("update-ref", "-d", ref)
    if given.base and _has(git, given.base):
        git.run("update-ref", "refs/tidegate/base", given.base)
    (git.directory / "FETCH_HEAD").unlink(missing_ok=True)
    git.run("config", "core.bare", "false")
