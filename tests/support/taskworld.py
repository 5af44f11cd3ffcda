"""Builders of what the tasks room sees: objects as the API server would send them, turned into views."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate import names
from tidegate.api.gates import gate_key
from tidegate.api.views import BuildView, ClassView, GateRunView, MergeJobView, PodView, TaskView
from tidegate.api.wire import PublisherReport, WorkspaceReport
from tidegate.tasks import times
from tidegate.tasks.continuation import own_run_name
from tidegate.tasks.model import Observed, OwnGates, Policy

Object = dict[str, Any]
NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
BUILD_UID = "99999999-2222-3333-4444-555555555555"
TASK_REF = names.task_ref(UID)


def at(seconds: float) -> str:
    """A time so many seconds after NOW, as Kubernetes writes it."""
    return times.written(NOW + timedelta(seconds=seconds))


def task_object(*, status: Object | None = None, build: str = "b", version: int = 1, **spec: Any) -> Object:
    """An AgentTask `t`, of a build, or alone with `build=""`."""
    body: Object = {"prompt": "do it", **spec}
    owners: list[Object] = []
    if build:
        body["buildRef"] = {"name": build}
        owners = [{"uid": BUILD_UID, "controller": True, "kind": "BuildRequest", "name": build}]
    else:
        body.setdefault("repository", {"url": "https://git.example.org/team/repo.git"})
    metadata = {
        "namespace": "ns", "name": "t", "uid": UID, "resourceVersion": str(version), "generation": 1,
        "creationTimestamp": at(-100), "ownerReferences": owners,
    }  # fmt: skip
    return {"metadata": metadata, "spec": body, "status": status or {}}


def task(**fields: Any) -> TaskView:
    """The view of `task_object`."""
    return TaskView.from_object(task_object(**fields))


def with_attempt(number: int = 1, *, state: str = "Running", started: float = -60, **attempt: Any) -> Object:
    """A status with an open attempt."""
    record = {
        "number": number, "pod": f"t-{number}", "podUID": f"pod-{number}", "class": "c", "startTime": at(started),
        **attempt,
    }  # fmt: skip
    return {"state": state, "attempts": [{k: v for k, v in record.items() if v is not None}]}


def build(*, slots: tuple[str, ...] = ("t",), desired: str = "Active", **spec: Any) -> BuildView:
    """The build `b`."""
    body: Object = {"repository": {"url": "https://git.example.org/team/repo.git"}, "desiredState": desired, **spec}
    metadata = {"namespace": "ns", "name": "b", "uid": BUILD_UID, "resourceVersion": "1", "generation": 1}
    return BuildView.from_object({"metadata": metadata, "spec": body, "status": {"slots": list(slots)}})


def agent_class(protocol: str = "Exec", generation: int = 1, **spec: Any) -> ClassView:
    """The AgentClass `c`."""
    body: Object = {"image": "i", "engine": {"protocol": protocol, "command": ["agent"]}, **spec}
    metadata = {"name": "c", "uid": "class", "resourceVersion": "1", "generation": generation}
    return ClassView.from_object({"metadata": metadata, "spec": body})


def job(name: str = "t-1", *, created: float = 0, **status: Any) -> MergeJobView:
    """A MergeJob of the task; `conditions` as {type: (status, reason)}."""
    conditions = [
        {"type": type_, "status": value, "reason": reason, "message": f"message of {reason}"}
        for type_, (value, reason) in status.pop("conditions", {}).items()
    ]
    metadata = {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": at(created)}
    spec = {"taskRef": {"name": "t", "uid": UID}}
    return MergeJobView.from_object(
        {"metadata": metadata, "spec": spec, "status": {**status, "conditions": conditions}}
    )


def gate(name: str = "tests", **fields: Any) -> Object:
    """A gate as its profile defines it."""
    return {"name": name, "image": "i", "command": ["check", name], **fields}


def own_gates(*gates: str, most: int = 2, **fields: Any) -> OwnGates:
    """Own gates of a task."""
    return OwnGates(**{"profile": "p", "max_continuations": most, "gates": tuple(map(gate, gates)), **fields})


def gate_run(
    of: Object, verdict: str = "", *, number: int = 1, commit: str = "c" * 40, ended: float = 0, **status: Any
) -> GateRunView:
    """A GateRun of one of the task's own gates."""
    name = own_run_name(UID, of["name"], gate_key(of), commit, number)
    metadata = {
        "namespace": "ns", "name": name, "uid": f"{name}-{commit[:4]}", "resourceVersion": "1",
        "ownerReferences": [{"uid": UID, "controller": True}], "labels": {names.LABEL_TASK: "t"},
    }  # fmt: skip
    told: Object = {"verdict": verdict, "endTime": at(ended), **status} if verdict else status
    spec = {"purpose": "Task", "commit": commit, "number": number, "gate": of, "laneRef": {"name": "l"}}
    return GateRunView.from_object({"metadata": metadata, "spec": spec, "status": told})


