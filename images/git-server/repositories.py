"""Make bare repositories from tar streams, without unpacking anything to disk: `make-repo NAME < files.tar`."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
BRANCH = "main"
IDENTITY = b"Tidegate demo <demo@tidegate.dev>"


class RepositoryError(ValueError):
    """The name or the files can't become a repository; the message says why."""


class RepositoryExistsError(RepositoryError):
    """A repository of that name is there already."""


def repository_path(root: Path, name: str) -> Path:
    """Where the bare repository `name` lies; raises RepositoryError for a name that isn't plain."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith((".git", ".")):
        raise RepositoryError(
            f"repository name {name!r}: use lower-case letters, digits, '-', '_' and single '.', without '.git'"
        )
    return root / f"{name}.git"


def make_repository(root: Path, name: str, tar: BinaryIO) -> Path:
    """Make `name` in one step that is seen whole or not at all; an empty stream makes an empty repository.

    Raises RepositoryExistsError, or RepositoryError for a bad name or bad files.
    """
    target = repository_path(root, name)
    if target.exists():
        raise RepositoryExistsError(f"repository {name!r} exists already; choose another name")
    staged = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        run_git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(staged))
        files = list(read_files(tar))
        if files:
            run_git("-C", str(staged), "fast-import", "--quiet", "--date-format=now", stdin=import_stream(files))
        staged.chmod(0o755)
        staged.rename(target)
    except OSError as error:
        if target.exists():
            raise RepositoryExistsError(f"repository {name!r} exists already; choose another name") from None
        raise RepositoryError(f"repository {name!r}: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def delete_repository(root: Path, name: str) -> bool:
    """Remove `name`; False when there is none."""
    target = repository_path(root, name)
    gone = root / f".gone-{name}-{time.monotonic_ns()}"
    try:
        target.rename(gone)
    except FileNotFoundError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def read_files(tar: BinaryIO) -> Iterator[tuple[str, str, bytes]]:
    """The files of a tar stream as (git mode, path, content); raises RepositoryError for what a tree can't hold."""
    data = tar.read()
    if not data:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                path = checked_path(member.name)
                if member.issym():
                    checked_link(path, member.linkname)
                    yield "120000", path, member.linkname.encode()
                elif member.isreg():
                    content = archive.extractfile(member)
                    mode = "100755" if member.mode & 0o100 else "100644"
                    yield mode, path, content.read() if content else b""
                else:
                    raise RepositoryError(f"{member.name!r}: only files, directories and symbolic links can be stored")
    except tarfile.TarError as error:
        raise RepositoryError(f"the body is no tar archive: {error}") from error


def checked_path(name: str) -> str:
    """The path inside the tree; raises RepositoryError when it leaves the tree or hides a git directory."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or not parts or ".." in parts or any(part.lower() == ".git" for part in parts):
        raise RepositoryError(f"{name!r}: not a path inside a work tree")
    return "/".join(parts)


def checked_link(path: str, target: str) -> None:
    """Raises RepositoryError for a symbolic link that leaves the tree."""
    depth = path.count("/")
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            break
    if target.startswith("/") or depth < 0:
        raise RepositoryError(f"{path!r}: the symbolic link leaves the tree")


def import_stream(files: list[tuple[str, str, bytes]]) -> bytes:
    """One commit with these files, for `git fast-import`."""
    message = b"Start from a seed\n"
    out = io.BytesIO()
    out.write(b"commit refs/heads/%s\ncommitter %s now\n" % (BRANCH.encode(), IDENTITY))
    out.write(b"data %d\n%s\n" % (len(message), message))
    for mode, path, content in files:
        quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        out.write(b'M %s inline "%s"\ndata %d\n' % (mode.encode(), quoted.encode(), len(content)))
        out.write(content)
        out.write(b"\n")
    return out.getvalue()


def run_git(*arguments: str, stdin: bytes = b"") -> None:
    """Run git without anybody's configuration; raises RepositoryError with what it said."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], input=stdin, capture_output=True, env=environment, check=False)
    if done.returncode != 0:
        raise RepositoryError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()[-500:]}")


def main() -> int:
    """`make-repo NAME < files.tar`; a terminal as standard input means no files."""
    if len(sys.argv) != 2:
        print("usage: make-repo NAME < files.tar", file=sys.stderr)
        return 2
    root = Path(os.environ.get("GIT_SERVER_ROOT", "/srv/git"))
    tar: BinaryIO = io.BytesIO() if sys.stdin.isatty() else sys.stdin.buffer
    try:
        print(make_repository(root, sys.argv[1], tar).name)
    except RepositoryError as error:
        print(f"make-repo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
