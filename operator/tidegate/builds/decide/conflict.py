"""Changes that conflict for good: one Fixer task each, without cascade. Pure."""

from __future__ import annotations

from tidegate.builds.decide.world import Change, World


def resolvers(world: World) -> tuple[Change, ...]:
    """The changes for which a Fixer is to be made now: those that are in conflict and never had one, at most
    `merge.maxConflictFixTasks` over the whole build. A Fixer's own conflict is none of them."""
    if not world.lane.ready or world.problem is not None:
        return ()
    room = min(world.spec.max_conflict_fixes - world.tasks.resolvers, world.spec.max_tasks - world.tasks.total)
    return world.tasks.conflicts[: max(room, 0)]
