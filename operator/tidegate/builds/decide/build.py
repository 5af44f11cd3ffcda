"""The decision for a build: one round, from its world alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidegate.api import reasons
from tidegate.builds.decide import lifecycle
from tidegate.builds.decide.conflict import resolvers
from tidegate.builds.decide.decision import Condition, Decision, StatusUpdate
from tidegate.builds.decide.dispatch import Slots, slots
from tidegate.builds.decide.finalize import FinalStep, Verdict, finalize
from tidegate.builds.decide.planning import PlanStep, plan
from tidegate.builds.decide.sweep import Fix, SweepStep, due, fixes, is_needed, periodic, unfinished_start
from tidegate.builds.decide.world import Change, World

HELD_AGAIN = 30.0  # seconds between two looks at what a person must change first
LONGEST_SLEEP = 300.0
BEHIND_AGAIN = 1.0


def decide(world: World, mergeable: tuple[Change, ...] = ()) -> Decision:
    """What to do now. `mergeable`: every unmerged change that could be queued again, needed only at the end."""
    if world.deleting:
        return lifecycle.delete(world)
    if world.finalized:
        return lifecycle.after(world)
    if not world.finalizer:
        return Decision(add_finalizer=True)
    if world.spec.cancelled:
        return lifecycle.cancel(world)
    return _active(world, mergeable)


def _active(world: World, mergeable: tuple[Change, ...]) -> Decision:
    step = plan(world)
    able = world.lane.ready and world.problem is None
    held = slots(world, grant=able)
    resolve = resolvers(world)
    if able and not resolve and not world.lane.behind and is_over(world, step, held):
        return _ending(world, step, held, finalize(world, step, mergeable))
    sweep = periodic(world) if able and not world.lane.behind else SweepStep(world.sweep)
    wanted = fixes(world, world.sweep.runs, sweep.sweep.number) if sweep.outcome == "Red" else ()
    update = StatusUpdate(
        slots=held.all,
        planning=step.planning,
        sweep=sweep.sweep,
        finalization=world.finalization,
        conditions=(*_conditions(world, step), *_sweep_condition(world, sweep)),
        dropped=() if _stalled(world) else (reasons.STALLED,),
        swept=sweep.outcome,
    )
    return Decision(
        make_lane=not world.lane.uid,
        fence=held.fenced,
        adopt=world.adoptable,
        tasks=step.tasks,
        iteration=step.iteration,
        planner=step.planner,
        fixes=wanted,
        resolve=resolve,
        drop_sweep=sweep.given_up,
        start_sweep=sweep.start or unfinished_start(world),
        status=update,
        events=(*_plan_events(step), *_sweep_events(sweep, wanted)),
        again=_again(world),
    )


def is_over(world: World, step: PlanStep, held: Slots) -> bool:
    """Whether only finalization is left: the plan is complete and nothing can move by itself. Tasks whose dependencies
    can't be met any more are still Pending then; they hold nothing up, since only a task of this build, one of its
    merge jobs, or a living task elsewhere could have met them."""
    idle = world.tasks.quiescent and not held.granted and not world.adoptable
    return idle and step.planning.complete and not step.tasks and step.planner is None


def _ending(world: World, step: PlanStep, held: Slots, final: FinalStep) -> Decision:
    conditions = [*_conditions(world, step), *_sweep_condition(world, final.sweep)]
    dropped: tuple[str, ...] = (reasons.STALLED,)
    events = [*_plan_events(step), *_sweep_events(final.sweep, final.fixes)]
    if final.began:
        events.append(("Normal", reasons.FINALIZING, "no task can start any more: drain, retry, sweep, verdict"))
    if final.verdict is not None:
        conditions, dropped = _with_verdict(conditions, final.verdict)
        kind = "Normal" if final.verdict.passed else "Warning"
        events.append((kind, final.verdict.reason, final.verdict.message))
    update = StatusUpdate(
        slots=held.all,
        planning=step.planning,
        sweep=final.sweep.sweep,
        finalization=final.finalization,
        conditions=tuple(conditions),
        dropped=dropped,
        verdict=final.verdict,
        swept=final.sweep.outcome,
    )
    return Decision(
        fence=held.fenced,
        fixes=final.fixes,
        requeue=final.requeue,
        drop_sweep=final.sweep.given_up,
        start_sweep=final.sweep.start or unfinished_start(world),
        status=update,
        events=tuple(events),
        again=_again(world),
    )


def _with_verdict(conditions: list[Condition], verdict: Verdict) -> tuple[list[Condition], tuple[str, ...]]:
    """Conditions of the end; for kstatus a build that didn't pass is Stalled, which means failed there."""
    names = {reasons.FINALIZED, reasons.SUCCEEDED, reasons.RECONCILING}
    kept = [condition for condition in conditions if condition[0] not in names]
    kept += lifecycle.ending(verdict)
    if verdict.passed:
        return kept, (reasons.RECONCILING, reasons.STALLED)
    return [*kept, (reasons.STALLED, "True", verdict.reason, verdict.message)], (reasons.RECONCILING,)


