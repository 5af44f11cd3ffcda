"""The base's ignore rules, evaluated by git on a directory of our own that holds nothing but those rules."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.clients.git import Git
from tidegate.runner.base import Base, Blobs, is_layable
from tidegate.runner.paths import EXECUTABLE, FILE

# What tools leave behind everywhere. A base's own rules come after these and may take a name back with `!`.
DEFAULT_RULES = (
    "__pycache__/", "*.py[cod]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".hypothesis/", ".tox/", ".nox/",
    ".venv/", "node_modules/", ".npm/", ".cache/", ".DS_Store", "*.swp", ".coverage", "*.egg-info/", ".aider*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Answers which untracked paths are ignored. `git` runs in `directory`, which stands for the working tree."""

    git: Git
    git_directory: Path
    directory: Path

    def __call__(self, paths: Sequence[bytes]) -> frozenset[bytes]:
        """The ignored ones of these untracked paths; those of directories end with a slash."""
        for path in paths:
            if path.endswith(b"/"):  # git looks at the disk to tell a directory from a file
                with suppress(FileExistsError, NotADirectoryError):
                    (self.directory / os.fsdecode(path)).mkdir(parents=True, exist_ok=True)
        words = b"".join(b"./" + path.rstrip(b"/") + b"\0" for path in paths)  # `./` keeps `:` from being magic
        place = (f"--git-dir={self.git_directory}", "--work-tree=.")
        done = self.git.run(*place, "check-ignore", "--no-index", "-z", "--stdin", input=words, ok=(0, 1))
        ignored = set(done.out.split(b"\0"))
        return frozenset(path for path in paths if b"./" + path.rstrip(b"/") in ignored)


@contextmanager
def ignore_rules(git: Git, base: Base, blobs: Blobs) -> Iterator[IgnoreRules]:
    """Lay the base's `.gitignore` files in a directory of their own for as long as the block runs."""
    directory = Path(tempfile.mkdtemp(prefix="tidegate-ignore-"))
    exclude = git.directory / "info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("\n".join([*DEFAULT_RULES, ""]))
    try:
        for path, entry in base.entries.items():
            is_rules = path == b".gitignore" or path.endswith(b"/.gitignore")
            if is_rules and entry.mode in (FILE, EXECUTABLE) and is_layable(path):
                file = directory / os.fsdecode(path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(blobs.read(entry.oid))
        yield IgnoreRules(replace(git, directory=directory), git.directory, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
