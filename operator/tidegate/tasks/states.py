"""The states of a task and the only ways between them. Pure."""

from __future__ import annotations

PENDING = "Pending"
ASSIGNED = "Assigned"
RUNNING = "Running"
GATING = "Gating"  # the newest attempt ended well; the task's own gates run on its commit
COMPLETE = "Complete"
PARTIAL = "Partial"
BLOCKED = "Blocked"
FAILED = "Failed"
CANCELLED = "Cancelled"

ACTIVE = frozenset({ASSIGNED, RUNNING})
TERMINAL = frozenset({COMPLETE, PARTIAL, BLOCKED, FAILED, CANCELLED})

# A Pod may be judged before anybody saw it run, so Assigned leads to every end. Back to Pending: another attempt.
_NEXT: dict[str, frozenset[str]] = {
    PENDING: frozenset({PENDING, ASSIGNED, CANCELLED}),
    ASSIGNED: frozenset({ASSIGNED, RUNNING, GATING, PENDING}) | TERMINAL,
    RUNNING: frozenset({RUNNING, GATING, PENDING}) | TERMINAL,
    GATING: frozenset({GATING, PENDING, COMPLETE, FAILED, CANCELLED}),
    **{state: frozenset({state}) for state in TERMINAL},
}


class IllegalTransitionError(ValueError):
    """A step that the state machine doesn't have; nothing is changed."""


def step(current: str, wanted: str) -> str:
    """The wanted state, if it may follow the current one; raises IllegalTransitionError."""
    if wanted not in _NEXT.get(current, frozenset()):
        raise IllegalTransitionError(f"a task can't go from {current} to {wanted}")
    return wanted
