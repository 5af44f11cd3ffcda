"""The Pod of an attempt. Pure: the same plan always gives the same object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidegate import names
from tidegate.api.wire import AgentInput
from tidegate.tasks import volumes
from tidegate.tasks.continuation import Continuation
from tidegate.tasks.prompt import assemble, subject

Object = dict[str, Any]

DEFAULT_TIMEOUT = 1800
DEFAULT_START_TIMEOUT = 600
START_MARGIN = 60  # seconds that the backstop allows beyond what the entry script and the publisher may take
USER = 1000  # all containers share it: the publisher reads what the agent wrote
AUTHOR = ("Tidegate agent", "agent@tidegate.dev")
DEFAULT_REQUESTS: Mapping[str, str] = {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "64Mi"}
DEFAULT_LIMITS: Mapping[str, str] = {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "4Gi"}
OUR_RESOURCES: Object = {
    "requests": {"cpu": "20m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "2Gi"},
}


@dataclass(frozen=True, slots=True)
class Platform:
    """What the operator's settings say about every Pod."""

    runner_image: str
    pull_policy: str
    gateway_url: str
    git_protocols: str


@dataclass(frozen=True, slots=True)
class PodPlan:
    """All that a Pod is made of: the task with its whole spec, its class, and what its build says."""

    namespace: str
    task: str
    task_uid: str
    attempt: int
    spec: Mapping[str, Any]
    repository: Mapping[str, Any]  # as in the API: url, targetBranch, credentialsSecretName, author, ...
    agent_class: str
    class_spec: Mapping[str, Any]
    platform: Platform
    build: str = ""
    build_uid: str = ""
    workers: Mapping[str, Any] | None = None  # of the build
    continuation: Continuation | None = None

    @property
    def engine(self) -> Mapping[str, Any]:
        """The class's engine."""
        return self.class_spec.get("engine") or {}

    @property
    def protocol(self) -> str:
        """Exec, Script, Planner or Reviewer."""
        return str(self.engine.get("protocol") or "Exec")

    @property
    def timeout(self) -> int:
        """Seconds that the agent has."""
        return int(self.spec.get("timeoutSeconds") or (self.workers or {}).get("timeoutSeconds") or DEFAULT_TIMEOUT)

    @property
    def grace(self) -> int:
        """Seconds from SIGTERM to SIGKILL: the agent's stop, then the publisher's push."""
        return int(self.class_spec.get("stopSeconds") or 10) + int(self.class_spec.get("publishSeconds") or 110)

    @property
    def secret(self) -> str:
        """Name of the Secret with the git credentials, or empty."""
        return str(self.repository.get("credentialsSecretName") or "")


def agent_pod(plan: PodPlan) -> Object:
    """The Pod, without `apiVersion` and `kind`."""
    start = int((plan.workers or {}).get("startTimeoutSeconds") or DEFAULT_START_TIMEOUT)
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": plan.grace,
        "activeDeadlineSeconds": start + plan.timeout + plan.grace + START_MARGIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_workspace(plan), _publisher(plan)],
        "containers": [_agent(plan)],
        "volumes": volumes.volumes(
            storage=_agent_resources(plan)["limits"]["ephemeral-storage"],
            secret=plan.secret,
            gateway=bool(plan.platform.gateway_url),
            token_seconds=plan.timeout + plan.grace + START_MARGIN,
        ),
    }
    runtime_class = plan.class_spec.get("runtimeClassName")
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    return {"metadata": _metadata(plan), "spec": spec}


