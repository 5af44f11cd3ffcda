"""Sweeps: when the head is checked, what the result means, and which Fixers a red one asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tidegate.api import reasons
from tidegate.builds.decide.world import GateResult, Sweep, World

PASSED = "Passed"
FAILED = "Failed"
INFRA = "Infra"

# One category a sweep: markers, build, compile, lint, then tests and all else.
_CATEGORIES: tuple[tuple[str, ...], ...] = (
    ("marker", "conflict"),
    ("build",),
    ("compile", "typecheck", "types", "mypy", "tsc", "pyright"),
    ("lint", "format", "ruff", "style"),
)


@dataclass(frozen=True, slots=True)
class Fix:
    """A Fixer task to be made for a failed gate."""

    sweep: int
    result: GateResult


@dataclass(frozen=True, slots=True)
class SweepStep:
    """What a sweep does now. `start` is its number, 0 for none; `outcome` is Green, Red, Stale, Infra, TimedOut or
    empty while nothing was decided."""

    sweep: Sweep
    start: int = 0
    outcome: str = ""
    condition: tuple[str, str, str] | None = None  # SweepGreen: status, reason, message

    @property
    def given_up(self) -> bool:
        """Whether runs that have not ended are of no use."""
        return self.outcome in ("Stale", "TimedOut")


def category(gate: str) -> int:
    """The rank of a gate's kind by its name: lower ones are mended first."""
    low = gate.lower()
    for rank, words in enumerate(_CATEGORIES):
        if any(word in low for word in words):
            return rank
    return len(_CATEGORIES)


def judge(world: World) -> SweepStep:
    """Take in the running sweep when all its gates have a verdict; what an old head gives counts for nothing, and isn't
    waited for."""
    sweep, runs = world.sweep, world.sweep.runs
    if not runs:
        return SweepStep(sweep)
    number, commit = runs[0].number, runs[0].commit
    if any(run.commit != world.lane.head for run in runs):
        # as if it had not been; but the next one waits its time, else sweeps hold the lane's slots while changes land
        return SweepStep(replace(sweep, number=number, runs=(), time=world.now), outcome="Stale")
    if any(not run.verdict for run in runs) or len(runs) < len(sweep.gates):
        return SweepStep(sweep)
    failed = tuple(sorted(run.gate for run in runs if run.verdict == FAILED))
    if not failed and any(run.verdict == INFRA for run in runs):
        names = ", ".join(run.gate for run in runs if run.verdict == INFRA)
        judged = replace(sweep, number=number, runs=(), time=world.now, commit="", green=False, failed=())
        return SweepStep(judged, outcome="Infra", condition=("Unknown", reasons.INFRA, f"no verdict for {names}"))
    green = not failed
    judged = replace(
        sweep, number=number, runs=(), time=world.now, commit=commit, green=green, failed=failed,
        greens=sweep.greens + 1 if green else 0, red_time=sweep.red_time if green else world.now,
    )  # fmt: skip
    if green:
        gates = ", ".join(run.gate for run in runs)
        return SweepStep(judged, outcome="Green", condition=("True", reasons.AS_EXPECTED, f"{commit[:12]}: {gates}"))
    message = f"{commit[:12]}: {', '.join(failed)} failed"
    return SweepStep(judged, outcome="Red", condition=("False", reasons.GATES_FAILED, message))


def is_relaxed(world: World) -> bool:
    """Whether sweeps come at the longer interval."""
    return world.sweep.red_time is None or world.sweep.greens >= world.spec.sweep.greens_to_relax


def due(world: World) -> datetime | None:
    """When the next periodic sweep may start; None while there is nothing to check."""
    since = world.sweep.time or world.start_time
    if since is None or not world.lane.head or world.planning.iteration == 0 or not world.sweep.gates:
        return None
    if world.lane.red and world.sweep.commit != world.lane.head:
        return since  # changes wait for a Fixer
    policy = world.spec.sweep
    relaxed = is_relaxed(world)
    if relaxed and world.sweep.commit == world.lane.head:
        return None  # checked already
    return since + timedelta(seconds=policy.interval if relaxed else policy.error_interval)


def periodic(world: World) -> SweepStep:
    """Judge the running sweep, or start the next while work goes on that isn't Fixers' (those would keep it going), or
    changes wait in the queue, perhaps for a head that is green again."""
    step = judge(world)
    if step.outcome or world.sweep.runs:
        return step
    when = due(world)
    if when is None or world.now < when or not is_needed(world):
        return step
    return replace(step, start=world.sweep.number + 1)


def is_needed(world: World) -> bool:
    """Whether periodic sweeps go on: finalization has its own."""
    tasks = world.tasks
    waiting = tasks.jobs_open and not tasks.fixing
    return bool(tasks.running_others or waiting) and not world.finalization.attempts


def unfinished_start(world: World) -> int:
    """The number of a sweep of which some GateRuns are still to be made (after a crash between two of them), else 0."""
    runs = world.sweep.runs
    return runs[0].number if runs and len(runs) < len(world.sweep.gates) else 0


def fixes(world: World, runs: tuple[GateResult, ...], number: int) -> tuple[Fix, ...]:
    """Fixers for a red sweep: of its first category alone, none for a gate that is being mended. At most maxFixTasks,
    and over all sweeps that many for each of finalization's attempts: a head that stays red ends."""
    failed = sorted((run for run in runs if run.verdict == FAILED), key=lambda run: (category(run.gate), run.gate))
    if not failed:
        return ()
    first = [run for run in failed if category(run.gate) == category(failed[0].gate)]
    most = world.spec.sweep.max_fix_tasks
    in_all = most * world.spec.finalization.max_attempts
    room = min(most, in_all - world.tasks.fixers, world.spec.max_tasks - world.tasks.total)
    wanted = [Fix(number, run) for run in first if run.gate not in world.tasks.fixing]
    return tuple(wanted[: max(room, 0)])
