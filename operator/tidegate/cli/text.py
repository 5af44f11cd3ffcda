"""Words for a terminal. What agents, repositories and models wrote loses its control and direction characters."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# C0 and C1 but tab, line and paragraph separators, direction marks and overrides, invisible joiners, tags.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def clean(text: object, limit: int = 200) -> str:
    """A text on one line, without anything that could steer a terminal, cut to `limit` characters."""
    plain = _UNSAFE.sub(" ", _ESCAPES.sub("", str(text))).strip()
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def clean_line(line: str) -> str:
    """A line of a log: nothing is cut, tabs stay."""
    return _UNSAFE.sub("", _ESCAPES.sub("", line))


def duration(seconds: float) -> str:
    """`45s`, `2m13s`, `1h02m`, `3d04h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def amount(number: int) -> str:
    """`950`, `12.3k`, `4.5M`."""
    if number < 1000:
        return str(number)
    if number < 1_000_000:
        return f"{number / 1000:.1f}k"
    return f"{number / 1_000_000:.1f}M"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time, or None for nothing or nonsense."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def between(start: str | None, end: str | None, now: datetime) -> str:
    """The time from start to end, to now where there is no end yet; empty without a start."""
    began = moment(start)
    if began is None:
        return ""
    ended = moment(end) or now
    return duration((ended.astimezone(UTC) - began).total_seconds())
