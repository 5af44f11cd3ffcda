"""A person's clone of a repository: what a test sees of the remote."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(*args: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Run git without the machine's configuration; its output without the last newline."""
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A Person"), ("EMAIL", "person@example.org"))
    }
    env = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(["git", *args], cwd=cwd, input=stdin, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.rstrip("\n")


class Clone:
    """A mirror of all refs of a remote, refreshed on demand."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        git("init", "--quiet", "--bare", str(directory))
        self.fetch()

    def fetch(self) -> None:
        """Bring every ref here."""
        git("fetch", "--quiet", "--prune", self.url, "+refs/*:refs/*", cwd=self.directory)

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """Ref to commit."""
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", prefix, cwd=self.directory).splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def log(self, ref: str = "refs/heads/main") -> list[str]:
        """The subjects of the first-parent history, newest first."""
        return git("log", "--first-parent", "--format=%s", ref, cwd=self.directory).splitlines()

    def files(self, ref: str = "refs/heads/main") -> list[str]:
        """The paths in a commit."""
        return git("ls-tree", "-r", "--name-only", ref, cwd=self.directory).splitlines()

    def read(self, path: str, ref: str = "refs/heads/main") -> str:
        """A file's text in a commit."""
        return git("show", f"{ref}:{path}", cwd=self.directory)

    def push_file(self, path: str, text: str, branch: str = "main") -> str:
        """Commit one file on a branch, as a person would, and push it; the new commit."""
        self.fetch()
        head = git("rev-parse", f"refs/heads/{branch}", cwd=self.directory)
        blob = git("hash-object", "-w", "--stdin", cwd=self.directory, stdin=text)
        index = {"GIT_INDEX_FILE": str(self.directory / "index.test")}
        os.environ.update(index)
        try:
            git("read-tree", head, cwd=self.directory)
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", cwd=self.directory)
            tree = git("write-tree", cwd=self.directory)
        finally:
            del os.environ["GIT_INDEX_FILE"]
        commit = git("commit-tree", tree, "-p", head, "-m", f"Change {path}", cwd=self.directory)
        git("push", "--quiet", self.url, f"{commit}:refs/heads/{branch}", cwd=self.directory)
        return commit
