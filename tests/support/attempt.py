"""One attempt of a task without a cluster: a git server, the volumes of its Pod, and the runner on them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.git import git
from tests.support.git_http import TOKEN, USER, GitServer
from tidegate import names
from tidegate.api.wire import AgentInput, PublisherReport, WorkspaceReport
from tidegate.runner.places import Places
from tidegate.runner.publisher import run
from tidegate.runner.stop import StopSignal
from tidegate.runner.workspace import prepare

UID = "7d3f0c52-0000-4000-8000-000000000001"
POD = "aaaaaaaa-0000-4000-8000-000000000001"


def seed(server: GitServer, name: str, files: dict[str, str | bytes], modes: dict[str, str] | None = None) -> str:
    """Make a repository with one commit on main; a mode of 120000 makes a symlink. Returns the commit."""
    path = server.new(name)
    for key, value in (("receive.fsckObjects", "true"), ("receive.denyDeletes", "false")):
        git("config", key, value, cwd=path)
    return commit_files(path, files, modes)


def commit_files(path: Path, files: dict[str, str | bytes], modes: dict[str, str] | None = None) -> str:
    """A commit on main of a bare repository that holds exactly these files."""
    rows = []
    for file, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        words = ["git", "-C", str(path), "hash-object", "-w", "--stdin"]
        blob = subprocess.run(words, input=raw, capture_output=True, check=True).stdout.decode().strip()
        rows.append(f"{(modes or {}).get(file, '100644')} {blob}\t{file}")
    index = {"GIT_INDEX_FILE": str(path / "seed.index")}
    (path / "seed.index").unlink(missing_ok=True)
    env = {**os.environ, **index}
    words = ["git", "-C", str(path), "update-index", "--add", "--index-info"]
    subprocess.run(words, input="\n".join(rows).encode(), env=env, check=True)
    tree = subprocess.run(["git", "-C", str(path), "write-tree"], env=env, capture_output=True, check=True)
    parents = subprocess.run(["git", "-C", str(path), "rev-parse", "-q", "--verify", "main"], capture_output=True)
    words = ["-p", parents.stdout.decode().strip()] if parents.returncode == 0 else []
    commit = git("commit-tree", tree.stdout.decode().strip(), *words, "-m", "Seed", cwd=path)
    git("update-ref", "refs/heads/main", commit, cwd=path)
    return commit


@dataclass
class Bench:
    """The volumes of one Pod, and what its containers do."""

    root: Path
    server: GitServer
    repository: str = "project"
    pod: str = POD
    given: AgentInput = field(init=False)

    def __post_init__(self) -> None:
        for path in (names.PATH_WORKSPACE, names.PATH_TOOLS, names.PATH_INPUT, names.PATH_OUTPUT, names.PATH_STATE,
                     names.PATH_GIT_CREDENTIALS):  # fmt: skip
            (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (self.places.credentials / "username").write_text(USER)
        (self.places.credentials / "password").write_text(TOKEN)
        self.given = AgentInput(
            url=self.server.url(self.repository), target_branch="main", task_uid=UID, task="add-fractions", attempt=1,
            prompt="echo hello", engine="Script", publish_seconds=20, allowed_protocols="http:https:file",
            author_name="Ada", author_email="ada@example.org", subject="Add fractions",
        )  # fmt: skip

    @property
    def places(self) -> Places:
        """The Pod's mount points below the root."""

        def at(path: str) -> Path:
            return self.root / path.lstrip("/")

        return Places(at(names.PATH_WORKSPACE), at(names.PATH_TOOLS), at(names.PATH_INPUT), at(names.PATH_OUTPUT),
                      at(names.PATH_STATE), at(names.PATH_GIT_CREDENTIALS), at(names.PATH_TOKEN),
                      self.root / "termination-log")  # fmt: skip

    @property
    def workspace(self) -> Path:
        """The working tree."""
        return self.places.workspace

    def change(self, **changes: object) -> None:
        """Change the input that the containers get."""
        self.given = replace(self.given, **changes)  # type: ignore[arg-type]

    def prepare(self) -> WorkspaceReport:
        """Run the init container."""
        return prepare(self.given, self.places, self.pod)

    def write(self, path: str, content: str | bytes, *, executable: bool = False) -> Path:
        """Write a file of the working tree, as the agent would."""
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        if executable:
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    def exits(self, code: int = 0, why: str = "exited", log: str = "") -> None:
        """What the entry script leaves when the engine ended."""
        (self.places.output / "exit").write_text(f"{code} {why}\n")
        if log:
            (self.places.output / "log").write_text(log)

    def hand_off(self, text: str) -> None:
        """Write the handoff file."""
        (self.places.output / "handoff.json").write_text(text)

    def publish(self) -> PublisherReport:
        """Run the publisher as if SIGTERM had come already."""
        return run(self.given, self.places, self.pod, StopSignal(True))

    def start_publisher(self, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Run the publisher as a process of its own, by way of another program where `prefix` names one."""
        env = {
            "PATH": os.environ["PATH"], "TIDEGATE_ROOT": str(self.root), **self.given.variables(),
            "TIDEGATE_POD_UID": self.pod, "TIDEGATE_TERMINATION_LOG": str(self.places.termination_log),
        }  # fmt: skip
        words = [*prefix, sys.executable, "-m", "tidegate.runner", "publisher"]
        return subprocess.Popen(words, env=env, stderr=subprocess.PIPE)

    def report(self) -> PublisherReport:
        """The termination message that such a process left."""
        return PublisherReport.loads(self.places.termination_log.read_text())

    # --- what the remote holds now
    def remote(self, *args: str) -> str:
        """Git's answer in the server's repository."""
        return git(*args, cwd=self.server.root / f"{self.repository}.git")

    def refs(self) -> dict[str, str]:
        """Refs at the remote."""
        lines = self.remote("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def files(self, commit: str) -> dict[str, str]:
        """Path to mode of a commit."""
        rows = (row.split("\t", 1) for row in self.remote("ls-tree", "-r", "-z", commit).split("\0") if row)
        return {path: head.split()[0] for head, path in rows}

    def read(self, commit: str, path: str) -> str:
        """A file's text in a commit."""
        return self.remote("cat-file", "blob", f"{commit}:{path}")
