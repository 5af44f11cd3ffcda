"""The gate `conflict-markers` of a sweep: conflicts that somebody left in the files of the head, whoever it was."""

from __future__ import annotations

import os

from tidegate.clients.git import Git
from tidegate.runner.base import Base
from tidegate.runner.conflict import left_markers

ATTRIBUTE = "conflict-marker-size"
USUAL_SIZE = "7"


def conflicts(git: Git) -> list[dict[str, object]]:
    """File and line where whole conflicts begin in HEAD. A file whose git attribute `conflict-marker-size` is a number
    other than 7 holds such lines on purpose. Raises GitError."""
    found = git.run("grep", "--name-only", "--null", "--text", "-e", "^<<<<<<<", "HEAD", ok=(0, 1)).out
    paths = [row.split(b":", 1)[1] for row in found.split(b"\0")[:-1]]
    meant = _meant(git, paths)
    nothing = Base("", "", {}, frozenset(), frozenset())
    return left_markers(git, "HEAD", [os.fsdecode(path) for path in paths if path not in meant], nothing, "")


def _meant(git: Git, paths: list[bytes]) -> frozenset[bytes]:
    """The paths whose markers have another length by an attribute."""
    if not paths:
        return frozenset()
    asked = b"".join(path + b"\0" for path in paths)
    command = ("-C", str(git.directory.parent), "check-attr", "--cached", "-z", "--stdin", ATTRIBUTE)
    words = git.run(*command, input=asked).out.split(b"\0")[:-1]
    rows = zip(words[::3], words[2::3], strict=True)
    return frozenset(path for path, value in rows if value.isdigit() and value.decode() != USUAL_SIZE)


def report(git: Git) -> tuple[str, int]:
    """What the gate prints, and its exit code."""
    found = conflicts(git)
    if not found:
        return "no conflicts are left", 0
    lines = [f"{place['file']}:{place['line']}: a conflict is left here" for place in found]
    cure = (
        "Decide what each place is to be and remove the lines <<<<<<<, ======= and >>>>>>>. Where a file holds such "
        f"lines on purpose, give it the git attribute {ATTRIBUTE} with another number."
    )
    return "\n".join([*lines, cure]), 1
