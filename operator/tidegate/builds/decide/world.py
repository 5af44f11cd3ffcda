"""A build's world at one moment: everything a decision depends on, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TERMINAL = frozenset({"Complete", "Partial", "Blocked", "Failed", "Cancelled"})
ACTIVE = frozenset({"Assigned", "Running"})
GATING = "Gating"  # no attempt runs: the task's own gates do
FIXER = "Fixer"
PLANNER = "Planner"
MAX_UNMERGED = 100
MAX_NAMED = 10  # task names in one message


@dataclass(frozen=True, slots=True)
class SweepPolicy:
    """When the head is checked outside the queue; times in seconds."""

    interval: int = 300
    error_interval: int = 60
    greens_to_relax: int = 3
    max_fix_tasks: int = 5


@dataclass(frozen=True, slots=True)
class FinalizationPolicy:
    """How a build is brought to its end; `sweep_timeout` is in seconds, beyond the gates' own time."""

    enabled: bool = True
    max_attempts: int = 3
    sweep_timeout: int = 120


@dataclass(frozen=True, slots=True)
class Spec:
    """The build's spec without request and prompts, defaults filled in."""

    repository: Mapping[str, Any]
    static: bool = False
    planner_class: str = ""
    max_iterations: int = 100
    replan_after: int = 3
    max_tasks: int = 1000
    worker_class: str = ""
    max_parallel: int = 50
    timeout_seconds: int = 1800
    gate_profile: str = ""
    max_conflict_fixes: int = 30
    sweep: SweepPolicy = SweepPolicy()
    finalization: FinalizationPolicy = FinalizationPolicy()
    cancelled: bool = False
    ttl: int | None = None
    delete_after: bool = False

    @property
    def url(self) -> str:
        """URL of the repository."""
        return str(self.repository.get("url") or "")

    @property
    def branch(self) -> str:
        """The branch that changes land in."""
        return str(self.repository.get("targetBranch") or "main")


@dataclass(frozen=True, slots=True)
class Slot:
    """A task that holds one of the build's slots, as far as it decides whether the slot is free again."""

    task: str
    gone: bool = False  # the API server says that there is no such task of this build
    terminal: bool = False
    active: bool = False  # its newest attempt has not ended, or one of its Pods may still run
    not_before: datetime | None = None  # start of its next attempt
    gating: bool = False  # its own gates run: the next attempt, if there is one, begins a while after them


@dataclass(frozen=True, slots=True)
class Change:
    """Work of a task that ended and isn't in the target branch."""

    task: str
    attempt: int
    role: str
    state: str
    ref: str
    commit: str
    reason: str
    message: str = ""
    requeued: int = 0  # the highest number of a re-queue so far
    job: Mapping[str, Any] | None = None  # spec of its newest MergeJob; None where a Fixer's stands in for it
    job_name: str = ""
    files: tuple[str, ...] = ()  # in conflict
    tried_on: str = ""  # the head on which its newest MergeJob failed
    superseded: bool = False  # a Fixer's: the next sweep, or the change that it mends, decides whether it was needed

    @property
    def mergeable(self) -> bool:
        """Whether it could be queued again at all."""
        return self.state == "Complete" and bool(self.commit) and self.job is not None


@dataclass(frozen=True, slots=True)
class Tasks:
    """What a decision needs of the build's tasks and merge jobs, taken from the indexes."""

    counts: Mapping[str, int] = field(default_factory=dict)  # by state
    ready: tuple[str, ...] = ()  # in order of dispatch, without those that hold a slot
    next_due: datetime | None = None  # when the next deferred task becomes ready
    slots: tuple[Slot, ...] = ()
    stray: int = 0  # tasks without a slot that may have an active Pod
    running: int = 0  # tasks that are Pending and may start, deferred, active, or being cancelled
    running_others: int = 0  # the same without Fixers
    unfinished: int = 0  # not ended and not being deleted
    waiting: int = 0  # Pending on dependencies
    waiting_outside: int = 0  # of these: on a task of somebody else that can still end
    never_started: tuple[str, ...] = ()  # names of `waiting`, at most MAX_NAMED
    unsettled: int = 0  # Complete, with a change whose MergeJob isn't known yet
    ended_badly: tuple[
        str, ...
    ] = ()  # `name (State)` of tasks that ended otherwise than Complete, Fixers of sweeps aside
    ended_badly_total: int = 0
    handoffs: int = 0  # ended tasks without Planners
    changes: tuple[Change, ...] = ()  # unmerged, at most MAX_UNMERGED
    changes_total: int = 0
    changes_blocking: int = 0  # Complete ones, without superseded; counted only when nothing moves
    jobs_open: int = 0
    jobs_merged: int = 0
    jobs_failed: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    stalled: tuple[str, str, str] | None = None  # a task that a person must help: name, reason, message
    fixers: int = 0  # tasks that sweeps have asked for so far
    conflicts: tuple[Change, ...] = ()  # changes in conflict that never had a Fixer
    resolvers: int = 0  # Fixers for changes in conflict so far
    fixing: frozenset[str] = frozenset()  # gates for which a Fixer is at work

    @property
    def total(self) -> int:
        """How many tasks the build has."""
        return sum(self.counts.values())

    @property
    def active(self) -> int:
        """How many are Assigned, Running or Gating."""
        return sum(self.counts.get(state, 0) for state in (*ACTIVE, GATING))

    @property
    def quiescent(self) -> bool:
        """Nothing of this build can move by itself any more."""
        return not (self.running or self.unsettled or self.jobs_open or self.stray or self.waiting_outside) and not any(
            slot.active for slot in self.slots
        )


