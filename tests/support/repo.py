"""A bare repository that tests fill by plumbing, without a work tree."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.clients.git import Git, init_bare

File = str | bytes | tuple[str, str | bytes]  # content, or (mode, content or object name of a submodule)


@dataclass
class Repo:
    """Commits by whole contents: `files` maps a path to its content; time moves by a minute with each commit."""

    directory: Path
    clock: itertools.count[int] = field(default_factory=lambda: itertools.count(1_700_000_000, 60))

    def __post_init__(self) -> None:
        if not (self.directory / "HEAD").exists():
            init_bare(self.directory)
            self.git("config", "receive.advertiseAtomic", "true")

    @property
    def url(self) -> str:
        return f"file://{self.directory}"

    def client(self) -> Git:
        return Git(self.directory, self.url, protocols="file")

    def git(self, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run git here as a person would; its output without the last line end."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **(env or {})}
        done = subprocess.run(["git", *args], cwd=self.directory, input=stdin, capture_output=True, env=environment)
        assert done.returncode == 0, f"git {args}: {done.stderr.decode()}"
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def blob(self, content: str | bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content.encode() if isinstance(content, str) else content)

    def tree(self, files: Mapping[str, File]) -> str:
        """A tree with exactly these files."""
        lines = []
        for path, file in files.items():
            mode, content = file if isinstance(file, tuple) else ("100644", file)
            oid = str(content) if mode == "160000" else self.blob(content)
            lines.append(f"{mode} {oid}\t{path}".encode("utf-8", "surrogateescape"))
        index = {"GIT_INDEX_FILE": str(self.directory / f"index.{next(self.clock)}")}
        self.git("update-index", "-z", "--index-info", stdin=b"".join(line + b"\0" for line in lines), env=index)
        tree = self.git("write-tree", "--missing-ok", env=index)
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
        return tree

    def commit(self, files: Mapping[str, File], *parents: str, message: str = "Change", author: str = "Ann") -> str:
        """A commit with exactly these files."""
        time = f"{next(self.clock)} +0200"
        env = {
            "GIT_AUTHOR_NAME": author,
            "GIT_AUTHOR_EMAIL": f"{author.lower()}@example.org",
            "GIT_COMMITTER_NAME": "Someone",
            "GIT_COMMITTER_EMAIL": "someone@example.org",
            "GIT_AUTHOR_DATE": time,
            "GIT_COMMITTER_DATE": time,
        }
        flags = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", self.tree(files), *flags, "-F", "-", stdin=message.encode(), env=env)

    def set(self, ref: str, commit: str) -> None:
        self.git("update-ref", ref, commit)

    def ref(self, ref: str) -> str:
        """The value of a ref, empty where there is none."""
        out = self.git("for-each-ref", "--format=%(refname) %(objectname)", ref).splitlines()
        return next((line.split(" ")[1] for line in out if line.split(" ")[0] == ref), "")

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def files(self, commit: str) -> dict[str, str]:
        """Path to content of a commit's regular files."""
        paths = self.git("ls-tree", "-r", "-z", "--name-only", commit).split("\0")
        return {path: self.git("cat-file", "blob", f"{commit}:{path}") for path in paths if path}

    def parents(self, commit: str) -> list[str]:
        return self.git("rev-list", "--parents", "-n1", commit).split(" ")[1:]

    def contains(self, descendant: str, ancestor: str) -> bool:
        done = subprocess.run(["git", "merge-base", "--is-ancestor", ancestor, descendant], cwd=self.directory)
        return done.returncode == 0
