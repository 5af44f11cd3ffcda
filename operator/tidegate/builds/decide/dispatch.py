"""Slots: which are free again, and which tasks get one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tidegate.builds.decide.world import Slot, World

# A slot isn't taken from a task that starts again within this time: by then another leader may have started it.
RELEASE_MARGIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots as they should be. `granted` are new ones, in order."""

    held: tuple[str, ...]
    granted: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    fenced: tuple[str, ...] = ()  # of `released`: may start again, so that their slot is taken back with a fence

    @property
    def all(self) -> tuple[str, ...]:
        """The whole list for the status."""
        return self.held + self.granted


def is_free(slot: Slot, world: World) -> bool:
    """Whether the task can't be running and won't start by itself on this slot."""
    if slot.active:
        return False
    if slot.gone or slot.terminal or slot.gating:
        return True
    return slot.not_before is not None and slot.not_before > world.now + RELEASE_MARGIN


def slots(world: World, *, grant: bool) -> Slots:
    """Release what is free, then give slots to ready tasks in order, never above maxParallel."""
    held = tuple(slot.task for slot in world.tasks.slots if not is_free(slot, world))
    free = [slot for slot in world.tasks.slots if is_free(slot, world)]
    released = tuple(slot.task for slot in free)
    fenced = tuple(slot.task for slot in free if not (slot.gone or slot.terminal))
    room = world.spec.max_parallel - len(held) - world.tasks.stray
    if not grant or room <= 0:
        return Slots(held, (), released, fenced)
    taken = set(held)
    ready = [task for task in world.tasks.ready if task not in taken]
    return Slots(held, tuple(ready[:room]), released, fenced)
