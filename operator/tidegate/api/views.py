"""What the operator's cache keeps of each kind: small, frozen, and without prompts, handoff texts or managed fields.

Each view is made by `from_object` from the JSON object as the API server sends it. Missing parts take their defaults:
an object that was just created has no status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Self

import orjson

from tidegate import names

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Meta:
    """The part of `metadata` that decisions need."""

    namespace: str
    name: str
    uid: str
    resource_version: int
    generation: int
    created: str  # RFC 3339
    deleting: bool
    owner_uid: str  # of the controlling owner, empty when there is none
    labels: dict[str, str] | None
    finalizers: tuple[str, ...]

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read `metadata`; a name and a resourceVersion are always there in what the API server sends."""
        meta = obj.get("metadata") or {}
        owners: list[dict[str, Any]] = meta.get("ownerReferences") or []
        labels = meta.get("labels")
        return cls(
            namespace=intern(meta.get("namespace") or ""),
            name=meta.get("name") or "",
            uid=meta.get("uid") or "",
            resource_version=_number(meta.get("resourceVersion")),
            generation=_number(meta.get("generation")),
            created=meta.get("creationTimestamp") or "",
            deleting=bool(meta.get("deletionTimestamp")),
            owner_uid=intern(next((o.get("uid") or "" for o in owners if o.get("controller")), "")),
            labels={intern(k): v for k, v in labels.items()} if labels else None,
            finalizers=tuple(intern(f) for f in meta.get("finalizers") or ()),
        )


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """The condition of that type in a status, or None."""
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), None)


def condition_status(status: Mapping[str, Any], type_: str) -> str:
    """`True`, `False` or `Unknown`; a condition that is not there is Unknown."""
    found = condition(status, type_)
    return str(found.get("status") or "Unknown") if found else "Unknown"


