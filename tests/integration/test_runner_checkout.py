"""What a gate's Pod gets: the exact commit as files, with or without a `.git`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.attempt import Bench, commit_files, seed
from tests.support.git import git
from tests.support.git_http import TOKEN, GitServer, git_server
from tidegate.api.wire import GateInput
from tidegate.runner.checkout import check_out


class Gate:
    """A remote with three commits on main, the middle one held by a candidate's ref, and a gate Pod's volumes."""

    def __init__(self, root: Path, server: GitServer) -> None:
        self.repository = server.root / "project.git"
        self.commits = [seed(server, "project", {"a.py": "1\n", ".gitattributes": "*.py filter=evil\n"})]
        for text in ("2\n", "3\n"):
            files: dict[str, str | bytes] = {"a.py": text, "run": "#!/bin/sh\n", "l": "a.py"}
            self.commits.append(commit_files(self.repository, files, {"run": "100755", "l": "120000"}))
        self.ref = "refs/tidegate/lanes/x/candidates/c"
        git("update-ref", self.ref, self.commits[1], cwd=self.repository)
        self.pod = Bench(root / "gate", server)
        self.given = GateInput(
            server.url("project"), self.commits[1], self.ref, self.commits[0], allowed_protocols="http"
        )

    def run(self, **changes: object) -> str:
        report = check_out(replace(self.given, **changes), self.pod.places)  # type: ignore[arg-type]
        assert bool(report.error) == bool(report.message)
        return report.error

    def git(self, *args: str) -> str:
        return git(*args, cwd=self.pod.workspace)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        yield Gate(tmp_path, server)


def test_a_tree_gate_sees_files_and_no_git_directory(gate: Gate) -> None:
    assert gate.run(tree_only=True) == ""
    assert sorted(path.name for path in gate.pod.workspace.iterdir()) == ["a.py", "l", "run"]
    assert (gate.pod.workspace / "a.py").read_text() == "2\n"
    assert (gate.pod.workspace / "run").stat().st_mode & 0o111


def test_reports_are_not_taken_from_the_commit(gate: Gate) -> None:
    for tree_only in (True, False):
        assert gate.run(tree_only=tree_only, reports=["a.py", "l", "nothing/here"]) == ""
        names = {path.name for path in gate.pod.workspace.iterdir()} - {".git"}
        assert names == {"run"}


def test_a_repository_gate_can_ask_git_for_its_commit_and_its_base(gate: Gate) -> None:
    assert gate.run() == ""
    assert gate.git("rev-parse", "HEAD") == gate.commits[1]
    assert gate.git("status", "--porcelain") == ""
    assert "+2" in gate.git("diff", gate.commits[0], "HEAD", "--", "a.py")
    assert gate.git("rev-parse", "refs/tidegate/base") == gate.commits[0]
    assert gate.git("remote") == ""


def test_what_is_left_for_the_gate_holds_no_credential_and_no_url(gate: Gate) -> None:
    for tree_only in (True, False):
        gate.run(tree_only=tree_only)
        for path in gate.pod.workspace.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                assert TOKEN.encode() not in content, path
                assert gate.given.url.encode() not in content, path
    assert not list(gate.pod.places.state.glob("tidegate-checkout-*")), "left for others to read"


def test_the_whole_history_where_the_gate_asks_for_it(gate: Gate) -> None:
    assert gate.run(full_history=True) == ""
    assert gate.git("rev-list", "--count", "HEAD") == "2"
    assert gate.git("rev-parse", "HEAD~1") == gate.commits[0]


def test_a_commit_that_its_branch_has_left_behind_is_found(gate: Gate) -> None:
    assert gate.run(commit=gate.commits[0], fetch_ref="refs/heads/main", base="") == ""
    assert gate.git("rev-parse", "HEAD") == gate.commits[0]


def test_also_where_the_server_gives_no_commit_by_its_name(gate: Gate) -> None:
    config = gate.pod.root / "protocol"
    config.write_text("")
    for key in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowReachableSHA1InWant"):
        git("config", key, "false", cwd=gate.repository)
    git("config", "protocol.version", "0", cwd=gate.repository)
    assert gate.run(commit=gate.commits[0], fetch_ref="refs/heads/main", base="") == ""
    assert gate.git("rev-parse", "HEAD") == gate.commits[0]


def test_a_commit_that_is_nowhere_is_named(gate: Gate) -> None:
    assert gate.run(commit="1" * 40) == "SourceMissing"


def test_a_second_run_finds_a_clean_place(gate: Gate) -> None:
    gate.run()
    (gate.pod.workspace / "left").write_text("x")
    assert gate.run(tree_only=True) == ""
    assert not (gate.pod.workspace / "left").exists()
    assert not (gate.pod.workspace / ".git").exists()


def test_the_module_runs_as_the_container_does(gate: Gate, tmp_path: Path) -> None:
    env = {
        "PATH": "/usr/bin:/bin", "TIDEGATE_ROOT": str(gate.pod.root), **gate.given.variables(),
        "TIDEGATE_TERMINATION_LOG": str(tmp_path / "log"), "TMPDIR": str(tmp_path),
    }  # fmt: skip
    import sys

    done = subprocess.run([sys.executable, "-m", "tidegate.runner", "checkout"], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == '{"v":1,"error":"","message":""}'
