"""What is to be done for a build, as data. `tidegate.builds.reconcile` carries it out in the order of the fields."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.builds.decide.finalize import Verdict
from tidegate.builds.decide.planning import PlannerTask
from tidegate.builds.decide.sweep import Fix
from tidegate.builds.decide.world import Change, Finalization, PlannedTask, Planning, Sweep

Condition = tuple[str, str, str, str]  # type, status, reason, message


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What the status is to say besides counts. `dropped` names conditions that are to be absent."""

    slots: tuple[str, ...]
    planning: Planning
    sweep: Sweep
    finalization: Finalization
    conditions: tuple[Condition, ...] = ()
    dropped: tuple[str, ...] = ()
    verdict: Verdict | None = None
    swept: str = ""  # outcome of a sweep that was judged


@dataclass(frozen=True, slots=True)
class Decision:
    """One round's work. Everything in it can be carried out twice: names are fixed, existing objects are left alone."""

    add_finalizer: bool = False
    fence: tuple[str, ...] = ()  # tasks that lose their slot and may start again
    make_lane: bool = False
    adopt: tuple[str, ...] = ()
    cancel: bool = False  # have every open task and MergeJob end
    drop_sweep: bool = False  # delete GateRuns of ours that have no verdict
    tasks: tuple[PlannedTask, ...] = ()
    iteration: int = 0  # that `tasks` and `planner` belong to
    planner: PlannerTask | None = None
    fixes: tuple[Fix, ...] = ()
    resolve: tuple[Change, ...] = ()  # changes in conflict that get a Fixer
    requeue: tuple[tuple[Change, int], ...] = ()
    start_sweep: int = 0
    status: StatusUpdate | None = None
    events: tuple[tuple[str, str, str], ...] = ()  # type, reason, note: recorded after the status is written
    purge: bool = False  # delete tasks, jobs and sweep runs
    delete_build: bool = False
    delete_refs: bool = False
    remove_finalizer: bool = False
    again: float | None = None  # seconds after which to look again at the latest
