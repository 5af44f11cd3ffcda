"""Which GateProfiles a repository's branch requires, whatever a build, task or lane chooses. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from tidegate.api.globs import expression


def place_of(url: str) -> str:
    """Host and path of a repository as the most forgiving server reads them: another spelling evades no requirement.
    Scheme, user, port, case, `.git` and escapes don't count."""
    parts = urlsplit(url.strip())
    path = posixpath.normpath("/" + unquote(parts.path)).lstrip("/")
    return _bare(f"{(parts.hostname or '').rstrip('.')}/{path}" if parts.hostname else path)


def requires(profile: Mapping[str, Any], url: str, branch: str) -> bool:
    """Whether a profile's `requiredFor` names a repository's branch. `profile`: its spec."""
    found = profile.get("requiredFor") or ()
    place = place_of(url) if found else ""
    return any(
        _compiled(_bare(one["repository"])).fullmatch(place) and _compiled(one.get("branch") or "**").fullmatch(branch)
        for one in found
    )


def _bare(text: str) -> str:
    return re.sub(r"(\.git)?/*$", "", text.strip()).casefold()


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(expression(glob), re.DOTALL)
