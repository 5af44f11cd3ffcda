"""The handoff: what an attempt says of itself. Pure: bytes in, a checked document or the faults out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.api.review import read_review

MAX_HANDOFF_BYTES = 1024 * 1024
STATUSES = ("Complete", "Partial", "Blocked", "Failed")
EXIT_TIMEOUT = 124
_SUMMARY_LINES = 20


@dataclass(frozen=True, slots=True)
class Exit:
    """The entry script's record of how the engine ended: a hint only, the agent can write it."""

    code: int
    why: str = ""  # exited | timeout | stopped


@dataclass(frozen=True, slots=True)
class Handoff:
    """A handoff as it is pushed. `faults` name the fields that are wrong; then `valid` is False."""

    document: dict[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    made: bool = False

    @property
    def valid(self) -> bool:
        """True when the operator may believe that the agent meant what is there."""
        return not self.faults

    @property
    def status(self) -> str:
        """The agent's own word for how it went, or empty."""
        status = self.document.get("status")
        return status if isinstance(status, str) and status in STATUSES else ""

    @property
    def summary(self) -> str:
        """One text for people."""
        summary = self.document.get("summary")
        return summary if isinstance(summary, str) else ""


def parse_exit(content: bytes | None) -> Exit | None:
    """Read the exit record `<code> <why>`; None when it is missing or unreadable."""
    words = (content or b"").decode("utf-8", "replace").split()
    if not words or not words[0].isdigit() or int(words[0]) > 255:
        return None
    return Exit(int(words[0]), words[1] if len(words) > 1 else "")


def parse_handoff(content: bytes, *, plan_expected: bool, review_expected: bool = False) -> Handoff:
    """Check what the agent wrote."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Handoff(faults=(f"not JSON: {error}"[:200],))
    if not isinstance(document, dict):
        return Handoff(faults=("not a JSON object",))
    faults = [f for f in _faults(document) if f]
    if plan_expected and document.get("status") == "Complete" and not isinstance(document.get("plan"), dict):
        faults.append("plan: missing, and the role is Planner")
    if review_expected and document.get("status") == "Complete":
        found = read_review(document.get("review"))
        faults += [found] if isinstance(found, str) else []
    return Handoff(document, tuple(faults))


def _faults(document: Mapping[str, Any]) -> list[str]:
    faults: list[str] = []
    if document.get("status") not in STATUSES:
        faults.append(f"status: not one of {', '.join(STATUSES)}")
    if not isinstance(document.get("summary"), str):
        faults.append("summary: not a text")
    for name in ("concerns", "suggestions"):
        value = document.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            faults.append(f"{name}: not a list of texts")
    usage = document.get("usage", {})
    if not isinstance(usage, dict) or not all(_is_count(value) for value in usage.values()):
        faults.append("usage: not an object of whole numbers of at least 0")
    plan = document.get("plan", {})
    if not isinstance(plan, dict) or not isinstance(plan.get("tasks", []), list):
        faults.append("plan: not an object with a list `tasks`")
    return faults


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def make_handoff(ended: Exit | None, files_changed: int, log_tail: str) -> Handoff:
    """The handoff of an engine that wrote none: from its exit code, its diff and the end of its output."""
    changed = f"{files_changed} file{'' if files_changed == 1 else 's'} changed"
    if ended is None:
        status, how = "Failed", "The engine was killed before it could end"
    elif ended.why == "timeout":
        status, how = "Failed", "The engine ran past its time"
    elif ended.why == "stopped":
        status, how = "Failed", "The engine was stopped"
    else:
        status, how = ("Complete" if ended.code == 0 else "Failed"), f"The engine ended with exit code {ended.code}"
    lines = [line.rstrip() for line in log_tail.splitlines() if line.strip()]
    summary = f"{how}; {changed}."
    if lines:
        summary += "\nThe end of its output:\n" + "\n".join(lines[-_SUMMARY_LINES:])
    return Handoff({"status": status, "summary": summary}, made=True)
