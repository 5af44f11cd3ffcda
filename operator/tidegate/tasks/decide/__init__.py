"""The decision about a task: a pure function of what was observed."""

from __future__ import annotations

from tidegate.tasks import states
from tidegate.tasks.decide.active import active
from tidegate.tasks.decide.finished import finished
from tidegate.tasks.decide.gating import gating
from tidegate.tasks.decide.pending import pending
from tidegate.tasks.decide.refuse import implied_state, refuse
from tidegate.tasks.model import NOTHING, Decision, Observed

__all__ = ["decide"]


def decide(seen: Observed) -> Decision:
    """What to do for the task now. The same observation always gives the same decision."""
    if seen.task.meta.deleting:
        return NOTHING  # its Pods go with it, by owner reference
    implied = implied_state(seen.task)
    if implied != seen.task.state:
        return refuse(seen, implied)
    if seen.task.attempt_open:
        return active(seen)
    if seen.task.state in states.TERMINAL:
        return finished(seen)
    if seen.task.state == states.GATING:
        return gating(seen)
    return pending(seen)