@dataclass(frozen=True, slots=True)
class TaskView:
    """An AgentTask. The prompt is read from the API server when an attempt starts."""

    meta: Meta
    build: str  # name of the BuildRequest, empty for a task that stands alone
    state: str
    role: str
    priority: int  # 1 first, 10 last
    depends_on: tuple[tuple[str, str], ...]  # (task name, Merged | Complete)
    agent_class: str
    desired_state: str
    attempt: int  # number of the newest attempt, 0 when there is none
    attempt_open: bool  # the newest attempt has not ended
    next_attempt_time: str
    merged: bool
    ref: str
    commit: str
    status_json: bytes  # the status without the handoff
    repository: dict[str, Any] | None  # of a task that stands alone
    gate_profile: str
    retry_limit: int | None  # of a task that stands alone
    resolves: dict[str, Any] | None  # of a Fixer: the change in conflict
    reviews: dict[str, Any] | None  # of a Reviewer that stands alone: the change
    scope: tuple[str, ...]  # of a task that a person made; empty for the operator's own
    allow_fewer_tests: bool  # of a task that stands alone
    own_gates: dict[str, Any] | None

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read an AgentTask."""
        spec: Mapping[str, Any] = obj.get("spec") or {}
        status: Mapping[str, Any] = obj.get("status") or {}
        newest: Mapping[str, Any] = max(
            status.get("attempts") or [{}], key=lambda attempt: _number(attempt.get("number"))
        )
        return cls(
            meta=Meta.from_object(obj),
            build=intern((spec.get("buildRef") or {}).get("name") or ""),
            state=intern(status.get("state") or "Pending"),
            role=intern(spec.get("role") or "Worker"),
            priority=spec.get("priority") or 5,
            depends_on=tuple(
                (d.get("name") or "", intern(d.get("until") or "Merged")) for d in _dicts(spec, "dependsOn")
            ),
            agent_class=intern(spec.get("agentClassName") or ""),
            desired_state=intern(spec.get("desiredState") or "Run"),
            attempt=_number(newest.get("number")),
            attempt_open=bool(newest) and not newest.get("endTime"),
            next_attempt_time=status.get("nextAttemptTime") or "",
            merged=condition_status(status, "Merged") == "True",
            ref=status.get("ref") or "",
            commit=status.get("commit") or "",
            status_json=_packed({k: v for k, v in status.items() if k != "handoff"}),
            repository=spec.get("repository"),
            gate_profile=intern(spec.get("gateProfileName") or ""),
            retry_limit=spec.get("retryLimit"),
            resolves=spec.get("resolves"),
            reviews=spec.get("reviews"),
            scope=() if _is_ours(obj) else tuple(spec.get("scope") or ()),
            allow_fewer_tests=bool(spec.get("allowFewerTests")),
            own_gates=spec.get("ownGates"),
        )

    def status(self) -> dict[str, Any]:
        """The status without the handoff, as a new dictionary."""
        return orjson.loads(self.status_json)  # type: ignore[no-any-return]


def _is_ours(obj: Object) -> bool:
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(names.LABEL_MANAGED_BY) == names.OPERATOR)


def _packed(status: Mapping[str, Any]) -> bytes:
    """JSON in no more memory than it has bytes: what orjson returns holds several KiB in reserve."""
    return bytes(memoryview(orjson.dumps(status))) if status else b"{}"


def _dicts(holder: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return holder.get(key) or []


@dataclass(frozen=True, slots=True)
class ContainerView:
    """The status of one container as the kubelet reports it."""

    name: str
    state: str  # Waiting | Running | Terminated
    exit_code: int | None  # only when terminated
    reason: str
    message: str  # of a terminated container: its termination message
    started: str
    finished: str
    restarts: int
    image_id: str

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Self:
        """Read an entry of `containerStatuses` or `initContainerStatuses`."""
        states: Mapping[str, Any] = status.get("state") or {}
        for key, word in (("terminated", "Terminated"), ("running", "Running"), ("waiting", "Waiting")):
            if key in states:
                state, detail = word, states[key] or {}
                break
        else:
            state, detail = "Waiting", {}
        return cls(
            name=intern(status.get("name") or ""),
            state=state,
            exit_code=detail.get("exitCode", 0) if state == "Terminated" else None,
            reason=detail.get("reason") or "",
            message=detail.get("message") or "",
            started=detail.get("startedAt") or "",
            finished=detail.get("finishedAt") or "",
            restarts=status.get("restartCount") or 0,
            image_id=status.get("imageID") or "",
        )


def _containers(statuses: Iterable[Mapping[str, Any]] | None) -> tuple[ContainerView, ...]:
    return tuple(ContainerView.from_status(status) for status in statuses or ())


@dataclass(frozen=True, slots=True)
class PodView:
    """A Pod of ours."""

    meta: Meta
    phase: str
    deletion_time: str  # when it was asked to end plus its grace period, empty while it isn't deleting
    node: str
    init_containers: tuple[ContainerView, ...]
    containers: tuple[ContainerView, ...]
    disrupted: str  # reason of the condition DisruptionTarget when it is True, else empty
    scheduled: bool
    scheduling_message: str  # why it isn't scheduled
    reason: str
    message: str
    start_time: str
    component: str  # agent | gate
    build: str
    task: str
    attempt: int
    gate_run: str

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read a Pod."""
        spec: Mapping[str, Any] = obj.get("spec") or {}
        status: Mapping[str, Any] = obj.get("status") or {}
        meta = Meta.from_object(obj)
        labels = meta.labels or {}
        disruption = condition(status, "DisruptionTarget") or {}
        scheduled = condition(status, "PodScheduled") or {}
        return cls(
            meta=meta,
            phase=intern(status.get("phase") or "Pending"),
            deletion_time=(obj.get("metadata") or {}).get("deletionTimestamp") or "",
            node=intern(spec.get("nodeName") or ""),
            init_containers=_containers(status.get("initContainerStatuses")),
            containers=_containers(status.get("containerStatuses")),
            disrupted=(disruption.get("reason") or "Disrupted") if disruption.get("status") == "True" else "",
            scheduled=scheduled.get("status") == "True",
            scheduling_message=scheduled.get("message") or "",
            reason=status.get("reason") or "",
            message=status.get("message") or "",
            start_time=status.get("startTime") or "",
            component=intern(labels.get(names.LABEL_COMPONENT, "")),
            build=intern(labels.get(names.LABEL_BUILD, "")),
            task=labels.get(names.LABEL_TASK, ""),
            attempt=_number(labels.get(names.LABEL_ATTEMPT)),
            gate_run=labels.get(names.LABEL_GATE_RUN, ""),
        )

    @property
    def terminal(self) -> bool:
        """Whether no container of it runs or will run again."""
        return self.phase in ("Succeeded", "Failed")

    def container(self, name: str) -> ContainerView | None:
        """The status of the named container, init containers included, or None while there is none."""
        return next((c for c in (*self.containers, *self.init_containers) if c.name == name), None)


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A kind of which there are few: spec and status are kept as they are (status without log tails of others)."""

    meta: Meta
    spec: dict[str, Any]
    status: dict[str, Any]

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read an object with `spec` and `status`."""
        return cls(meta=Meta.from_object(obj), spec=obj.get("spec") or {}, status=obj.get("status") or {})

    def condition_status(self, type_: str) -> str:
        """`True`, `False` or `Unknown`; a condition that is not there is Unknown."""
        return condition_status(self.status, type_)


