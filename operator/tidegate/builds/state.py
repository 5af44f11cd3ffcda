"""What is kept of one build: its tasks and jobs with all that is derived from them. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import MergeJobView, TaskView, condition
from tidegate.builds.decide.world import ACTIVE, FIXER, GATING, PLANNER, TERMINAL, Change, Slot
from tidegate.runtime.context import parse_time

_NOT_SETTLED = frozenset({reasons.WAITING, reasons.PROGRESSING, reasons.LANDING, reasons.GATING, reasons.PENDING})


class Phase(Enum):
    """Where a task stands from its build's view."""

    READY = "ready"
    DELAYED = "delayed"  # ready, but not before its next attempt's time
    WAITING = "waiting"  # for dependencies
    ACTIVE = "active"  # assigned, running, or with an attempt that has not ended
    GATING = "gating"  # its own gates run; no Pod of it does
    CANCELLING = "cancelling"  # Pending and asked to end
    LEAVING = "leaving"  # Pending and being deleted
    DONE = "done"


@dataclass(slots=True)
class Job:
    """A MergeJob of a build."""

    view: MergeJobView
    tasks: tuple[str, ...]  # whose change it brings: its own task's, and of the one that it replaces
    ended: bool
    merged: bool


@dataclass(slots=True)
class Record:
    """A task of a build, with what was derived from it when it last changed."""

    view: TaskView
    phase: Phase
    unsettled: bool
    unmerged: bool
    stalled: bool
    usage: tuple[int, int, int]
    place: tuple[int, str, str]  # priority, creation, name: the order of dispatch


@dataclass(slots=True)
class BuildState:
    """All that is derived from one build's tasks and jobs."""

    records: dict[str, Record] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    ready: list[tuple[int, str, str]] = field(default_factory=list)  # sorted
    by_phase: dict[Phase, dict[str, None]] = field(default_factory=lambda: {phase: {} for phase in Phase})
    unsettled: dict[str, None] = field(default_factory=dict)
    unmerged: dict[str, None] = field(default_factory=dict)
    bad: dict[str, None] = field(default_factory=dict)
    stalled: dict[str, None] = field(default_factory=dict)
    fixing: Counter[str] = field(default_factory=Counter)  # open Fixers of sweeps, by gate
    fixers: int = 0
    resolvers: int = 0
    handoffs: int = 0
    running_others: int = 0
    usage: list[int] = field(default_factory=lambda: [0, 0, 0])
    jobs: dict[str, Job] = field(default_factory=dict)
    jobs_of: dict[str, dict[str, None]] = field(default_factory=dict)  # names of jobs by task
    jobs_open: dict[str, None] = field(default_factory=dict)
    jobs_merged: int = 0
    landed: tuple[str, str] = ("", "")  # when the newest change landed, and as which commit

    def merged(self, task: str) -> bool:
        """Whether one of the task's jobs has landed."""
        return any(self.jobs[job].merged for job in self.jobs_of.get(task, ()))

    def queued(self, task: str) -> bool:
        """Whether one of the task's jobs is on its way."""
        return any(not self.jobs[job].ended for job in self.jobs_of.get(task, ()))

    def add(self, record: Record) -> None:
        """Count a task."""
        self._count(record, 1)

    def drop(self, name: str) -> Record | None:
        """Count a task no more."""
        record = self.records.get(name)
        if record is not None:
            self._count(record, -1)
        return record

    def _count(self, record: Record, by: int) -> None:
        view, name = record.view, record.view.meta.name
        self.counts[view.state] += by
        for i in range(3):
            self.usage[i] += by * record.usage[i]
        if record.phase is Phase.DONE and view.role != PLANNER:
            self.handoffs += by
        if record.phase in _RUNNING and view.role != FIXER:
            self.running_others += by
        self.fixers += by * is_sweep_fixer(view)
        self.resolvers += by * is_resolver(view)
        if record.phase is not Phase.DONE and is_sweep_fixer(view):
            gate = (view.meta.labels or {})[names.LABEL_GATE]
            self.fixing[gate] += by
            if not self.fixing[gate]:
                del self.fixing[gate]
        sets = [self.by_phase[record.phase]]
        sets += [self.unsettled] if record.unsettled else []
        sets += [self.unmerged] if record.unmerged else []
        sets += [self.stalled] if record.stalled else []
        sets += [self.bad] if ended_badly(record) else []
        if by > 0:
            self.records[name] = record
            for names_ in sets:
                names_[name] = None
            if record.phase is Phase.READY:
                insort(self.ready, record.place)
            return
        del self.records[name]
        for names_ in sets:
            names_.pop(name, None)
        if record.phase is Phase.READY:
            del self.ready[bisect_left(self.ready, record.place)]


