"""The MergeJob, the MergeLane and the GateRuns that a task makes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate import names
from tidegate.api.views import BuildView, TaskView
from tidegate.tasks.model import RunStart
from tidegate.tasks.status import newest

Object = dict[str, Any]
STANDALONE_STRATEGY = "Rebase"
PURPOSE_TASK = "Task"


def repository_of(task: TaskView, build: BuildView | None) -> Mapping[str, Any]:
    """The repository that the task works on: its build's, or its own."""
    if build is not None:
        return build.spec.get("repository") or {}
    return task.repository or {}


def remote(repository: Mapping[str, Any]) -> Object:
    """A repository as MergeJobs and MergeLanes name it: without branch and branch publishing."""
    kept = ("url", "credentialsSecretName", "author")
    return {key: repository[key] for key in kept if repository.get(key)}


def branch_of(repository: Mapping[str, Any]) -> str:
    """The target branch."""
    return str(repository.get("targetBranch") or "main")


def merge_job(task: TaskView, build: BuildView | None) -> Object:
    """The MergeJob for the task's commit, owned by its build, or by the task itself when it stands alone."""
    repository = repository_of(task, build)
    merge: Mapping[str, Any] = build.spec.get("merge") or {} if build is not None else {}
    branch = branch_of(repository)
    spec: Object = {
        "taskRef": {"name": task.meta.name, "uid": task.meta.uid},
        "repository": remote(repository),
        "sourceRef": task.ref,
        "sourceCommit": task.commit,
        "targetBranch": branch,
        "strategy": str(merge.get("strategy") or STANDALONE_STRATEGY),
        "priority": task.priority,
    }
    if task.resolves:
        spec["replaces"] = {key: task.resolves[key] for key in ("mergeJobName", "taskRef")}
    profile = task.gate_profile or merge.get("gateProfileName")
    if profile:
        spec["gateProfileName"] = profile
    if merge.get("maxConflictRetries") is not None:
        spec["maxConflictRetries"] = merge["maxConflictRetries"]
    if merge.get("allowFewerTests") if build is not None else task.allow_fewer_tests:
        spec["allowFewerTests"] = True
    lane = names.lane_name(str(repository.get("url") or ""), branch)
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_TASK: names.bounded_name(task.meta.name),
        names.LABEL_LANE: lane,
    }
    if build is not None:
        spec["buildRef"] = {"name": build.meta.name}
        labels[names.LABEL_BUILD] = names.bounded_name(build.meta.name)
    metadata = {
        "name": names.merge_job_name(task.meta.name, task.attempt),
        "labels": labels,
        "ownerReferences": [_owner(task, build)],
    }
    return {"metadata": metadata, "spec": spec}


def own_gate_run(task: TaskView, build: BuildView | None, start: RunStart) -> Object:
    """A GateRun of one of the task's own gates, on the commit of its newest attempt. The task owns it; the lane's slots
    hold for it."""
    repository, own = repository_of(task, build), task.status()["ownGates"]
    lane = names.lane_name(str(repository.get("url") or ""), branch_of(repository))
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_TASK: names.bounded_name(task.meta.name),
        names.LABEL_LANE: lane,
        names.LABEL_GATE: names.bounded_name(str(start.gate["name"])),
        names.LABEL_PURPOSE: PURPOSE_TASK.lower(),
    }
    if build is not None:
        labels[names.LABEL_BUILD] = names.bounded_name(build.meta.name)
    spec: Object = {
        "repository": {key: repository[key] for key in ("url", "credentialsSecretName") if repository.get(key)},
        "laneRef": {"name": lane},
        "commit": own["commit"],
        "fetchRef": names.task_ref(task.meta.uid),
        "purpose": PURPOSE_TASK,
        "number": start.number,
        "gate": dict(start.gate),
    }
    if base := newest(task).get("base"):
        spec["baseCommit"] = base
    return {"metadata": {"name": start.name, "labels": labels, "ownerReferences": [_owner(task, None)]}, "spec": spec}


def _owner(task: TaskView, build: BuildView | None) -> Object:
    kind, meta = ("BuildRequest", build.meta) if build is not None else ("AgentTask", task.meta)
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def merge_lane(repository: Mapping[str, Any]) -> Object:
    """The MergeLane of a repository and branch, with the policy that holds when nobody made one before. It has no
    owner: it outlives builds and tasks."""
    url, branch = str(repository.get("url") or ""), branch_of(repository)
    labels = {names.LABEL_MANAGED_BY: names.OPERATOR, names.LABEL_PART_OF: names.OPERATOR}
    return {
        "metadata": {"name": names.lane_name(url, branch), "labels": labels},
        "spec": {"repository": remote(repository), "targetBranch": branch},
    }
