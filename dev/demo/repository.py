"""Repositories on the demo's git server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from dev.demo.kubectl import DemoError, Kubectl
from dev.demo.services import GIT_HOST, GIT_PORT, SERVICES, TOKEN_SECRET, token

SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
REACH_SECONDS = 30


class NameTakenError(DemoError):
    """A repository of that name is there already."""


class GitServer:
    """The demo's git server as this machine reaches it: a node's address and the Service's node port."""

    def __init__(self, kubectl: Kubectl) -> None:
        service = kubectl.get("service", "git-server", SERVICES)
        if not service or not kubectl.get("secret", TOKEN_SECRET, SERVICES):
            raise DemoError("the demo's git server isn't there; `make demo` (or `python3 dev/demo/cli.py up`) makes it")
        self._token = token(kubectl)
        self._address = f"{kubectl.node_address()}:{service['spec']['ports'][0]['nodePort']}"

    def url_in_cluster(self, name: str) -> str:
        """What a BuildRequest names."""
        return f"http://{GIT_HOST}:{GIT_PORT}/{name}.git"

    def url_here(self, name: str) -> str:
        """What this machine clones from; it holds the token."""
        return f"http://git:{self._token}@{self._address}/{name}.git"

    def make(self, name: str, files: Path | None) -> None:
        """Make a repository with the files of a directory, or with a README. Raises NameTakenError, DemoError."""
        body = archive(files) if files else archive_of({"README.md": f"# {name}\n"})
        request = urllib.request.Request(
            f"http://{self._address}/admin/repositories/{name}",
            data=body,
            method="PUT",
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/x-tar"},
        )
        deadline = time.monotonic() + REACH_SECONDS
        while True:
            try:
                urllib.request.urlopen(request, timeout=60).close()
            except urllib.error.HTTPError as error:
                said = str(json.loads(error.read() or b"{}").get("error", error.reason))
                raise (NameTakenError if error.code == 409 else DemoError)(f"git server: {said}") from None
            except OSError as error:
                # a new Service needs a moment until the node forwards to it
                if time.monotonic() > deadline:
                    raise DemoError(f"the git server at {self._address} doesn't answer: {error}") from None
                time.sleep(0.5)
            else:
                return


def archive(directory: Path) -> bytes:
    """A tar of a directory: what git would add where it is a work tree, else all but caches."""
    if not directory.is_dir():
        raise DemoError(f"{directory} is no directory")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(work_files(directory)):
            if path.is_symlink() or path.is_file():
                tar.add(path, arcname=str(path.relative_to(directory)), recursive=False)
    return out.getvalue()


def work_files(directory: Path) -> list[Path]:
    """The files of a directory that belong into a repository."""
    if (directory / ".git").exists():
        command = ["git", "-C", str(directory), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"git ls-files in {directory}: {done.stderr.strip()}")
        return [directory / name for name in done.stdout.split("\0") if name]
    found: list[Path] = []
    for root, names, files in os.walk(directory):
        names[:] = [name for name in names if name not in SKIPPED]
        found += [Path(root) / name for name in files]
    return found


def archive_of(files: dict[str, str]) -> bytes:
    """A tar with these texts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()