_RUNNING = frozenset({Phase.READY, Phase.DELAYED, Phase.ACTIVE, Phase.GATING, Phase.CANCELLING})


def slot_of(view: TaskView, pod_active: bool) -> Slot:
    """A task that holds a slot. `pod_active`: whether a Pod of it may still run."""
    return Slot(
        view.meta.name,
        terminal=view.state in TERMINAL,
        active=pod_active or view.attempt_open or view.state in ACTIVE,
        not_before=parse_time(view.next_attempt_time) if view.state == "Pending" else None,
        gating=view.state == GATING,
    )


def is_sweep_fixer(view: TaskView) -> bool:
    """Whether a sweep asked for this task."""
    return view.role == FIXER and names.LABEL_GATE in (view.meta.labels or {})


def is_resolver(view: TaskView) -> bool:
    """Whether it was made for a change in conflict."""
    return view.role == FIXER and view.resolves is not None


def is_helper(view: TaskView) -> bool:
    """Whether something else decides if the task's work was needed: the next sweep, or the change that it mends."""
    return is_sweep_fixer(view) or is_resolver(view)


def ended_badly(record: Record) -> bool:
    """Whether a task ended so that its build can't pass."""
    view = record.view
    if record.phase is not Phase.DONE or view.state == "Complete":
        return False
    return not is_helper(view)


def has_work(view: TaskView) -> bool:
    """Whether the task left a change somewhere."""
    return bool(view.ref or view.commit) and view.role != PLANNER


def tasks_of(view: MergeJobView) -> tuple[str, ...]:
    """The names of the tasks whose change a MergeJob brings: its own, and the one in whose stead it comes."""
    replaced = (view.spec.get("replaces") or {}).get("taskRef") or {}
    return tuple(
        str(ref.get("name") or "") for ref in (view.spec.get("taskRef") or {}, replaced) if ref or not replaced
    )


def said_unmerged(status: Mapping[str, Any]) -> bool:
    """Whether the task itself says that its change will not merge."""
    found = condition(status, reasons.MERGED)
    return found is not None and found.get("status") == "False" and found.get("reason") not in _NOT_SETTLED


def outcome(state: BuildState, view: TaskView, status: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether it is settled what became of an ended task's change, and whether it is in the target branch."""
    if view.merged or state.merged(view.meta.name):
        return True, True
    if view.state != "Complete":
        return True, False
    if not view.commit:
        return True, True  # nothing to merge
    if view.meta.name in state.jobs_of:
        return True, False  # an open job is counted as such
    return said_unmerged(status), False


def change_of(state: BuildState, view: TaskView) -> Change:
    """An unmerged change, with what is known of its newest MergeJob."""
    name = view.meta.name
    job = max(
        (state.jobs[job] for job in state.jobs_of.get(name, ())),
        key=lambda job: (job.view.meta.created, _requeue(view, job)),
        default=None,
    )
    reason, message = _why(view, job)
    own = job is None or job.tasks[0] == name
    return Change(
        task=name,
        attempt=view.attempt,
        role=view.role,
        state=view.state,
        ref=view.ref,
        commit=view.commit,
        reason=reason,
        message=message,
        requeued=max((_requeue(view, state.jobs[j]) for j in state.jobs_of.get(name, ())), default=0),
        job=job.view.spec if job is not None and own else None,
        job_name=job.view.meta.name if job is not None else "",
        files=tuple(job.view.status.get("conflictFiles") or ()) if job is not None else (),
        tried_on=_tried_on(job),
        superseded=is_helper(view),
    )


def _why(view: TaskView, job: Job | None) -> tuple[str, str]:
    held = condition(job.view.status, reasons.SUCCEEDED) if job is not None else None
    if held is None and view.state == "Complete":
        held = condition(view.status(), reasons.MERGED)
    if held is None:
        held = condition(view.status(), reasons.SUCCEEDED)
    if held is None:
        return view.state, ""
    return str(held.get("reason") or view.state), str(held.get("message") or "")


def _requeue(view: TaskView, job: Job) -> int:
    """Which re-queue made a job: names.merge_job_name, read backwards by trying."""
    name = job.view.meta.name
    return next((k for k in range(1, 21) if name == names.merge_job_name(view.meta.name, view.attempt, k)), 0)


def _tried_on(job: Job | None) -> str:
    """The head on which a job failed: the newest one it was in conflict with, else its candidate's base."""
    if job is None:
        return ""
    heads = job.view.status.get("conflictHeads") or ()
    return str((heads[-1] if heads else job.view.status.get("baseCommit")) or "")
