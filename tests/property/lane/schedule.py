"""A seeded scheduler for the model: picks what moves next, and what goes wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from tests.property.lane.model import Steps, leader
from tests.property.lane.world import (
    DROPPED,
    FAST_FORWARD,
    KEEPS_SOURCE,
    LANDING,
    NEW_COMMIT,
    QUEUED,
    Job,
    Variant,
    Violation,
    World,
)

STEPS = 160
PEACE = 400  # steps in which recovery must have ended
STRATEGIES = (KEEPS_SOURCE, NEW_COMMIT, NEW_COMMIT, FAST_FORWARD)
STRETCH = 30  # steps with the same speeds


class Schedule:
    """One run of the world. Speeds change every stretch, so that a leader may stand still past its lease."""

    def __init__(self, seed: int, variant: Variant, *, blind: bool = False) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng, variant, blind=blind)
        self.next_bit = 0
        self._populate()
        self.leaders: list[Steps] = [leader(self.world, 0), leader(self.world, 1)]

    def _populate(self) -> None:
        world, rng = self.world, self.rng
        world.target = world.commit(0, 0)
        world.was_target = 1 << world.target
        for _ in range(rng.randrange(2, 5)):
            self.submit()
        changes = [job.change for job in world.jobs]
        if rng.random() < 0.3:
            world.bad.append(rng.choice(changes))
        if rng.random() < 0.4:
            world.bad.append(changes[0] | changes[1])
        if rng.random() < 0.3:
            world.bad.append(rng.choice(changes) | self._bit(60))

    def _bit(self, number: int | None = None) -> int:
        if number is None:
            number, self.next_bit = self.next_bit, self.next_bit + 1
        return 1 << number

    def submit(self) -> None:
        """A new job, forked from the present target; sometimes one more for a source that is there already."""
        world, rng = self.world, self.rng
        if world.jobs and rng.random() < 0.2:
            twin = rng.choice(world.jobs)
            source, change = twin.source, twin.change
        else:
            change = self._bit()
            source = world.commit(world.ancestors[world.target], world.content[world.target] | change)
        world.jobs.append(Job(len(world.jobs), source, change, STRATEGIES[int(rng.random() * 4)]))

    def _external(self) -> None:
        """A push by others: a change of their own, one that breaks a job's, a job's source, or a revert."""
        world, kind = self.world, self.rng.random()
        content = world.content[world.target]
        job = self.rng.choice(world.jobs)
        if kind < 0.35:
            world.external(content | self._bit())
        elif kind < 0.5:
            world.external(content | self._bit(60))
        elif kind < 0.65 and not world.red(job.source):
            world.external(content | job.change, job.source)
        elif kind < 0.8:
            world.external(content | job.change)
        elif content:
            world.external(content & ~job.change & ~self._bit(60))

    def _accident(self) -> None:
        world, rng, kind = self.world, self.rng, self.rng.random()
        if kind < 0.22:
            world.lease = 1 - world.lease
        elif kind < 0.38:
            number = int(rng.random() * 2)
            self.leaders[number] = leader(world, number)  # crash: its pushes go on by themselves
        elif kind < 0.54:
            open_jobs = [job for job in world.jobs if job.phase in (QUEUED, LANDING)]
            if open_jobs:
                world.cancel(rng.choice(open_jobs))
        elif kind < 0.68:
            self._external()
        elif kind < 0.78 and len(world.jobs) < 6:
            self.submit()
        else:
            self._network(0.75)

    def _network(self, arrives: float) -> None:
        """Something that still travels arrives, or never will."""
        world, rng = self.world, self.rng
        world.flying = [push for push in world.flying if not push.state]
        if world.flying:
            push = rng.choice(world.flying)
            if rng.random() < arrives:
                world.deliver(push)
                world.seen[f"arrived late: {push.state}"] += push.target is not None
            else:
                push.state = DROPPED

    def run(self) -> None:
        """Raises Violation."""
        rng, chance = self.rng, 0.5
        advance: tuple[Callable[[], None], ...] = ()
        for step in range(STEPS):
            if step % STRETCH == 0:
                chance = (0.02, 0.3, 0.5, 0.7, 0.98)[int(rng.random() * 5)]
                advance = (self.leaders[0].__next__, self.leaders[1].__next__)
            if rng.random() < 0.12:
                self._accident()
                advance = (self.leaders[0].__next__, self.leaders[1].__next__)
            else:
                advance[rng.random() < chance]()
        self._recover()

    def _recover(self) -> None:
        """No more accidents but what still travels: one leader stays, the other dies or goes on as a zombie."""
        world, rng = self.world, self.rng
        world.calm, zombie = True, rng.random() < 0.5
        survivor = world.lease
        for step in range(PEACE):
            if zombie and rng.random() < 0.3:
                next(self.leaders[1 - survivor])
            else:
                next(self.leaders[survivor])
            if world.flying and rng.random() < 0.1:
                self._network(0.9)
            if step % 20 == 0 and not any(job.phase in (QUEUED, LANDING) for job in world.jobs):
                break
        for push in world.flying:
            world.deliver(push)
        world.check_end()


def violation(seed: int, variant: Variant = Variant.FULL, *, blind: bool = False, seen: Counter[str] | None = None
              ) -> str:  # fmt: skip
    """What one schedule breaks, empty when nothing. `seen` counts what happened in it."""
    schedule = Schedule(seed, variant, blind=blind)
    try:
        schedule.run()
    except Violation as found:
        return str(found)
    if seen is not None:
        seen.update(schedule.world.seen)
    return ""


def first_violation(variant: Variant, seeds: range, *, blind: bool = False) -> tuple[int, str] | None:
    """The first schedule that breaks something, with what it breaks."""
    for seed in seeds:
        found = violation(seed, variant, blind=blind)
        if found:
            return seed, found
    return None
