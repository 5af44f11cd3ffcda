"""The end of a build: drain, queue unmerged work again, sweep, verdict. Bounded, and never silently green."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.api import reasons
from tidegate.builds.decide.planning import PlanStep
from tidegate.builds.decide.sweep import Fix, SweepStep, fixes, judge
from tidegate.builds.decide.world import MAX_NAMED, Change, Finalization, GateResult, Sweep, World

# A job that failed for one of these may do better on the same head.
INFRA_PAUSE = 20.0  # seconds until a sweep that the cluster ended is run again
_PASSING = frozenset({reasons.INFRA, reasons.STARVED, reasons.RUNAWAY, reasons.REMOTE_UNREACHABLE, reasons.HELD})
# ... and one that ended so never can.
_FINAL = frozenset({reasons.CANCELLED, reasons.SOURCE_MISSING, reasons.DELETED, reasons.APPROVAL_DENIED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the build ended."""

    passed: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class FinalStep:
    """What finalization does now."""

    finalization: Finalization
    sweep: SweepStep
    requeue: tuple[tuple[Change, int], ...] = ()  # with the number of the re-queue
    fixes: tuple[Fix, ...] = ()
    verdict: Verdict | None = None
    began: bool = False


def finalize(world: World, plan: PlanStep, mergeable: tuple[Change, ...]) -> FinalStep:
    """The next step of a build whose plan is complete and in which nothing moves by itself any more."""
    final = world.finalization
    if not world.spec.finalization.enabled:
        step = SweepStep(world.sweep)
        return FinalStep(final, step, verdict=verdict(world, plan, world.sweep, ""))
    began = final.attempts == 0
    if began:
        final = Finalization(attempts=1, sweep_start=None)
    again = requeue(world, mergeable, final.attempts)
    if again:
        return FinalStep(final, SweepStep(world.sweep), requeue=again, began=began)
    step, final = _sweep(world, final)
    if not final.sweep:
        return FinalStep(final, step, began=began)
    return replace(_conclude(world, plan, mergeable, step, final), began=began)


def requeue(world: World, mergeable: tuple[Change, ...], attempt: int) -> tuple[tuple[Change, int], ...]:
    """The changes that attempt queues again: each once, and only where another outcome is possible."""
    return tuple(
        (change, attempt) for change in mergeable if change.requeued < attempt and can_change(change, world.lane.head)
    )


def can_change(change: Change, head: str) -> bool:
    """Whether queueing a change again can end otherwise than the last time."""
    if change.reason in _FINAL:
        return False
    return change.reason in _PASSING or not change.tried_on or change.tried_on != head


def _sweep(world: World, final: Finalization) -> tuple[SweepStep, Finalization]:
    """This attempt's sweep of the head as it is now: one that was green on it counts, else a new one runs."""
    head, sweep = world.lane.head, world.sweep
    if not head:
        return SweepStep(sweep), replace(final, sweep=0)
    if not sweep.gates and not sweep.runs:
        none = ("True", reasons.AS_EXPECTED, "no gate is configured: nothing was checked")
        checked = replace(sweep, commit=head, green=True, time=world.now, failed=())
        return SweepStep(checked, condition=none, outcome="Green"), replace(final, sweep=max(sweep.number, 1))
    if final.sweep and sweep.commit == head:
        return SweepStep(sweep), final
    if sweep.green and sweep.commit == head and not sweep.runs:
        return SweepStep(sweep), replace(final, sweep=sweep.number)
    final = replace(final, sweep=0, sweep_start=final.sweep_start or world.now)
    step = judge(world)
    if step.outcome in ("Green", "Red"):
        return step, replace(final, sweep=step.sweep.number, sweep_start=None)
    if _timed_out(world, final):
        message = f"no verdict on {head[:12]} within the gates' time and {world.spec.finalization.sweep_timeout} s"
        number = sweep.number + 1 if sweep.runs else max(step.sweep.number, 1)
        judged = replace(
            sweep,
            number=number,
            runs=(),
            commit=head,
            green=False,
            failed=(),
            time=world.now,
            greens=0,
            red_time=world.now,
        )
        late = SweepStep(judged, outcome="TimedOut", condition=("False", reasons.SWEEP_TIMED_OUT, message))
        return late, replace(final, sweep=number, sweep_start=None)
    if sweep.runs and not step.outcome:
        return step, final
    if step.outcome == "Infra" or _ended_by_cluster_lately(world):
        return step, final  # else a cluster that refuses every Pod would be asked without a pause
    return replace(step, start=step.sweep.number + 1), final


