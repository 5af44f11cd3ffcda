"""Which paths a task may touch. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tidegate.api.globs import expression


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(expression(glob), re.DOTALL)


def in_scope(path: str, scope: Sequence[str]) -> bool:
    """True when `path` is covered by one of the paths or globs; no scope covers everything."""
    globs = [glob for glob in scope if glob.strip()]
    if not globs:
        return True
    return any(glob.strip() in (".", "./", "/", "*", "**") or _pattern(glob).fullmatch(path) for glob in globs)


def outside(paths: Iterable[str], scope: Sequence[str]) -> list[str]:
    """The paths that the scope doesn't cover, in order."""
    return [path for path in paths if not in_scope(path, scope)]
