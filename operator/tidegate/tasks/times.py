"""Times as Kubernetes writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def written(moment: datetime) -> str:
    """RFC 3339 in whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> datetime | None:
    """The moment that a text names, None for an empty or unreadable one."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def seconds_until(text: str, now: datetime) -> float:
    """Seconds from `now` to the moment that a text names; at most 0 when it has passed or there is none."""
    moment = read(text)
    return (moment - now).total_seconds() if moment else 0.0


def seconds_since(text: str, now: datetime) -> float:
    """Seconds from the moment that a text names to `now`; 0 when there is none."""
    moment = read(text)
    return (now - moment).total_seconds() if moment else 0.0


def written_after(now: datetime, seconds: float) -> str:
    """The moment `seconds` after `now`, rounded up to a whole second."""
    return written(now + timedelta(seconds=seconds, microseconds=999_999))
