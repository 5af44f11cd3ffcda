"""Which paths a task may touch. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    """`*` and `?` stay inside a path component, `**` crosses them, a plain path covers what is below it."""
    glob = glob.strip().removeprefix("./").rstrip("/")
    out: list[str] = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            out.append(".*")
            at += 2
        elif glob[at] == "*":
            out.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            out.append("[^/]")
            at += 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : end].replace("\\", "\\\\")
            out.append(f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            at = end + 1
        else:
            out.append(re.escape(glob[at]))
            at += 1
    return re.compile(f"{''.join(out)}(?:/.*)?", re.DOTALL)


def in_scope(path: str, scope: Sequence[str]) -> bool:
    """True when `path` is covered by one of the paths or globs; no scope covers everything."""
    globs = [glob for glob in scope if glob.strip()]
    if not globs:
        return True
    return any(glob.strip() in (".", "./", "/", "*", "**") or _pattern(glob).fullmatch(path) for glob in globs)


def outside(paths: Iterable[str], scope: Sequence[str]) -> list[str]:
    """The paths that the scope doesn't cover, in order."""
    return [path for path in paths if not in_scope(path, scope)]
