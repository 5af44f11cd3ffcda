"""The landing protocol, small: what a leader does, step by step.

A leader is a generator that yields between any two steps; whoever drives it may stop it there, for a while or for good.
"""

from __future__ import annotations

from collections.abc import Generator

from tests.property.lane.world import (
    CANCELLED,
    DONE,
    FAILED,
    GATE_FAILED,
    INFRA,
    LANDED,
    LANDING,
    MERGED,
    PASSED,
    QUEUED,
    REFUSED,
    UNKNOWN,
    Group,
    Held,
    Job,
    Push,
    Variant,
    World,
)

Steps = Generator[None, None, None]


def leader(world: World, me: int) -> Steps:
    """One replica: waits for the Lease, takes the lane, settles what it finds, works."""
    while True:
        if world.lease != me:
            yield
            continue
        held = yield from _take(world)
        while held is not None:
            held = yield from _round(world, me, held)


def _send(world: World, push: Push) -> Generator[None, None, str]:
    """Push, and wait for an answer that may not come. Returns what the client knows."""
    world.flying.append(push)
    rng = world.rng
    while True:
        yield
        chance = 1.0 if world.calm else rng.random()
        if push.state:
            answer = UNKNOWN if chance < 0.12 else push.state
            break
        if chance < 0.2:
            answer = UNKNOWN
            break
        if chance > 0.5:
            world.deliver(push)
    world.seen[f"unknown, really {push.state or 'under way'}"] += answer == UNKNOWN and push.target is not None
    return answer


def _take(world: World) -> Generator[None, None, Held | None]:
    if world.variant is Variant.NO_LEDGER:
        yield
        world.generation += 1
        return _held(world, 0, world.generation)
    seen = world.ledger
    yield
    push = Push((seen, world.entry(seen)))
    answer = yield from _send(world, push)
    if answer != DONE or push.ledger is None:
        return None
    return _held(world, push.ledger[1], push.generation or world.generation)


def _held(world: World, value: int, generation: int) -> Held:
    entry = world.entries[value]
    return Held(value, generation, entry.chain, entry.landed, entry.sources)


def _landed(world: World, held: Held, job: Job) -> bool:
    """Whether a job with an intent has landed, as this variant tells it."""
    if world.variant in (Variant.NO_LEDGER, Variant.LEDGER_NOT_MOVED):
        return world.contains(world.target, job.intent[0])
    if world.variant is Variant.CONTAINMENT:
        return world.contains(world.target, job.source)
    return job.uid in held.landed


def _source_landed(world: World, held: Held, job: Job) -> bool:
    if world.variant in (Variant.NO_LEDGER, Variant.LEDGER_NOT_MOVED):
        return job.source in world.landed_sources  # so that only the fence is missing
    if world.variant is Variant.CONTAINMENT:
        return world.contains(world.target, job.source)
    return job.source in held.sources


def _settle(world: World, held: Held) -> Steps:
    """Decide intents that can't land any more: those on a value that lies behind us in the chain."""
    for job in world.jobs:
        behind = job.intent[2] in held.chain or world.variant is Variant.SETTLE_ANY
        if job.phase != LANDING or not behind:
            continue
        version, cancel = job.version, job.cancel
        landed = _landed(world, held, job)
        yield
        if landed:
            world.patch(job, version, MERGED, reason=LANDED)
        else:
            world.patch(job, version, CANCELLED if cancel else QUEUED)


def _round(world: World, me: int, held: Held) -> Generator[None, None, Held | None]:
    """One pass; the lane as it is held afterwards, None when it must be taken again."""
    yield from _settle(world, held)
    yield
    head = world.target
    if world.ledger != held.value and world.variant is not Variant.NO_LEDGER:
        return None
    if world.lease != me:
        return None
    group, tip = yield from _form_group(world, held, head)
    if not group:
        return held
    jobs = tuple(job for job, _ in group)
    if not (yield from _gate(world, jobs, tip)):
        if world.evidence[_evidence_key(world, jobs, tip)].count(GATE_FAILED) < 2:
            return held
        if len(jobs) > 1:
            held.group = 1
        elif not world.red(head):
            yield
            world.patch(jobs[0], group[0][1], FAILED, intent=(tip, head, 0))
        return held
    held.group = 2
    return (yield from _land(world, held, group, head, tip))


