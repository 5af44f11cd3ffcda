"""The MergeJob and the MergeLane that a task makes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate import names
from tidegate.api.views import BuildView, TaskView

Object = dict[str, Any]
STANDALONE_STRATEGY = "Rebase"


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
