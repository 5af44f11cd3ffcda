"""The git client: what it hands to git, what it keeps from it, and that nothing outlives it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.git_http import TOKEN, USER, git_server
from tidegate.clients.git import (
    BlobMissingError,
    Credentials,
    Git,
    GitError,
    GitThreads,
    GitTimeoutError,
    Limits,
    init_bare,
    ls_remote,
    read_blob,
)

IDENTITY = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def commit_file(git: Git, ref: str, name: str, text: str, *parents: str) -> str:
    """Put a commit with one file at a ref, by plumbing."""
    blob = git.text("hash-object", "-w", "--stdin", input=text.encode())
    tree = git.text("mktree", input=f"100644 blob {blob}\t{name}\n".encode())
    flags = [word for parent in parents for word in ("-p", parent)]
    commit = git.run("commit-tree", tree, *flags, "-m", f"Write {name}", env=IDENTITY).text
    git.run("update-ref", ref, commit)
    return commit


@pytest.fixture
def bare(tmp_path: Path) -> Git:
    init_bare(tmp_path / "bare")
    return Git(tmp_path / "bare", protocols="file:http")


def test_environment_and_configuration_of_the_machine_do_not_reach_git(
    bare: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Mallory\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'user.name'='Mallory'")
    monkeypatch.setenv("API_KEY", "not-for-git")
    assert bare.run("config", "--get", "user.name", ok=(1,)).out == b""
    shown = bare.run("-c", "alias.env=!env", "env").text
    assert "not-for-git" not in shown
    assert "GIT_DIR=/nowhere" not in shown


def test_hooks_of_the_repository_do_not_run(bare: Git, tmp_path: Path) -> None:
    hook = bare.directory / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    commit_file(bare, "refs/heads/main", "a", "a")
    assert not (tmp_path / "ran").exists()


def test_an_unexpected_exit_code_raises_with_gits_words(bare: Git) -> None:
    with pytest.raises(GitError, match="Not a valid object name") as caught:
        bare.run("cat-file", "-t", "nope")
    assert caught.value.code == 128
    assert bare.run("cat-file", "-t", "nope", ok=None).code == 128


def test_a_timeout_ends_the_whole_process_group(bare: Git, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(GitTimeoutError):
        bare.run("-c", f"alias.hang=!sleep 60 & echo $! > {pid_file}; wait", "hang", timeout=0.5)
    assert time.monotonic() - started < 5
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_limits_hold(bare: Git) -> None:
    small = Git(bare.directory, limits=Limits(file_bytes=1000))
    with pytest.raises(GitError):
        small.run("hash-object", "-w", "--stdin", input=os.urandom(100_000))


def test_protocols_that_are_not_allowed_are_refused(bare: Git) -> None:
    commit_file(bare, "refs/heads/main", "a", "a")
    assert list(ls_remote(f"file://{bare.directory}", None, protocols="file")) == ["refs/heads/main"]
    with pytest.raises(GitError, match="not allowed"):
        ls_remote(f"file://{bare.directory}", None, protocols="https:ssh")


def test_the_token_reaches_the_server_and_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    with git_server(tmp_path) as server:
        path = server.new("repo")
        commit = commit_file(Git(path), "refs/heads/main", "plan.json", "{}")
        good = Credentials(USER, TOKEN)
        assert ls_remote(server.url("repo"), good, "refs/heads/*", protocols="http") == {"refs/heads/main": commit}
        assert read_blob(server.url("repo"), good, "refs/heads/main", "plan.json", protocols="http") == b"{}"
        git = Git(path, server.url("repo"), good, "http")
        with git._secrets(True) as secrets:
            words = [*git._command(("fetch",), secrets.config), *secrets.env.values()]
            assert not [word for word in words if TOKEN in word]
        with pytest.raises(GitError, match=r"Authentication failed|could not read"):
            ls_remote(server.url("repo"), Credentials(USER, "wrong"), protocols="http")
        with pytest.raises(GitError):
            ls_remote(server.url("repo"), None, protocols="http")
    assert TOKEN not in repr(good)
    assert not list(private.iterdir())


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with git_server(tmp_path, token=None) as target, git_server(tmp_path) as front:
        commit_file(Git(target.new("repo")), "refs/heads/main", "a", "a")
        front.redirect_to = f"http://127.0.0.1:{target.port}"
        with pytest.raises(GitError):
            ls_remote(front.url("repo"), Credentials(USER, TOKEN), protocols="http")


def test_read_blob_takes_the_named_commit_and_bounds_the_size(bare: Git) -> None:
    old = commit_file(bare, "refs/heads/main", "f", "old")
    commit_file(bare, "refs/heads/main", "f", "new", old)
    url = f"file://{bare.directory}"
    assert read_blob(url, None, "refs/heads/main", "f", protocols="file") == b"new"
    assert read_blob(url, None, "refs/heads/main", "f", commit=old, protocols="file") == b"old"
    with pytest.raises(BlobMissingError):
        read_blob(url, None, "refs/heads/main", "missing", protocols="file")
    with pytest.raises(BlobMissingError):
        read_blob(url, None, "refs/heads/main", "f", max_bytes=2, protocols="file")


def test_a_stream_answers_and_is_ended(bare: Git) -> None:
    commit = commit_file(bare, "refs/heads/main", "f", "text")
    with bare.stream("cat-file", "--batch-command") as stream:
        stream.write(f"info {commit}\n".encode())
        assert stream.line().split()[1] == b"commit"
        pid = stream._process.pid
    assert not Path(f"/proc/{pid}").exists()


def test_ssh_is_strict_about_hosts(bare: Git) -> None:
    git = Git(bare.directory, "ssh://git@example.org/x", Credentials(ssh_key="KEY"))
    with git._secrets(True) as secrets:
        assert "StrictHostKeyChecking=yes" in secrets.env["GIT_SSH_COMMAND"]
        assert "KEY" not in secrets.env["GIT_SSH_COMMAND"]


async def test_threads_bring_back_results_and_errors(bare: Git) -> None:
    threads = GitThreads(2)
    assert (await threads.call(bare.run, "--version")).code == 0
    with pytest.raises(GitError):
        await threads.call(bare.run, "cat-file", "-t", "nope")
    threads.close()
