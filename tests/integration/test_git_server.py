"""The demo's git server with real git clients."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "images" / "git-server" / "git_server.py"
TOKEN = "t0ken-of-the-test"


@dataclass(frozen=True)
class Server:
    port: int
    root: Path

    def url(self, name: str, token: str = TOKEN) -> str:
        return f"http://any:{token}@127.0.0.1:{self.port}/{name}.git"

    def admin(self, method: str, name: str, body: bytes = b"", token: str = TOKEN) -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/admin/repositories/{name}",
            data=body,
            method=method,
            headers={"Authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "srv"
    root.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "GIT_SERVER_ROOT": str(root), "GIT_SERVER_LISTEN_PORT": str(port)}
    environment["GIT_SERVER_TOKEN"] = TOKEN
    process = subprocess.Popen([sys.executable, str(SERVER)], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(port)
        yield Server(port, root)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.05)
        else:
            return


def git(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    return subprocess.run(["git", *arguments], cwd=cwd, env=environment, check=check, capture_output=True, text=True)


def tar_of(files: dict[str, str], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return out.getvalue()


def test_a_tar_becomes_the_first_commit(server: Server, tmp_path: Path) -> None:
    files = {"a.txt": "one\n", 'dir/we"ird name.txt': "two", "run.sh": "#!/bin/sh\n"}
    assert server.admin("PUT", "seed", tar_of(files, {"dir/link": "../a.txt"}))[0] == 201
    git("clone", "-q", server.url("seed"), "work", cwd=tmp_path)
    work = tmp_path / "work"
    assert {name: (work / name).read_text() for name in files} == files
    assert os.access(work / "run.sh", os.X_OK)
    assert (work / "dir/link").readlink() == Path("../a.txt")
    assert git("rev-parse", "--abbrev-ref", "HEAD", cwd=work).stdout.strip() == "main"


def test_a_repository_is_made_once_and_can_be_removed(server: Server) -> None:
    assert server.admin("PUT", "once")[0] == 201
    status, body = server.admin("PUT", "once", tar_of({"a": "b"}))
    assert (status, "exists already" in str(body["error"])) == (409, True)
    assert server.admin("DELETE", "once")[0] == 200
    assert server.admin("DELETE", "once")[0] == 404


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("UPPER", b""),
        ("a..b", b""),
        ("x.git", b""),
        ("up", tar_of({"../a": ""})),
        ("abs", tar_of({"/etc/a": ""})),
        ("hook", tar_of({"sub/.GIT/hooks/post-update": ""})),
        ("link", tar_of({}, {"a/b": "../../etc"})),
        ("junk", b"no tar at all"),
    ],
)
def test_bad_names_and_files_are_refused(server: Server, name: str, body: bytes) -> None:
    status, answer = server.admin("PUT", name, body)
    assert status == 400
    assert answer["error"]
    assert list(server.root.iterdir()) == []


def test_without_the_token_nothing_is_given(server: Server, tmp_path: Path) -> None:
    assert server.admin("PUT", "closed", tar_of({"a": "b"}), token="wrong")[0] == 401
    server.admin("PUT", "closed", tar_of({"a": "b"}))
    for token in ("wrong", ""):
        refused = git("ls-remote", server.url("closed", token), cwd=tmp_path, check=False)
        assert refused.returncode != 0
    assert git("ls-remote", server.url("closed"), cwd=tmp_path).stdout.count("refs/heads/main") == 1


def test_atomic_push_of_custom_refs_and_fetch_by_commit(server: Server, tmp_path: Path) -> None:
    server.admin("PUT", "refs", tar_of({"a": "b"}))
    git("clone", "-q", server.url("refs"), "work", cwd=tmp_path)
    work = tmp_path / "work"
    git("commit", "-q", "--allow-empty", "-m", "next", cwd=work)
    head = git("rev-parse", "HEAD", cwd=work).stdout.strip()
    git("push", "-q", "--atomic", "origin", f"{head}:refs/tidegate/tasks/1", f"{head}:refs/heads/other", cwd=work)
    git("commit", "-q", "--amend", "--allow-empty", "-m", "changed", cwd=work)
    mixed = git(
        "push", "--atomic", "origin", "HEAD:refs/heads/other", "HEAD:refs/tidegate/tasks/2", cwd=work, check=False
    )
    assert mixed.returncode != 0, "a push that isn't a fast-forward went through"
    assert "tasks/2" not in git("ls-remote", "origin", cwd=work).stdout
    (tmp_path / "bare").mkdir()
    git("init", "-q", "--bare", cwd=tmp_path / "bare")
    git("fetch", "-q", "--depth=1", server.url("refs"), head, cwd=tmp_path / "bare")
    assert git("cat-file", "-t", head, cwd=tmp_path / "bare").stdout.strip() == "commit"


def test_a_large_push_comes_in_chunks(server: Server, tmp_path: Path) -> None:
    server.admin("PUT", "large", tar_of({"a": "b"}))
    git("clone", "-q", server.url("large"), "work", cwd=tmp_path)
    work = tmp_path / "work"
    content = os.urandom(5_000_000)
    (work / "big").write_bytes(content)
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "big", cwd=work)
    git("-c", "http.postBuffer=65536", "push", "-q", "origin", "main", cwd=work)
    git("clone", "-q", server.url("large"), "again", cwd=tmp_path)
    assert (tmp_path / "again" / "big").read_bytes() == content


def test_many_push_at_once_and_each_ref_is_there(server: Server, tmp_path: Path) -> None:
    server.admin("PUT", "busy", tar_of({"a": "b"}))

    def push(number: int) -> str:
        git("clone", "-q", server.url("busy"), f"w{number}", cwd=tmp_path)
        work = tmp_path / f"w{number}"
        git("commit", "-q", "--allow-empty", "-m", f"{number}", cwd=work)
        git("push", "-q", "origin", f"HEAD:refs/tidegate/tasks/{number}", cwd=work)
        return git("rev-parse", "HEAD", cwd=work).stdout.strip()

    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(push, range(16)))
    listed = git("ls-remote", server.url("busy"), cwd=tmp_path).stdout
    assert all(f"{commit}\trefs/tidegate/tasks/{number}\n" in listed for number, commit in enumerate(commits))
    assert git("-C", str(server.root / "busy.git"), "fsck", "--strict", cwd=tmp_path).returncode == 0