def _form_group(world: World, held: Held, head: int) -> Generator[None, None, tuple[Group, int]]:
    """Jobs with their versions as read, and the cumulative candidate; ends what needs no landing."""
    group: Group = []
    tip, sources = head, set[int]()
    for job, version, cancel in [(job, job.version, job.cancel) for job in world.jobs if job.phase == QUEUED]:
        if cancel:
            yield
            world.patch(job, version, CANCELLED)
        elif _source_landed(world, held, job):
            yield
            world.patch(job, version, MERGED, reason=LANDED)
        elif job.source not in sources and len(group) < held.group:
            found = world.form(tip, job)
            if isinstance(found, int):
                tip = found
                group.append((job, version))
                sources.add(job.source)
            elif tip == head:
                yield
                world.patch(job, version, MERGED, reason=found)
    yield
    return group, tip


def _evidence_key(world: World, jobs: tuple[Job, ...], tip: int) -> object:
    return tuple(job.uid for job in jobs) if world.variant is Variant.EVIDENCE_PER_JOB else tip


def _gate(world: World, jobs: tuple[Job, ...], tip: int) -> Generator[None, None, bool]:
    """Run the gates on a candidate, a failed one once more; whether they passed."""
    runs = world.evidence.setdefault(_evidence_key(world, jobs, tip), [])
    while PASSED not in runs and runs.count(GATE_FAILED) < 2:
        yield
        chance = world.rng.random()
        verdict = GATE_FAILED if world.red(tip) or chance < world.flake else PASSED
        runs.append(INFRA if chance > 0.97 else verdict)
        if runs is not world.evidence.get(tip):
            world.evidence.setdefault(tip, []).append(runs[-1])
    return PASSED in runs


def _land(world: World, held: Held, group: Group, head: int, tip: int) -> Generator[None, None, Held | None]:
    """L2 to L5."""
    jobs = tuple(job for job, _ in group)
    if world.variant is not Variant.NO_INTENT:
        written: Group = []
        for job, version in group:
            yield
            new = world.patch(job, version, LANDING, intent=(tip, head, held.value))
            if not new:
                for one, at in written:
                    yield
                    world.patch(one, at, QUEUED)
                return held
            written.append((job, new))
    if world.variant is Variant.ACK_BEFORE_PUSH:
        for job in jobs:
            yield
            world.patch(job, job.version, MERGED, reason=LANDED)
    if world.variant is Variant.RE_MERGE and world.target != head:
        head = world.target
        yield
        tip = head
        for job in jobs:
            found = world.form(tip, job)
            tip = found if isinstance(found, int) else tip
    return (yield from _push_landing(world, held, jobs, head, tip))


def _push_landing(
    world: World, held: Held, jobs: tuple[Job, ...], head: int, tip: int
) -> Generator[None, None, Held | None]:
    variant = world.variant
    push = Push((held.value, world.entry(held.value, jobs)), (head, tip), jobs, head, held.generation)
    push.forced = variant is Variant.NO_CAS
    if variant in (Variant.NO_LEDGER, Variant.LEDGER_NOT_MOVED):
        if variant is Variant.LEDGER_NOT_MOVED and world.ledger != held.value:
            return None
        push.ledger = None
    answer = yield from _send(world, push)
    if answer == UNKNOWN and variant is not Variant.RE_READ:
        return None
    yield
    ledger = world.ledger
    if push.ledger is None or (answer == REFUSED and ledger == held.value):
        return held
    if answer == DONE or (answer == UNKNOWN and ledger == push.ledger[1]):
        return _held(world, push.ledger[1], held.generation)
    return held if ledger == held.value else None
