"""Bare mirrors of target repositories: a cache. Whatever goes wrong in one, it is dropped and fetched anew."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from tidegate.clients.git import Credentials, Git, GitError, GitTimeoutError, Limits, init_bare
from tidegate.errors import TransientError

log = logging.getLogger(__name__)

HEADS = "refs/remotes/origin/"
DEFAULT_QUOTA = 4 * 1024**3


class RemoteError(TransientError):
    """The remote can't be read now: not there, no permission, or no answer."""


class QuotaError(TransientError):
    """The repository is bigger than a mirror may be."""


class Mirror:
    """One bare repository of this process alone. All methods block; `lock` keeps writers apart."""

    def __init__(self, root: Path, key: tuple[str, str, str], protocols: str, quota: int = DEFAULT_QUOTA) -> None:
        self.url = key[2]
        self.quota = quota
        self.lock = threading.RLock()
        self.credentials: Credentials | None = None
        self.directory, self._claim = _claim(root, hashlib.sha256("\0".join(key).encode()).hexdigest()[:24])
        self._protocols = protocols
        self._failed_fetches = 0
        if self.directory.exists():
            _remove_stale_locks(self.directory)

    @property
    def git(self) -> Git:
        """Git in the mirror, with the remote's credentials."""
        return Git(self.directory, self.url, self.credentials, self._protocols, limits=Limits(file_bytes=self.quota))

    @contextlib.contextmanager
    def work(self) -> Iterator[Git]:
        """Git for a piece of local work. A git error in it drops the mirror: it says nothing about anybody's change."""
        with self.lock:
            self._ensure()
            try:
                yield self.git
            except GitTimeoutError:
                raise
            except GitError as error:
                log.warning("mirror dropped", extra={"directory": str(self.directory), "error": str(error)})
                self.drop()
                raise

    def fetch(self, *refspecs: str, prune: bool = True, timeout: float = 300) -> None:
        """Bring the heads and the given refs here. Raises RemoteError, QuotaError."""
        with self.lock:
            self._ensure()
            wanted = (f"+refs/heads/*:{HEADS}*", *refspecs) if prune else refspecs
            flags = ("--prune",) if prune else ()
            git = self.git
            command = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *flags, "--", self.url, *wanted)
            try:
                git.run(*command, remote=True, timeout=timeout)
            except GitError as error:
                self._after_failed_fetch(git, prune)
                raise RemoteError(f"fetch from the repository failed: {_last_words(error)}") from error
            if prune:
                self._failed_fetches = 0
                self._check_quota()

    def refs(self, *patterns: str) -> dict[str, str]:
        """Refs of the mirror and their values."""
        with self.work() as git:
            out = git.text("for-each-ref", "--format=%(refname) %(objectname)", *patterns)
        return dict(line.split(" ", 1) for line in out.splitlines())

    def has(self, commit: str) -> bool:
        """Whether a commit is here."""
        with self.lock:
            self._ensure()
            return self.git.run("cat-file", "-e", f"{commit}^{{commit}}", ok=None).code == 0

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether one commit is in the history of another; both must be here."""
        with self.work() as git:
            return git.run("merge-base", "--is-ancestor", ancestor, descendant, ok=(0, 1)).code == 0

    def drop(self) -> None:
        """Throw the mirror away; the next fetch makes it anew."""
        with self.lock:
            shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Leave the mirror to another process."""
        self._claim.close()

    def _ensure(self) -> None:
        if not (self.directory / "objects").is_dir() or not (self.directory / "HEAD").is_file():
            shutil.rmtree(self.directory, ignore_errors=True)
            init_bare(self.directory)

    def _after_failed_fetch(self, git: Git, heads: bool) -> None:
        """Twice in a row while the remote answers: the fault is here."""
        if not heads:
            return
        self._failed_fetches += 1
        if self._failed_fetches < 2:
            return
        with contextlib.suppress(GitError):
            replace(git, timeout=60.0).ls_remote("refs/heads/*")
            self._failed_fetches = 0
            self.drop()

    def _check_quota(self) -> None:
        counts = dict(line.split(": ") for line in self.git.text("count-objects", "-v").splitlines())
        size = (int(counts["size"]) + int(counts["size-pack"])) * 1024
        if size > self.quota:
            self.drop()
            raise QuotaError(
                f"the repository takes {size >> 20} MiB, the mirror may take {self.quota >> 20} MiB: raise the "
                "operator's mirror quota"
            )


def _claim(root: Path, name: str) -> tuple[Path, IO[bytes]]:
    """A directory that no other living process uses: the lock is held as long as the process lives."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(64):
        path = root / f"{name}.{number}"
        file = (root / f"{name}.{number}.claim").open("wb")  # held open on purpose
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        return path, file
    raise TransientError(f"no free mirror directory in {root}")


def _remove_stale_locks(directory: Path) -> None:
    """A killed git leaves locks behind; here nobody else can hold one."""
    for folder, _, files in os.walk(directory):
        for name in files:
            if name.endswith(".lock"):
                with contextlib.suppress(FileNotFoundError):
                    (Path(folder) / name).unlink()


def _last_words(error: GitError) -> str:
    """The line of git's message that says most, without the remote's reply bodies."""
    lines = [line for line in error.stderr.splitlines() if line.startswith(("fatal:", "error:", "ssh:"))]
    return (lines[0] if lines else error.stderr.strip()[-200:] or f"exit code {error.code}")[:300]
