"""A change as a diff, within bounds of size, memory and time: whoever made it wants it looked at, or doesn't."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from tidegate.clients.git import Git, GitError, GitTimeoutError, Limits

MEMORY = 256 * 1024 * 1024  # bytes; lines may be as short and as many as somebody likes
_FRUGAL = ("core.packedGitWindowSize=16m", "core.packedGitLimit=64m", "core.deltaBaseCacheLimit=16m")
_SHOWN = ("-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", "--text", "--no-color", "--full-index",
          "--unified=10", "--ignore-submodules=none")  # fmt: skip


def change_text(git: Git, base: str, commit: str, most: int, seconds: float) -> bytes | None:
    """What a commit changes in a base; None where that is longer than `most` bytes, or takes too much.

    Every file is shown as text: no attributes hide anything. Raises GitError.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-change-") as directory:
        file = Path(directory) / "diff"
        bounded = replace(git, limits=Limits(MEMORY, file_bytes=most + 1), config=(*git.config, *_FRUGAL))
        command = ("diff-tree", *_SHOWN, f"--output={file}", base, f"{commit}^{{tree}}")
        try:
            done = bounded.run(*command, timeout=seconds, ok=None)
        except GitTimeoutError:
            return None
        size = file.stat().st_size if file.exists() else 0
        if size > most or "memory" in done.err:
            return None
        if done.code != 0:
            raise GitError(command, done.code, done.err)
        return file.read_bytes()
