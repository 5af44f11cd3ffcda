"""Conditions as Kubernetes wants them. Pure."""

from __future__ import annotations

import re
from typing import Any

MESSAGE_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean_message(text: str, limit: int = MESSAGE_BYTES) -> str:
    """A text fit for a status or an Event: no control or direction characters, at most `limit` bytes of UTF-8."""
    text = _CONTROL.sub(" ", text).strip()
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."


def get_condition(conditions: list[dict[str, Any]], type_: str) -> dict[str, Any] | None:
    """The condition of a type, or None."""
    return next((c for c in conditions if c.get("type") == type_), None)


def is_true(conditions: list[dict[str, Any]], type_: str) -> bool:
    """Whether a condition is there and True."""
    condition = get_condition(conditions, type_)
    return condition is not None and condition.get("status") == "True"


def set_condition(
    conditions: list[dict[str, Any]], type_: str, status: str, reason: str, message: str, *, now: str, generation: int
) -> list[dict[str, Any]]:
    """A new list in which the condition has these values; `lastTransitionTime` moves only when `status` does.

    `now` is RFC 3339, `generation` the object's generation that was looked at. The message is cleaned and cut.
    """
    old = get_condition(conditions, type_)
    since = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
    made = {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": clean_message(message),
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
    if old is None:
        return [*conditions, made]
    return [made if c.get("type") == type_ else c for c in conditions]


def drop_condition(conditions: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    """A new list without a condition: abnormal-true ones (Stalled, Reconciling) are absent when all is well."""
    return [c for c in conditions if c.get("type") != type_]