def _metadata(plan: PodPlan) -> Object:
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_COMPONENT: names.COMPONENT_AGENT,
        names.LABEL_TASK: names.bounded_name(plan.task),
        names.LABEL_ATTEMPT: str(plan.attempt),
        names.LABEL_ROLE: str(plan.spec.get("role") or "Worker"),
        names.LABEL_CLASS: names.bounded_name(plan.agent_class),
    }
    if plan.build:
        labels[names.LABEL_BUILD] = names.bounded_name(plan.build)
    return {
        "name": names.pod_name(plan.task, plan.attempt),
        "namespace": plan.namespace,
        "labels": labels,
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": "AgentTask",
                "name": plan.task,
                "uid": plan.task_uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _container(name: str, image: str, pull_policy: str, resources: Object) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _ours(plan: PodPlan, name: str, given: AgentInput) -> Object:
    """A container of the runner image, with the git credentials."""
    made = _container(name, plan.platform.runner_image, plan.platform.pull_policy, OUR_RESOURCES)
    made["command"] = ["python", "-m", "tidegate.runner", name]
    made["env"] = [
        *({"name": variable, "value": literal(value)} for variable, value in given.variables().items()),
        {"name": "TIDEGATE_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]
    return made


def _workspace(plan: PodPlan) -> Object:
    made = _ours(plan, names.CONTAINER_WORKSPACE, agent_input(plan))
    made["volumeMounts"] = volumes.workspace_mounts(secret=bool(plan.secret))
    return made


def _publisher(plan: PodPlan) -> Object:
    made = _ours(plan, names.CONTAINER_PUBLISHER, replace(agent_input(plan), prompt=""))
    made["restartPolicy"] = "Always"  # a native sidecar: it ends after the agent
    made["volumeMounts"] = volumes.publisher_mounts(secret=bool(plan.secret), gateway=bool(plan.platform.gateway_url))
    return made


def _agent(plan: PodPlan) -> Object:
    image = str(plan.class_spec.get("image") or plan.platform.runner_image)
    policy = str(plan.class_spec.get("imagePullPolicy") or plan.platform.pull_policy)
    made = _container(names.CONTAINER_AGENT, image, policy, _agent_resources(plan))
    made["command"] = ["/bin/sh", names.FILE_ENTRY]
    made["workingDir"] = names.PATH_WORKSPACE
    made["env"] = [{"name": name, "value": literal(value)} for name, value in _environment(plan).items()]
    made["volumeMounts"] = volumes.agent_mounts(gateway=bool(plan.platform.gateway_url))
    return made


def _environment(plan: PodPlan) -> dict[str, str]:
    home = names.PATH_HOME
    env = {str(e["name"]): str(e.get("value") or "") for e in plan.engine.get("env") or ()}
    env.update(
        {
            "HOME": home,
            "TMPDIR": names.PATH_TMP,
            "XDG_CACHE_HOME": f"{home}/.cache",
            "XDG_CONFIG_HOME": f"{home}/.config",
            "XDG_DATA_HOME": f"{home}/.local/share",
            "XDG_STATE_HOME": f"{home}/.local/state",
            "XDG_RUNTIME_DIR": f"{names.PATH_TMP}/run",
            "PYTHONUSERBASE": f"{home}/.local",
            "NPM_CONFIG_PREFIX": f"{home}/.npm-global",
            "CARGO_HOME": f"{home}/.cargo",
            "GOPATH": f"{home}/go",
            "TIDEGATE_TASK": plan.task,
            "TIDEGATE_ATTEMPT": str(plan.attempt),
            "TIDEGATE_ROLE": str(plan.spec.get("role") or "Worker"),
            "TIDEGATE_PROMPT_FILE": names.FILE_PROMPT,
            "TIDEGATE_HANDOFF_FILE": names.FILE_HANDOFF,
            "TIDEGATE_SCOPE": "\n".join(plan.spec.get("scope") or ()),
            "TIDEGATE_ACCEPTANCE": "\n".join(plan.spec.get("acceptance") or ()),
            "TIDEGATE_MODEL": str(plan.class_spec.get("model") or ""),
        }
    )
    if reviews := plan.spec.get("reviews"):
        env["TIDEGATE_REVIEWER_CONTEXT_CHARACTERS"] = str(reviews.get("maxCharacters") or 60_000)
    if plan.continuation is not None:
        env["TIDEGATE_GATE_FAILURE"] = plan.continuation.failure
    if plan.platform.gateway_url:
        base = plan.platform.gateway_url.rstrip("/").removesuffix("/v1") + "/v1"
        env.update({"OPENAI_BASE_URL": base, "OPENAI_API_BASE": base})
    return env


def _agent_resources(plan: PodPlan) -> Object:
    """The build's resources, else the class's; each kind gets a limit. A limit alone is also the request."""
    given = (plan.workers or {}).get("resources") or plan.class_spec.get("resources") or {}
    requests, limits = dict(given.get("requests") or {}), dict(given.get("limits") or {})
    for kind, limit in DEFAULT_LIMITS.items():
        if kind not in limits and kind not in requests:
            requests[kind] = DEFAULT_REQUESTS[kind]
            limits[kind] = limit
        elif kind not in limits:
            limits[kind] = requests[kind]
    return {"requests": requests, "limits": limits}


def agent_input(plan: PodPlan) -> AgentInput:
    """What `workspace` and `publisher` are given."""
    author = plan.repository.get("author") or {}
    merge_ref, merge_commit = _merged(plan)
    return AgentInput(
        url=str(plan.repository.get("url") or ""),
        target_branch=str(plan.repository.get("targetBranch") or "main"),
        task_uid=plan.task_uid,
        task=plan.task,
        attempt=plan.attempt,
        role=str(plan.spec.get("role") or "Worker"),
        prompt=assemble(plan.spec, plan.protocol, plan.continuation.failure if plan.continuation else ""),
        engine=plan.protocol,
        command=[*(plan.engine.get("command") or ()), *(plan.engine.get("args") or ())],
        timeout_seconds=plan.timeout,
        stop_seconds=int(plan.class_spec.get("stopSeconds") or 10),
        publish_seconds=int(plan.class_spec.get("publishSeconds") or 110),
        checkpoint_seconds=int(plan.class_spec.get("checkpointSeconds") or 60),
        scope=list(plan.spec.get("scope") or ()),
        acceptance=list(plan.spec.get("acceptance") or ()),
        author_name=str(author.get("name") or AUTHOR[0]),
        author_email=str(author.get("email") or AUTHOR[1]),
        agent_class=plan.agent_class,
        subject=subject(plan.task, plan.spec, plan.protocol),
        publish_branch=publish_branch(plan),
        gateway_url=plan.platform.gateway_url,
        allowed_protocols=plan.platform.git_protocols,
        review_ref=str((plan.spec.get("reviews") or {}).get("sourceRef") or ""),
        review_commit=str((plan.spec.get("reviews") or {}).get("sourceCommit") or ""),
        review_bases=list((plan.spec.get("reviews") or {}).get("baseCommits") or ()),
        merge_ref=merge_ref,
        merge_commit=merge_commit,
    )


def _merged(plan: PodPlan) -> tuple[str, str]:
    """What the workspace holds beside the target's head: the task's own work so far, or the change to make anew."""
    if plan.continuation is not None:
        return names.task_ref(plan.task_uid), plan.continuation.commit
    resolves = plan.spec.get("resolves") or {}
    return str(resolves.get("sourceRef") or ""), str(resolves.get("sourceCommit") or "")


def publish_branch(plan: PodPlan) -> str:
    """The ordinary branch for good work, where the repository asks for branches always; else empty."""
    if plan.repository.get("publishBranches") != "Always":
        return ""
    prefix = str(plan.repository.get("branchPrefix") or "tidegate/")
    whose = f"{plan.build}-{plan.build_uid[:8]}" if plan.build else f"{plan.task}-{plan.task_uid[:8]}"
    return f"refs/heads/{prefix}{whose}/{plan.task}"


def literal(value: str) -> str:
    """A value that the kubelet hands on as it is: it would replace `$(NAME)` otherwise."""
    return value.replace("$", "$$")
