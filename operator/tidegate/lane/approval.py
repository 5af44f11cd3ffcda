"""A person's answers about protected paths: from specs to what the planner is told and people are shown. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import BuildView, MergeJobView, TaskView
from tidegate.lane.decide.model import Place

VERB = "land"  # on the MergeLane: who may answer
MAX_LISTED = 20
_SHOWN_BYTES = 280  # of paths in a message
_WHOAMI = "'$(kubectl auth whoami -o jsonpath={.status.userInfo.username})'"

ConditionChange = tuple[str, str, str, str]  # type, status, reason, message


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of one commit."""

    approved: bool
    by: str
    reason: str = ""

    @property
    def words(self) -> str:
        """For a message."""
        return f"by {self.by}" + (f": {self.reason}" if self.reason else "")


def answer_of(job: MergeJobView, lane: str) -> Answer | None:
    """The answer in a job's spec, where it was given for this lane and this commit: who may give it was decided at
    admission for the lane that it names."""
    found: Mapping[str, Any] = job.spec.get("approval") or {}
    if found.get("laneName") != lane or found.get("sourceCommit") != job.spec["sourceCommit"]:
        return None
    approved = found.get("decision") == "Approved"
    return Answer(approved, str(found.get("by") or "unknown"), str(found.get("reason") or ""))


def answers(jobs: Iterable[MergeJobView], others: Iterable[MergeJobView], lane: str) -> dict[str, Answer]:
    """Answers by UID of the job: its own, else the one that another job of the lane got for the same commit (that is
    queued a second time, for example); among several of those a denial."""
    listed = list(jobs)
    of_commit: dict[str, Answer] = {}
    own: dict[str, Answer] = {}
    for job in (*others, *listed):
        answer = answer_of(job, lane)
        if answer is not None:
            own[job.meta.uid] = answer
            held = of_commit.get(job.spec["sourceCommit"])
            of_commit[job.spec["sourceCommit"]] = held if held is not None and not held.approved else answer
    found = {job.meta.uid: own.get(job.meta.uid) or of_commit.get(job.spec["sourceCommit"]) for job in listed}
    return {uid: answer for uid, answer in found.items() if answer is not None}


def scope_by_person(job: MergeJobView, task: TaskView | None, build: BuildView | None) -> tuple[str, ...]:
    """The scope that a person wrote for the task behind a job: in a task made by hand, or in a build's static plan.
    What a planner wrote counts for nothing here."""
    ref: Mapping[str, Any] = job.spec.get("taskRef") or {}
    if task is None or task.meta.uid != ref.get("uid"):
        return ()
    if (task.meta.labels or {}).get(names.LABEL_MANAGED_BY) != names.OPERATOR:
        return task.scope
    if build is None or build.meta.uid != task.meta.owner_uid:
        return ()
    for planned in (build.spec.get("planning") or {}).get("tasks") or ():
        if names.task_name(build.meta.name, 1, str(planned["name"])) == task.meta.name:
            return tuple(planned.get("scope") or ())
    return ()


def waiting(job: MergeJobView, lane: str, paths: Sequence[str]) -> str:
    """What is waited for, and the command that answers."""
    patch = {"decision": "Approved", "laneName": lane, "sourceCommit": job.spec["sourceCommit"], "by": "@"}
    text = json.dumps({"spec": {"approval": patch}}, separators=(",", ":")).replace("@", _WHOAMI)
    command = f"kubectl patch mergejob {job.meta.name} -n {job.meta.namespace} --type=merge -p '{text}'"
    return (
        f"changes protected paths: {listed(paths)}. Look at {job.spec['sourceCommit'][:12]}, then answer (verb {VERB} "
        f'on the lane; "Denied" refuses): {command}'
    )


def listed(paths: Sequence[str]) -> str:
    """Paths for a message: quoted, since an agent chose their names, and not too many."""
    shown: list[str] = []
    for path in paths:
        quoted = json.dumps(path[:60] if path.isascii() else path[:20])
        if shown and sum(len(one.encode()) + 2 for one in (*shown, quoted)) > _SHOWN_BYTES:
            break
        shown.append(quoted)
    more = len(paths) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def shown(
    job: MergeJobView, lane: str, place: Place, answer: Answer | None
) -> tuple[list[ConditionChange], dict[str, Any]]:
    """The condition Approved and the listed paths, as they should be while the job is in the queue."""
    had = any(one.get("type") == reasons.APPROVED for one in job.status.get("conditions") or ())
    if place.reason == reasons.NEEDS_APPROVAL:
        change = (reasons.APPROVED, "False", reasons.NEEDS_APPROVAL, waiting(job, lane, place.protected))
        paths = [path[:1024] for path in place.protected[:MAX_LISTED]]
        return [change], {"protectedPaths": paths, "protectedPathsTotal": len(place.protected)}
    fields: dict[str, Any] = {"protectedPaths": None, "protectedPathsTotal": None}
    if answer is not None and answer.approved and (had or place.touches):
        return [(reasons.APPROVED, "True", reasons.APPROVED, answer.words)], fields
    if place.touches:
        return [(reasons.APPROVED, "True", reasons.NAMED_IN_SCOPE, "a person's scope names the paths")], fields
    if had:
        return [(reasons.APPROVED, "True", reasons.AS_EXPECTED, "no protected path is touched any more")], fields
    return [], fields