def _conditions(world: World, step: PlanStep) -> tuple[Condition, ...]:
    tasks = world.tasks
    ended = tasks.total - tasks.unfinished
    words = f"{ended} of {tasks.total} tasks ended, {tasks.jobs_merged} changes merged"
    complete = step.planning.complete and not tasks.unfinished and not step.tasks and step.planner is None
    drained = not tasks.jobs_open and not tasks.unsettled
    queue = f"{tasks.jobs_open} merge jobs open, {tasks.jobs_merged} merged, {tasks.jobs_failed} failed"
    if world.lane.frozen:
        queue += f"; lane {world.lane.name} is frozen: {world.lane.frozen}"
    stuck = f"; {tasks.waiting} wait for dependencies" if tasks.waiting else ""
    stalled = _stalled(world)
    return (
        (reasons.PLANNED, *_planned(world, step)),
        (
            reasons.TASKS_COMPLETE,
            "True" if complete else "False",
            reasons.AS_EXPECTED if complete else reasons.PROGRESSING,
            words + stuck,
        ),
        (
            reasons.MERGE_QUEUE_DRAINED,
            "True" if drained else "False",
            reasons.AS_EXPECTED if drained else reasons.PROGRESSING,
            queue,
        ),
        (reasons.FINALIZED, "False", reasons.PROGRESSING, words),
        (reasons.SUCCEEDED, "Unknown", reasons.PROGRESSING, words),
        (reasons.RECONCILING, "True", reasons.PROGRESSING, words),
        *(((reasons.STALLED, "True", *stalled),) if stalled else ()),
    )


def _planned(world: World, step: PlanStep) -> tuple[str, str, str]:
    failed = step.failed or world.planned
    if failed is not None:
        return ("False", *failed)
    if step.planner is not None and step.planner.refused:
        return ("False", reasons.PLAN_INVALID, f"plan refused, asking again: {step.planner.refused}")
    if step.planning.iteration:
        more = "" if step.planning.complete else ", more may come"
        return ("True", reasons.PLAN_APPLIED, f"plan {step.planning.iteration} applied{more}")
    if len(step.planning.runs) > 1:
        return ("False", reasons.PLAN_INVALID, f"plan refused, {step.planning.runs[-1].task} was asked again")
    return ("Unknown", reasons.PLANNING, "no plan applied yet")


def _stalled(world: World) -> tuple[str, str] | None:
    if world.problem is not None:
        return world.problem
    if world.lane.stalled is not None:
        return (world.lane.stalled[0], f"lane {world.lane.name}: {world.lane.stalled[1]}")
    if world.tasks.stalled is not None and not (world.tasks.active or world.tasks.jobs_open):
        task, reason, message = world.tasks.stalled
        return (reason, f"task {task}: {message}")
    return None


def _sweep_condition(world: World, sweep: SweepStep) -> tuple[Condition, ...]:
    if sweep.condition is not None:
        return ((reasons.SWEEP_GREEN, *sweep.condition),)
    if world.sweep_condition is None:
        return ((reasons.SWEEP_GREEN, "Unknown", reasons.PROGRESSING, "not swept yet"),)
    return ()


def _plan_events(step: PlanStep) -> list[tuple[str, str, str]]:
    if step.failed is not None:
        return [("Warning", *step.failed)]
    if step.applied:
        return [("Normal", reasons.PLAN_APPLIED, f"plan {step.planning.iteration} applied")]
    if step.planner is not None and step.planner.refused:
        return [("Warning", reasons.PLAN_INVALID, step.planner.refused)]
    return []


def _sweep_events(sweep: SweepStep, wanted: tuple[Fix, ...]) -> list[tuple[str, str, str]]:
    if sweep.outcome not in ("Red", "TimedOut") or sweep.condition is None:
        return []
    fixers = f"; {len(wanted)} Fixer tasks" if wanted else ""
    return [("Warning", reasons.SWEEP_RED, sweep.condition[2] + fixers)]


def _again(world: World) -> float:
    if world.problem is not None:
        return HELD_AGAIN
    if world.lane.behind:
        return BEHIND_AGAIN
    times: list[datetime] = [t for t in (world.tasks.next_due, _next_release(world)) if t is not None]
    if is_needed(world) and not world.sweep.runs:
        sweep = due(world)
        times += [sweep] if sweep is not None else []
    if world.finalization.sweep_start is not None:
        times.append(world.now + timedelta(seconds=HELD_AGAIN))
    seconds = min(((t - world.now).total_seconds() for t in times), default=LONGEST_SLEEP)
    return min(max(seconds, 0.5), LONGEST_SLEEP)


def _next_release(world: World) -> datetime | None:
    starts = (slot.not_before for slot in world.tasks.slots if slot.not_before is not None and not slot.active)
    return min((start for start in starts if start > world.now), default=None)
