"""A build's status as the API shows it, and read back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate.api import reasons
from tidegate.api.views import BuildView, condition
from tidegate.builds.decide.decision import StatusUpdate
from tidegate.builds.decide.world import (
    Finalization,
    FinalizationPolicy,
    Planning,
    Spec,
    Sweep,
    SweepPolicy,
    World,
)
from tidegate.runtime.conditions import clean_message, drop_condition, set_condition
from tidegate.runtime.context import parse_time, rfc3339

_COUNTED = ("Complete", "Partial", "Blocked", "Failed", "Cancelled")
_UNMERGED_MESSAGE = 256  # bytes
TALLY_SECONDS, GRANT_SECONDS = 1.0, 0.25
_TALLIED = ("tasks", "tasksSummary", "merges", "unmerged", "unmergedTotal", "usage", "headCommit")


def spec_of(view: BuildView, *, planner_class: str, gate_profile: str) -> Spec:
    """The spec with the operator's defaults: class of planners and gate profile where the build names none."""
    raw = view.spec
    planning, workers, merge = _part(raw, "planning"), _part(raw, "workers"), _part(raw, "merge")
    sweep, final = _part(raw, "sweep"), _part(raw, "finalization")
    return Spec(
        repository=_part(raw, "repository"),
        static=bool(planning.get("tasks")),
        planner_class=planning.get("agentClassName") or planner_class,
        max_iterations=planning.get("maxIterations", 100),
        replan_after=planning.get("replanAfterHandoffs", 3),
        max_tasks=planning.get("maxTasks", 500),
        worker_class=workers.get("agentClassName") or "",
        max_parallel=view.max_parallel,
        gate_profile=merge.get("gateProfileName") or gate_profile,
        max_conflict_fixes=merge.get("maxConflictFixTasks", 30),
        sweep=SweepPolicy(
            interval=sweep.get("intervalSeconds", 300),
            error_interval=sweep.get("errorIntervalSeconds", 60),
            greens_to_relax=sweep.get("greenSweepsToRelax", 3),
            max_fix_tasks=sweep.get("maxFixTasks", 5),
        ),
        finalization=FinalizationPolicy(
            enabled=final.get("enabled", True),
            max_attempts=final.get("maxAttempts", 3),
            sweep_timeout=final.get("sweepTimeoutSeconds", 120),
        ),
        cancelled=view.desired_state == "Cancelled",
        ttl=raw.get("ttlSecondsAfterFinished"),
        delete_after=bool(raw.get("deleteAfterFinished")),
    )


def planning_of(status: Mapping[str, Any]) -> Planning:
    """How far the plan was when the status was written."""
    kept = _part(status, "planning")
    return Planning(
        iteration=int(status.get("iteration") or 0),
        handoffs=int(kept.get("handoffs") or 0),
        complete=bool(kept.get("complete")),
    )


def sweep_of(status: Mapping[str, Any]) -> Sweep:
    """The sweeps so far."""
    last = _part(status, "lastSweep")
    return Sweep(
        number=int(status.get("sweeps") or 0),
        time=parse_time(last.get("time") or ""),
        commit=last.get("commit") or "",
        green=bool(last.get("green")),
        failed=tuple(last.get("failed") or ()),
        greens=int(status.get("greenSweeps") or 0),
        red_time=parse_time(last.get("redTime") or ""),
    )


def finalization_of(status: Mapping[str, Any]) -> Finalization:
    """How far the ending is."""
    kept = _part(status, "finalization")
    return Finalization(
        attempts=int(kept.get("attempts") or 0),
        sweep=int(kept.get("sweep") or 0),
        sweep_start=parse_time(kept.get("sweepStartTime") or ""),
    )


def standing(status: Mapping[str, Any], type_: str) -> tuple[str, str, str] | None:
    """A condition as (status, reason, message), or None."""
    found = condition(status, type_)
    return (found["status"], found.get("reason") or "", found.get("message") or "") if found else None