def _ended_by_cluster_lately(world: World) -> bool:
    sweep = world.sweep
    infra = sweep.time is not None and not sweep.commit and not sweep.runs
    return infra and sweep.time is not None and (world.now - sweep.time).total_seconds() < INFRA_PAUSE


def _timed_out(world: World, final: Finalization) -> bool:
    if final.sweep_start is None:
        return False
    gates = sum(int(gate.get("timeoutSeconds") or 600) for gate in world.sweep.gates)
    limit = timedelta(seconds=gates + world.spec.finalization.sweep_timeout)
    return world.now - final.sweep_start > limit


def _conclude(
    world: World, plan: PlanStep, mergeable: tuple[Change, ...], step: SweepStep, final: Finalization
) -> FinalStep:
    """With this attempt's sweep known: the verdict, or another attempt when something can still change."""
    judged = verdict(world, plan, step.sweep, _sweep_words(world, step))
    if judged.passed or final.attempts >= world.spec.finalization.max_attempts or is_hopeless(world, plan):
        return FinalStep(final, step, verdict=judged)
    following = Finalization(attempts=final.attempts + 1)
    wanted = () if step.sweep.green else fixes(world, failed_runs(world, step), step.sweep.number)
    if wanted:
        return FinalStep(following, step, fixes=wanted)
    if requeue(world, mergeable, following.attempts) or step.outcome == "TimedOut":
        return FinalStep(following, step)
    return FinalStep(final, step, verdict=judged)


def failed_runs(world: World, step: SweepStep) -> tuple[GateResult, ...]:
    """The results that the step was judged from."""
    return world.sweep.runs if step.outcome == "Red" else ()


def is_hopeless(world: World, plan: PlanStep) -> bool:
    """Whether the build can't pass any more, whatever is merged or mended."""
    return bool(world.tasks.ended_badly_total or plan.failed or world.planned)


def verdict(world: World, plan: PlanStep, sweep: Sweep, words: str) -> Verdict:
    """Passed only if every change is merged, no task ended otherwise than well, none was left out, and the sweep of the
    head is green (where finalization sweeps at all). Else Exhausted, naming what is in the way."""
    found = [*_plan_faults(world, plan), *_task_faults(world)]
    if world.spec.finalization.enabled and not (sweep.green and sweep.commit == world.lane.head):
        found.append(words or f"sweep of {world.lane.head[:12]} is not green")
    if found:
        return Verdict(False, reasons.EXHAUSTED, "; ".join(found))
    return Verdict(True, reasons.PASSED, _passed_words(world, sweep))


def _plan_faults(world: World, plan: PlanStep) -> list[str]:
    failed = plan.failed or world.planned
    return [f"{failed[0]}: {failed[1]}"] if failed else []


def _task_faults(world: World) -> list[str]:
    tasks, found = world.tasks, []
    if tasks.ended_badly_total:
        found.append(_list(tasks.ended_badly, tasks.ended_badly_total, "ended badly"))
    if tasks.waiting:
        found.append(_list(tasks.never_started, tasks.waiting, "never started, a dependency is not met"))
    blocking = [change for change in tasks.changes if not change.superseded and change.state == "Complete"]
    if blocking:
        named = tuple(f"{change.task} ({change.reason})" for change in blocking[:MAX_NAMED])
        found.append(_list(named, max(len(blocking), tasks.changes_blocking), "unmerged"))
    elif tasks.changes_blocking:
        found.append(f"{tasks.changes_blocking} unmerged")
    return found


def _list(named: tuple[str, ...], total: int, what: str) -> str:
    more = f" and {total - len(named)} more" if total > len(named) else ""
    return f"{total} {what}: {', '.join(named)}{more}"


def _sweep_words(world: World, step: SweepStep) -> str:
    if step.condition is not None:
        return f"sweep: {step.condition[2]}"
    if step.sweep.failed:
        return f"sweep of {step.sweep.commit[:12]}: {', '.join(step.sweep.failed)} failed"
    return f"sweep of {world.lane.head[:12]} is not green"


def _passed_words(world: World, sweep: Sweep) -> str:
    head = world.lane.head[:12]
    if not world.spec.finalization.enabled:
        return f"{world.tasks.jobs_merged} changes merged; finalization is disabled, the head was not swept"
    checked = "gates are green" if sweep.gates else "no gate is configured"
    return f"{world.tasks.jobs_merged} changes merged; {checked} on {head}"
