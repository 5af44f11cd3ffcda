"""Running other programs, with errors that say what ran and what it printed last."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.cluster.errors import ClusterError

# Debian keeps administrators' tools here, and a non-login shell may not have them on its PATH.
EXTRA_PATH = ("/usr/local/go/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
LAST_LINES = 15


def search_path() -> str:
    """PATH with the directories of administrators' tools added."""
    present = os.environ.get("PATH", os.defpath).split(":")
    return ":".join([*present, *(entry for entry in EXTRA_PATH if entry not in present)])


def find(program: str) -> Path | None:
    """The program's path, or None where it is not installed."""
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the wider PATH, and with `extra`."""
    return {**os.environ, "PATH": search_path(), **(extra or {})}


def run(
    arguments: Sequence[str | Path],
    *,
    stdin: str | None = None,
    extra_environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises ClusterError with the end of its output where it fails, or takes longer than `timeout` seconds.
    """
    words = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment(extra_environment),
            cwd=directory,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        raise ClusterError(f"`{' '.join(words)}` took longer than {timeout:g} s") from late
    except OSError as missing:
        raise ClusterError(f"`{words[0]}` cannot be run: {missing.strerror}") from missing
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LAST_LINES:]
        raise ClusterError(f"`{' '.join(words)}` failed with code {done.returncode}:\n" + "\n".join(lines))
    return done.stdout


def succeeds(arguments: Sequence[str | Path], timeout: float = 30) -> bool:
    """Whether the program exists and ends with code 0 within `timeout` seconds."""
    try:
        run(arguments, timeout=timeout)
    except ClusterError:
        return False
    return True
