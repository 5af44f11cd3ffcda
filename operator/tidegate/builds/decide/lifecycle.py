"""Cancel, delete, and what happens after the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tidegate.api import reasons
from tidegate.builds.decide.decision import Condition, Decision, StatusUpdate
from tidegate.builds.decide.dispatch import slots
from tidegate.builds.decide.finalize import Verdict
from tidegate.builds.decide.world import World

DELETION_LIMIT = timedelta(seconds=300)
LOOK_AGAIN = 5.0  # seconds


def is_still(world: World) -> bool:
    """Whether no Pod of the build may run and nothing of it is queued. Of a build that is being deleted nothing more
    comes into the queue."""
    tasks = world.tasks
    open_work = tasks.unfinished or tasks.jobs_open or tasks.stray or (tasks.unsettled and not world.deleting)
    return not open_work and not any(slot.active for slot in tasks.slots)


def cancel(world: World) -> Decision:
    """Have everything end; the build ends when all have answered."""
    held = slots(world, grant=False)
    update = StatusUpdate(held.all, world.planning, world.sweep, world.finalization)
    tasks = world.tasks
    if is_still(world):
        message = f"cancelled; {tasks.jobs_merged} changes had merged, {tasks.changes_total} are unmerged"
        verdict = Verdict(False, reasons.CANCELLED, message)
        ended = replace(
            update,
            slots=(),
            verdict=verdict,
            conditions=ending(verdict),
            dropped=(reasons.RECONCILING, reasons.STALLED),
        )
        return Decision(drop_sweep=True, status=ended, events=(("Normal", reasons.CANCELLED, message),))
    waiting = f"waiting for {tasks.unfinished} tasks and {tasks.jobs_open} merge jobs to end"
    conditions: tuple[Condition, ...] = (
        (reasons.RECONCILING, "True", reasons.CANCELLED, waiting),
        (reasons.FINALIZED, "False", reasons.CANCELLED, waiting),
        (reasons.SUCCEEDED, "Unknown", reasons.CANCELLED, waiting),
    )
    update = replace(update, conditions=conditions, dropped=(reasons.STALLED,))
    return Decision(fence=held.fenced, cancel=True, drop_sweep=True, status=update, again=LOOK_AGAIN)


def ending(verdict: Verdict) -> tuple[Condition, ...]:
    """The conditions of a build that has ended."""
    succeeded = "True" if verdict.passed else "False"
    return (
        (reasons.FINALIZED, "True", verdict.reason, verdict.message),
        (reasons.SUCCEEDED, succeeded, verdict.reason, verdict.message),
    )


def delete(world: World) -> Decision:
    """Stop the Pods, delete own refs, let the object go; after DELETION_LIMIT it goes in any case."""
    if not world.finalizer:
        return Decision()
    since = world.deletion_time or world.now
    late = world.now - since >= DELETION_LIMIT
    if is_still(world):
        return Decision(drop_sweep=True, delete_refs=True, remove_finalizer=True)
    if late:
        note = (
            f"deleted without waiting longer for {world.tasks.unfinished} tasks and {world.tasks.jobs_open} merge jobs"
        )
        return Decision(
            drop_sweep=True, delete_refs=True, remove_finalizer=True, events=(("Warning", reasons.DELETED, note),)
        )
    return Decision(cancel=True, drop_sweep=True, again=LOOK_AGAIN)


def after(world: World) -> Decision:
    """A finished build: nothing restarts it; its children go when their time is over."""
    if world.spec.ttl is None or world.completion_time is None:
        return Decision()
    left = (world.completion_time + timedelta(seconds=world.spec.ttl) - world.now).total_seconds()
    if left > 0:
        return Decision(again=left)
    has_children = bool(
        world.tasks.total or world.tasks.jobs_open or world.tasks.jobs_merged or world.tasks.jobs_failed
    )
    return Decision(purge=has_children, delete_build=world.spec.delete_after)
