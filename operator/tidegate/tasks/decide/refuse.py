"""States that somebody else wrote: refused, recorded as an Event, and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.api.views import TaskView
from tidegate.tasks import states
from tidegate.tasks.model import Decision, Note, Observed
from tidegate.tasks.status import StatusEdit, newest


def implied_state(task: TaskView) -> str:
    """The state that the attempts' records allow: the present one, or the one it must be instead."""
    attempt = newest(task)
    if task.attempt_open:
        if task.state in states.ACTIVE:
            return task.state
        return states.RUNNING if attempt.get("podUID") else states.ASSIGNED
    outcome = str(attempt.get("outcome") or "")
    if outcome == states.COMPLETE and _is_gated(task, attempt):
        return states.GATING
    if outcome in states.TERMINAL - {states.FAILED}:
        return outcome
    allowed = {states.PENDING, states.CANCELLED, states.FAILED} if attempt else {states.PENDING, states.CANCELLED}
    if task.state in allowed:
        return task.state
    return states.FAILED if task.status().get("completionTime") else states.PENDING


def _is_gated(task: TaskView, attempt: Mapping[str, Any]) -> bool:
    own: Mapping[str, Any] = task.status().get("ownGates") or {}
    return own.get("attempt") == attempt.get("number") and not own.get("verdict")


def refuse(seen: Observed, implied: str) -> Decision:
    """Put the state back and say so."""
    edit = StatusEdit(seen.task, seen.now).set(state=implied)
    text = f"state {seen.task.state} does not follow from the task's attempts: it is {implied} again"
    return Decision(status=edit.patch(), notes=(Note("Warning", "IllegalTransition", text),))
