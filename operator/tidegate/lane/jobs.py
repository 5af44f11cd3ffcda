"""The status of MergeJobs: what each event makes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tidegate.api import reasons
from tidegate.api.gates import gate_key
from tidegate.api.views import GateRunView, MergeJobView
from tidegate.lane import approval as approvals
from tidegate.lane import bypass
from tidegate.lane.approval import Answer
from tidegate.lane.bypass import was_bypassed
from tidegate.lane.decide.model import Place, Short
from tidegate.runtime.conditions import set_condition

Status = dict[str, Any]

QUEUED, GATING, LANDING, MERGED, FAILED, CANCELLED = "Queued", "Gating", "Landing", "Merged", "Failed", "Cancelled"
MAX_FILES = 50
MAX_WAITING = 50
MAX_GATES = 32
_GATES_SAY_NO = (
    reasons.GATES_FAILED, reasons.GATE_NEVER_PASSED, reasons.BASE_RED, reasons.NOT_APPROVED, reasons.REVIEW_MISSING
)  # fmt: skip
SHOWN_POSITIONS = 20  # places further back are not kept up to date: each landing moves them all


@dataclass(frozen=True, slots=True)
class Moment:
    """When a status is written."""

    now: str  # RFC 3339


def _conditions(job: MergeJobView, moment: Moment, *changes: tuple[str, str, str, str]) -> list[Status]:
    conditions = list(job.status.get("conditions") or ())
    for type_, status, reason, message in changes:
        conditions = set_condition(
            conditions, type_, status, reason, message, now=moment.now, generation=job.meta.generation
        )
    return conditions


def merged(job: MergeJobView, moment: Moment, commit: str, reason: str, message: str, squashed: bool = False) -> Status:
    """It is in the target branch."""
    status: Status = {
        "state": MERGED,
        "mergedCommit": commit,
        "position": None,
        "waitingOn": None,
        "waitingOnTotal": None,
        "landing": None,
        "completionTime": moment.now,
        "conditions": _conditions(
            job, moment,
            (reasons.QUEUED, "False", reason, "left the queue"),
            (reasons.MERGED, "True", reason, message),
            (reasons.SUCCEEDED, "True", reason, message),
        ),
    }  # fmt: skip
    if reason in (reasons.MERGED_BY_LANE, reasons.LANDED_BEFORE_CANCEL) and not was_bypassed(job):
        status["conditions"] = set_condition(
            status["conditions"], reasons.GATES_PASSED, "True", reasons.PASSED, "every required gate passed",
            now=moment.now, generation=job.meta.generation,
        )  # fmt: skip
    if squashed:
        status["squashed"] = True
    return status


def ended(job: MergeJobView, moment: Moment, state: str, reason: str, message: str,
          files: Sequence[str] = ()) -> Status:  # fmt: skip
    """It left the queue without landing: Failed or Cancelled."""
    changes = [
        (reasons.QUEUED, "False", reason, "left the queue"),
        (reasons.MERGED, "False", reason, message),
        (reasons.SUCCEEDED, "False", reason, message),
    ]
    if reason == reasons.MERGE_CONFLICT:
        changes.append((reasons.CONFLICTED, "True", reason, message))
    if reason == reasons.APPROVAL_DENIED:
        changes.append((reasons.APPROVED, "False", reason, message))
    if reason in _GATES_SAY_NO:
        changes.append((reasons.GATES_PASSED, "False", reason, message))
    return {
        "state": state,
        "position": None,
        "waitingOn": None,
        "waitingOnTotal": None,
        "landing": None,
        "completionTime": moment.now,
        **(_files(files) if files else {}),
        "conditions": _conditions(job, moment, *changes),
    }


def _files(files: Sequence[str]) -> Status:
    return {"conflictFiles": [file[:1024] for file in files[:MAX_FILES]], "conflictFilesTotal": len(files)}


def placed(job: MergeJobView, moment: Moment, lane: str, place: Place, gates: list[Status],
           answer: Answer | None = None) -> Status:  # fmt: skip
    """It stands in the queue. `answer`: what a person said about the protected paths of its commit."""
    approval, listed = approvals.shown(job, lane, place, answer)
    if place.reason == reasons.NEEDS_APPROVAL:
        place = replace(place, message=approval[0][3])
    gating = place.reason == reasons.GATING
    position = place.position if place.position <= SHOWN_POSITIONS else job.status.get("position") or place.position
    changes = [
        (reasons.QUEUED, "True", place.reason, place.message),
        (reasons.SUCCEEDED, "Unknown", place.reason, place.message),
        *approval,
        *bypass.shown(job, lane),
    ]
    if gating:
        passed = bool(gates) and all(gate["verdict"] == "Passed" for gate in gates)
        changes.append((reasons.GATES_PASSED, "True" if passed else "Unknown", place.reason, place.message))
    if place.conflict is not None and place.reason == reasons.MERGE_CONFLICT:
        changes.append((reasons.CONFLICTED, "True", place.reason, place.message))
    elif place.commit and any(one.get("type") == reasons.CONFLICTED for one in job.status.get("conditions") or ()):
        changes.append((reasons.CONFLICTED, "False", place.reason, "merges with the head"))
    waiting = list(place.waiting_on[:MAX_WAITING])
    status: Status = {
        "observedGeneration": job.meta.generation,
        "state": GATING if gating else QUEUED,
        "lane": lane,
        "position": position,
        "waitingOn": waiting or None,
        "waitingOnTotal": len(place.waiting_on) or None,
        "landing": None,
        "queuedTime": job.status.get("queuedTime") or job.meta.created or moment.now,
        **listed,
        "conditions": _conditions(job, moment, *changes),
    }
    if place.commit:
        status |= {"baseCommit": place.base, "candidateCommit": place.commit, "gates": gates[:MAX_GATES]}
        if place.commit != job.status.get("candidateCommit"):
            status["attempts"] = int(job.status.get("attempts") or 0) + 1
    elif gates:
        status["gates"] = gates[:MAX_GATES]
    if place.conflict is not None and place.reason == reasons.MERGE_CONFLICT:
        heads = [head for head in job.status.get("conflictHeads") or () if head != place.conflict.base]
        status |= {**_files(place.conflict.files), "conflictHeads": [*heads, place.conflict.base][-21:]}
    return status


def intent(job: MergeJobView, moment: Moment, candidate: str, base: str, ledger: str, gates: list[Status],
           bypassed: str = "") -> Status:  # fmt: skip
    """It is about to land: `gates` say why it may, or `bypassed` whose word it is."""
    why = [(reasons.GATES_PASSED, "True", reasons.PASSED, "every required gate passed")]
    if bypassed:
        message = f"lands without its gates, {bypassed}"
        why = [
            (reasons.GATES_PASSED, "False", reasons.GATES_BYPASSED, message),
            (reasons.BYPASSED, "True", reasons.GATES_BYPASSED, message),
        ]
    return {
        "gates": gates[:MAX_GATES],
        "state": LANDING,
        "landing": {"candidate": candidate, "base": base, "ledger": ledger, "time": moment.now},
        "candidateCommit": candidate,
        "baseCommit": base,
        "conditions": _conditions(
            job, moment,
            (reasons.QUEUED, "True", reasons.LANDING, "being pushed to the target branch"),
            *why,
            (reasons.SUCCEEDED, "Unknown", reasons.LANDING, "being pushed to the target branch"),
        ),
    }  # fmt: skip


def withdrawn(job: MergeJobView, moment: Moment, message: str) -> Status:
    """The landing is off; it waits again."""
    return {
        "state": QUEUED,
        "landing": None,
        "conditions": _conditions(
            job, moment,
            (reasons.QUEUED, "True", reasons.WAITING, message),
            (reasons.SUCCEEDED, "Unknown", reasons.WAITING, message),
        ),
    }  # fmt: skip


def gate_results(runs: Sequence[GateRunView], short: Sequence[Short] = ()) -> list[Status]:
    """What the gates said of a candidate; of several runs of a gate the newest counts. `short`: those that passed and
    have too few tests for their base."""
    too_few = {one.key: one for one in short}
    by_gate: dict[str, list[GateRunView]] = {}
    for run in sorted(runs, key=lambda run: (run.spec["gate"]["name"], int(run.spec.get("number") or 1))):
        by_gate.setdefault(run.meta.name.rpartition("-")[0], []).append(run)
    found: list[Status] = []
    for group in by_gate.values():
        newest = group[-1]
        verdicts = [run.status.get("verdict") or "" for run in group]
        name = newest.spec["gate"]["name"]
        taken = sum(one["name"].rstrip("-0123456789") == name or one["name"] == name for one in found)
        result: Status = {
            "name": f"{name}-{taken + 1}"[:63] if taken else name,
            "run": newest.meta.name,
            "verdict": verdicts[-1],
            "flaked": "Failed" in verdicts and "Passed" in verdicts,
        }
        for key, most in (("reason", 64), ("message", 512)):
            if newest.status.get(key):
                result[key] = str(newest.status[key])[:most]
        if newest.status.get("exitCode") is not None:
            result["exitCode"] = newest.status["exitCode"]
        less = too_few.get(gate_key(newest.spec["gate"]))
        if less is not None and verdicts[-1] == "Passed":
            result |= {"verdict": "Failed", "flaked": False, "reason": less.reason, "message": less.message[:512]}
        elif verdicts[-1] == "Failed":
            result["logTail"] = str(newest.status.get("logTail") or "")[-2000:]
        found.append(result)
    return found


def differs(status: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether writing `wanted` would change a status; log tails are not kept in the cache."""

    def bare(value: Any) -> Any:
        if isinstance(value, list):
            return [bare(one) for one in value]
        if isinstance(value, dict):
            return {key: one for key, one in value.items() if key != "logTail"}
        return value

    return any(bare(status.get(key)) != bare(value) for key, value in wanted.items() if value or status.get(key))
