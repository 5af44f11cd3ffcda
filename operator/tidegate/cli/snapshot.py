"""A build as a person wants to see it, taken from the API's objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.cli.text import between, clean

Object = Mapping[str, Any]
ENDED = frozenset({"Complete", "Partial", "Blocked", "Failed", "Cancelled"})


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task: its state, its change, what it cost."""

    name: str
    role: str
    state: str
    attempt: int
    why: str  # reason of its state, where it says more
    merge: str  # what became of its change
    tokens_in: int
    tokens_out: int
    elapsed: str
    order: tuple[int, str, str]

    @property
    def ended(self) -> bool:
        """Whether it is in a terminal state."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A build and its tasks at one moment."""

    name: str
    phase: str  # Active, Deleting, or the verdict's reason
    finalized: bool
    passed: bool
    message: str
    iteration: int
    total: int
    complete: int
    merged: int
    tokens_in: int
    tokens_out: int
    elapsed: str
    conditions: tuple[tuple[str, str, str, str], ...]  # type, status, reason, message
    tasks: tuple[TaskLine, ...]
    unmerged: tuple[tuple[str, str, str], ...]  # task, ref, reason
    unmerged_total: int


def snapshot(build: Object, tasks: Sequence[Object], jobs: Sequence[Object], now: datetime) -> Snapshot:
    """Put a build, its tasks and its MergeJobs together; everything in it is fit for a terminal."""
    status: Object = build.get("status") or {}
    conditions = tuple(
        (clean(c.get("type")), clean(c.get("status")), clean(c.get("reason")), clean(c.get("message") or "", 1024))
        for c in status.get("conditions") or ()
    )
    final = next((c for c in conditions if c[0] == "Finalized"), ("", "", "", ""))
    finalized = final[1] == "True"
    counts: Object = status.get("tasks") or {}
    usage: Object = status.get("usage") or {}
    merges = _merges(jobs)
    lines = sorted((_task(task, merges, now) for task in tasks), key=lambda line: line.order)
    deleting = bool(build["metadata"].get("deletionTimestamp"))
    return Snapshot(
        name=clean(build["metadata"]["name"]),
        phase="Deleting" if deleting else final[2] if finalized else "Active",
        finalized=finalized,
        passed=finalized and final[2] == "Passed",
        message=final[3],
        iteration=int(status.get("iteration") or 0),
        total=int(counts.get("total") or 0),
        complete=int(counts.get("complete") or 0),
        merged=int((status.get("merges") or {}).get("merged") or 0),
        tokens_in=int(usage.get("tokensIn") or 0),
        tokens_out=int(usage.get("tokensOut") or 0),
        elapsed=between(status.get("startTime"), status.get("completionTime"), now),
        conditions=conditions,
        tasks=tuple(lines),
        unmerged=tuple(
            (clean(u.get("task")), clean(u.get("ref") or ""), clean(u.get("reason") or ""))
            for u in status.get("unmerged") or ()
        ),
        unmerged_total=int(status.get("unmergedTotal") or 0),
    )


def _merges(jobs: Sequence[Object]) -> dict[str, Object]:
    """The newest MergeJob of each task."""
    found: dict[str, Object] = {}
    for job in sorted(jobs, key=lambda j: (j["metadata"].get("creationTimestamp") or "", j["metadata"]["name"])):
        task = ((job.get("spec") or {}).get("taskRef") or {}).get("name")
        if task:
            found[task] = job
    return found


def _task(task: Object, merges: Mapping[str, Object], now: datetime) -> TaskLine:
    meta, spec, status = task["metadata"], task.get("spec") or {}, task.get("status") or {}
    attempts = status.get("attempts") or []
    newest: Object = max(attempts, key=lambda a: a.get("number") or 0, default={})
    usage: Object = status.get("usage") or {}
    state = clean(status.get("state") or "Pending")
    ended = status.get("completionTime") or (newest.get("endTime") if state in ENDED else None)
    return TaskLine(
        name=clean(meta["name"]),
        role=clean(spec.get("role") or "Worker"),
        state=state,
        attempt=int(newest.get("number") or 0),
        why=_why(state, status),
        merge=_merge(status, merges.get(meta["name"])),
        tokens_in=int(usage.get("tokensIn") or 0),
        tokens_out=int(usage.get("tokensOut") or 0),
        elapsed=between(status.get("startTime") or newest.get("startTime"), ended, now),
        order=(int(spec.get("priority") or 5), meta.get("creationTimestamp") or "", meta["name"]),
    )


def _condition(status: Object, type_: str) -> Object:
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), {})


def _why(state: str, status: Object) -> str:
    if state in ("Assigned", "Running", "Complete"):
        return ""
    stalled = _condition(status, "Stalled")
    found = stalled if stalled.get("status") == "True" else _condition(status, "Succeeded")
    reason, message = clean(found.get("reason") or ""), clean(found.get("message") or "")
    if reason in ("", state):
        return message
    return f"{reason}: {message}" if message else reason


def _merge(status: Object, job: Object | None) -> str:
    done = _condition(status, "Merged")
    if done.get("status") == "True":
        commit = clean(status.get("mergedCommit") or "")[:12]
        reason = clean(done.get("reason") or "")
        return "no change" if reason == "EmptyDiff" else f"merged {commit}".strip()
    if job is None:
        return ""
    made: Object = job.get("status") or {}
    succeeded = _condition(made, "Succeeded")
    if succeeded.get("status") == "True":
        return f"merged {clean(made.get('mergedCommit') or '')[:12]}".strip()
    if succeeded.get("status") == "False":
        return f"unmerged: {clean(succeeded.get('reason') or '')}"
    place = f" #{made['position']}" if made.get("position") else ""
    return f"{clean(made.get('state') or 'Queued').lower()}{place}"