def report(**fields: Any) -> PublisherReport:
    """What the publisher says of a good attempt, unless told otherwise."""
    good: Object = {
        "handoff_status": "Complete", "handoff_valid": True, "summary": "done", "commit": "c" * 40, "base": "b" * 40,
        "ref": TASK_REF, "handoff_commit": "d" * 40, "files_changed": 1, "tokens_in": 5, "tokens_out": 7,
        "model_calls": 1,
    }  # fmt: skip
    return PublisherReport(**{**good, **fields})


def terminated(code: int = 0, *, reason: str = "", message: str = "") -> Object:
    """The state of a container that ended."""
    reason = reason or ("Completed" if code == 0 else "Error")
    return {
        "terminated": {
            "exitCode": code, "reason": reason, "message": message, "startedAt": at(-50), "finishedAt": at(-5),
        }
    }  # fmt: skip


RUNNING: Object = {"running": {"startedAt": at(-50)}}


def waiting(reason: str = "PodInitializing", message: str = "") -> Object:
    """The state of a container that hasn't started."""
    return {"waiting": {"reason": reason, "message": message}}


def pod_object(
    *,
    attempt: int = 1,
    phase: str = "Running",
    workspace: Object | None = None,
    publisher: Object | None = None,
    agent: Object | None = None,
    disrupted: str = "",
    deleting: bool = False,
    version: int = 1,
    uid: str = "",
    publisher_restarts: int = 0,
    **status: Any,
) -> Object:
    """The Pod of an attempt; container states as the kubelet writes them."""
    base = terminated(message=WorkspaceReport(base="b" * 40).dumps())
    conditions = [{"type": "PodScheduled", "status": "True"}]
    if disrupted:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disrupted})
    metadata: Object = {
        "namespace": "ns", "name": f"t-{attempt}", "uid": uid or f"pod-{attempt}", "resourceVersion": str(version),
        "creationTimestamp": at(-60),
        "ownerReferences": [{"uid": UID, "controller": True}],
        "labels": {
            names.LABEL_COMPONENT: "agent", names.LABEL_TASK: "t", names.LABEL_ATTEMPT: str(attempt),
        },
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = at(10)
    inits = [
        {"name": "workspace", "state": workspace if workspace is not None else base},
        {"name": "publisher", "state": publisher or RUNNING, "restartCount": publisher_restarts},
    ]
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node"},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "initContainerStatuses": inits,
            "containerStatuses": [{"name": "agent", "state": agent or RUNNING, "imageID": "sha256:1"}],
            **status,
        },
    }


def pod(**fields: Any) -> PodView:
    """The view of `pod_object`."""
    return PodView.from_object(pod_object(**fields))


def ended(code: int = 0, *, reason: str = "", said: PublisherReport | None = None, **fields: Any) -> PodView:
    """A Pod whose agent ended with an exit code, with the publisher's report."""
    publisher = terminated(message=(said or report()).dumps())
    phase = "Succeeded" if code == 0 else "Failed"
    return pod(**{"phase": phase, "agent": terminated(code, reason=reason), "publisher": publisher, **fields})


def observed(view: TaskView, **fields: Any) -> Observed:
    """The world around a task; of a build unless told otherwise."""
    around: Mapping[str, Any] = {
        "now": NOW, "policy": Policy(), "agent_class_name": "c", "agent_class": agent_class(),
        "build": build() if view.build else None, **fields,
    }  # fmt: skip
    return Observed(task=view, **around)


def merged(status: Object, patch: Mapping[str, Any] | None) -> Object:
    """A status after a merge patch, as the API server applies it."""
    result = dict(status)
    for key, value in (patch or {}).items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result