@dataclass(frozen=True, slots=True)
class Lane:
    """The build's MergeLane."""

    name: str
    uid: str = ""  # empty: there is none yet
    ready: bool = False
    stalled: tuple[str, str] | None = None  # reason and message
    head: str = ""
    red: bool = False  # the head itself fails a gate: changes wait until something mends it
    frozen: str = ""  # why nothing may land, empty while it may
    behind: bool = False  # a change of this build has landed and the lane doesn't show it yet


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task of a plan, its names as the plan spells them."""

    name: str
    prompt: str
    role: str = "Worker"
    scope: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    priority: int = 5
    depends_on: tuple[str, ...] = ()
    agent_class: str = ""


@dataclass(frozen=True, slots=True)
class PlanError:
    """Why a plan can't be applied: the field and what is wrong with it."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class PlannerRun:
    """A Planner task of the iteration that is being planned."""

    task: str
    state: str
    reason: str = ""
    plan: tuple[PlannedTask, ...] | PlanError | None = None  # None: not read, since it isn't Complete


@dataclass(frozen=True, slots=True)
class Source:
    """What is read from the API server when tasks or a Planner are about to be made."""

    request: str
    static: tuple[PlannedTask, ...] = ()
    story: str = ""  # for a new plan: what became of the tasks so far


@dataclass(frozen=True, slots=True)
class Planning:
    """How far the plan is."""

    iteration: int = 0  # the last one that was applied
    handoffs: int = 0  # that had come when it was applied
    complete: bool = False
    runs: tuple[PlannerRun, ...] = ()  # of iteration + 1, oldest first
    existing: frozenset[str] = frozenset()  # names of the tasks of iteration + 1 that exist
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """A GateRun of a sweep."""

    name: str
    gate: str
    number: int
    commit: str
    verdict: str = ""  # Passed | Failed | Infra, empty while it runs
    reason: str = ""
    log_tail: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """The sweeps so far, and the one that runs."""

    gates: tuple[Mapping[str, Any], ...] = ()
    runs: tuple[GateResult, ...] = ()  # of the sweep `number + 1`
    number: int = 0  # of the last one that was judged or discarded
    time: datetime | None = None
    commit: str = ""
    green: bool = False
    failed: tuple[str, ...] = ()
    greens: int = 0  # in a row
    red_time: datetime | None = None  # of the last red one


@dataclass(frozen=True, slots=True)
class Finalization:
    """How far the ending is."""

    attempts: int = 0
    sweep: int = 0  # number of the sweep that belongs to this attempt, 0 before it was judged
    sweep_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class World:
    """One build and everything around it, at `now`."""

    namespace: str
    name: str
    uid: str
    now: datetime
    spec: Spec
    start_time: datetime | None = None
    completion_time: datetime | None = None
    finalized: bool = False
    deleting: bool = False
    deletion_time: datetime | None = None
    finalizer: bool = True
    lane: Lane = Lane("")
    tasks: Tasks = Tasks()
    planning: Planning = Planning()
    sweep: Sweep = Sweep()
    finalization: Finalization = Finalization()
    adoptable: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None  # reason and message: a person must change something first
    planned: tuple[str, str] | None = None  # reason and message of `Planned=False`, once planning has failed
    sweep_condition: tuple[str, str, str] | None = None  # SweepGreen as it stands: status, reason, message