@dataclass(frozen=True, slots=True)
class BuildView:
    """A BuildRequest without its request and its prompts."""

    meta: Meta
    desired_state: str
    max_parallel: int
    url: str
    target_branch: str
    slots: tuple[str, ...]  # names of the tasks that hold a slot
    spec: dict[str, Any]  # without `request` and `planning.tasks[].prompt`
    status: dict[str, Any]

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read a BuildRequest."""
        spec = {key: value for key, value in (obj.get("spec") or {}).items() if key != "request"}
        planning = spec.get("planning") or {}
        if planning.get("tasks"):
            tasks = [{k: v for k, v in task.items() if k != "prompt"} for task in planning["tasks"]]
            spec["planning"] = {**planning, "tasks": tasks}
        status = obj.get("status") or {}
        repository = spec.get("repository") or {}
        return cls(
            meta=Meta.from_object(obj),
            desired_state=spec.get("desiredState") or "Active",
            max_parallel=(spec.get("workers") or {}).get("maxParallel") or 50,
            url=repository.get("url") or "",
            target_branch=repository.get("targetBranch") or "main",
            slots=tuple(status.get("slots") or ()),
            spec=spec,
            status=status,
        )

    def condition_status(self, type_: str) -> str:
        """`True`, `False` or `Unknown`; a condition that is not there is Unknown."""
        return condition_status(self.status, type_)


class MergeJobView(ResourceView):
    """A MergeJob. Log tails of its gates stay in the GateRuns."""

    __slots__ = ()

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read a MergeJob; the gates' log tails are left out."""
        status = dict(obj.get("status") or {})
        if status.get("gates"):
            status["gates"] = [{k: v for k, v in gate.items() if k != "logTail"} for gate in status["gates"]]
        return cls(meta=Meta.from_object(obj), spec=obj.get("spec") or {}, status=status)


class LaneView(ResourceView):
    """A MergeLane."""

    __slots__ = ()


class GateRunView(ResourceView):
    """A GateRun."""

    __slots__ = ()


class ClassView(ResourceView):
    """An AgentClass."""

    __slots__ = ()


class ProfileView(ResourceView):
    """A GateProfile."""

    __slots__ = ()


View = TaskView | PodView | BuildView | MergeJobView | LaneView | GateRunView | ClassView | ProfileView