def status_of(world: World, update: StatusUpdate, old: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """The whole status; None removes a field."""
    now = rfc3339(world.now)
    made = _counts(world)
    made |= {
        "observedGeneration": generation,
        "conditions": _conditions(update, old, now, generation),
        "slots": list(update.slots),
        "iteration": update.planning.iteration,
        "planning": {"handoffs": update.planning.handoffs, "complete": update.planning.complete},
        "sweeps": update.sweep.number,
        "startTime": old.get("startTime") or now,
    }
    if world.lane.head:
        made["headCommit"] = world.lane.head
    if update.sweep.time is not None:
        made["lastSweep"] = {
            "time": rfc3339(update.sweep.time),
            "commit": update.sweep.commit,
            "green": update.sweep.green,
            "failed": list(update.sweep.failed[:32]),
            "redTime": rfc3339(update.sweep.red_time) if update.sweep.red_time else None,
        }
        made["greenSweeps"] = update.sweep.greens
    if update.finalization.attempts or update.verdict is not None:
        made["finalization"] = _finalization(update)
    if update.verdict is not None:
        made["completionTime"] = now
    return made


def _counts(world: World) -> dict[str, Any]:
    tasks = world.tasks
    counts = {state.lower(): tasks.counts.get(state, 0) for state in _COUNTED}
    ended = sum(counts.values())
    usage = {key: int(tasks.usage.get(key, 0)) for key in ("tokensIn", "tokensOut", "modelCalls")}
    return {
        "tasks": {
            "total": tasks.total,
            "pending": tasks.total - tasks.active - ended,
            "active": tasks.active,
            **counts,
        },
        "tasksSummary": f"{counts['complete']}/{tasks.total}",
        "merges": {"queued": tasks.jobs_open, "merged": tasks.jobs_merged, "failed": tasks.jobs_failed},
        "unmerged": [
            {
                "task": change.task,
                "ref": change.ref,
                "reason": change.reason[:64],
                "message": clean_message(change.message, _UNMERGED_MESSAGE),
            }
            for change in tasks.changes
        ],
        "unmergedTotal": tasks.changes_total,
        "usage": usage,
    }


def _finalization(update: StatusUpdate) -> dict[str, Any]:
    final, verdict = update.finalization, update.verdict
    made: dict[str, Any] = {
        "attempts": final.attempts,
        "sweep": final.sweep,
        "sweepStartTime": rfc3339(final.sweep_start) if final.sweep_start else None,
        "passed": verdict is not None and verdict.passed,
    }
    if verdict is not None:
        made |= {"reason": verdict.reason, "message": clean_message(verdict.message)}
    return made


def _conditions(update: StatusUpdate, old: Mapping[str, Any], now: str, generation: int) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = list(old.get("conditions") or [])
    for type_, status, reason, message in update.conditions:
        conditions = set_condition(conditions, type_, status, reason, message, now=now, generation=generation)
    for type_ in update.dropped:
        conditions = drop_condition(conditions, type_)
    return conditions


def differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether writing `new` would change anything."""
    return any(not _same(value, old.get(key)) for key, value in new.items())


def may_wait(new: Mapping[str, Any], old: Mapping[str, Any]) -> float:
    """Seconds from the writing of `old` until `new` is worth a request: a large build's status is a large object. Slots
    that are given may wait a little, counts and free slots longer, all else not at all."""
    rest = {key: value for key, value in new.items() if key not in (*_TALLIED, "slots", "conditions")}
    if differs(rest, old) or _standings(new["conditions"]) != _standings(old.get("conditions") or ()):
        return 0.0
    return TALLY_SECONDS if set(new["slots"]) <= set(old.get("slots") or ()) else GRANT_SECONDS


def _standings(conditions: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.get(key) for key in ("type", "status", "reason", "observedGeneration")) for row in conditions]


def _same(new: Any, old: Any) -> bool:
    """Whether merging `new` over `old` changes nothing; None and absent are one."""
    if isinstance(new, dict):
        return isinstance(old, dict) and all(_same(value, old.get(key)) for key, value in new.items())
    if isinstance(new, list):
        return new == (old or [])
    return bool(new == old)


def is_finalized(status: Mapping[str, Any]) -> bool:
    """Whether the build has its verdict: nothing leads out of that."""
    found = condition(status, reasons.FINALIZED)
    return found is not None and found.get("status") == "True"


def _part(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return holder.get(key) or {}
