"""The Pod of a gate run. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate import names
from tidegate.api.gates import TIMEOUT, judged
from tidegate.api.wire import GateInput, JudgeInput
from tidegate.lane.verdict import JUDGE_ALLOWANCE

Object = dict[str, Any]

USER = 1000
START_ALLOWANCE = 900  # seconds for scheduling, pulling and checkout, on top of the gate's own time
CHECKOUT_RESOURCES: Object = {
    "requests": {"cpu": "20m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "4Gi"},
}
JUDGE_RESOURCES: Object = {
    "requests": {"cpu": "20m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
    "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "64Mi"},
}
GATE_RESOURCES: Object = {
    "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "256Mi"},
    "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "4Gi"},
}


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What the platform decides about gate Pods."""

    runner_image: str
    image_pull_policy: str
    protocols: str
    holder: str  # the process that makes the Pod


def gate_pod(run: Object, lane: str, settings: PodSettings) -> Object:
    """The Pod for a GateRun (metadata and spec as the API server has them)."""
    meta, spec = run["metadata"], run["spec"]
    gate = spec["gate"]
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_COMPONENT: names.COMPONENT_GATE,
        names.LABEL_LANE: lane,
        names.LABEL_GATE: names.bounded_name(gate["name"]),
        names.LABEL_GATE_RUN: names.bounded_name(meta["name"]),
        names.LABEL_PURPOSE: str(spec.get("purpose", "Candidate")).lower(),
    }
    if gate.get("egress"):
        labels[names.LABEL_EGRESS] = egress_mark(gate["egress"])
    return {
        "metadata": {
            "name": meta["name"],
            "labels": labels,
            "annotations": {names.ANNOTATION_GATE_HOLDER: settings.holder},
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "GateRun",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": _spec(spec, gate, settings),
    }


def _spec(spec: Object, gate: Object, settings: PodSettings) -> Object:
    secret = spec["repository"].get("credentialsSecretName")
    containers = [_checkout(spec, gate, settings, secret), _gate(spec, gate, settings)]
    if judged(gate):  # nothing of the gate runs any more when its reports are read
        containers.append(_judge(gate, settings))
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "activeDeadlineSeconds": int(gate.get("timeoutSeconds", TIMEOUT))
        + START_ALLOWANCE
        + JUDGE_ALLOWANCE * judged(gate),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": containers[:-1],
        "containers": containers[-1:],
        "volumes": [
            _scratch("workspace", "4Gi"),
            _scratch("state", "4Gi"),
            _scratch("home", "2Gi"),
            _scratch("tmp", "2Gi"),
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
            *([{"name": "git", "secret": {"secretName": secret, "defaultMode": 0o440}}] if secret else []),
        ],
    }


def _checkout(spec: Object, gate: Object, settings: PodSettings, secret: str | None) -> Object:
    given = GateInput(
        url=spec["repository"]["url"],
        commit=spec["commit"],
        fetch_ref=spec["fetchRef"],
        base=spec.get("baseCommit") or "",
        tree_only=gate.get("input", "Tree") == "Tree",
        timeout_seconds=int(gate.get("timeoutSeconds", TIMEOUT)),
        allowed_protocols=settings.protocols,
        reports=[path for part in ("coverage", "tests") for path in (gate.get(part) or {}).get("paths") or ()],
    )
    mounts = [("workspace", names.PATH_WORKSPACE), ("state", names.PATH_STATE), ("tmp", names.PATH_TMP)]
    credentials = [{"name": "git", "mountPath": names.PATH_GIT_CREDENTIALS, "readOnly": True}] if secret else []
    return {
        "name": names.CONTAINER_CHECKOUT,
        "image": settings.runner_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["checkout"],
        "env": [*(_variable(*piece) for piece in given.variables().items()), *_places()],
        "resources": CHECKOUT_RESOURCES,
        "securityContext": _restricted(),
        "volumeMounts": [*({"name": name, "mountPath": path} for name, path in mounts), *credentials],
    }


def _gate(spec: Object, gate: Object, settings: PodSettings) -> Object:
    env = [_variable(one["name"], str(one.get("value", ""))) for one in gate.get("env") or ()]
    mounts = [
        ("workspace", names.PATH_WORKSPACE),
        ("home", names.PATH_HOME),
        ("tmp", names.PATH_TMP),
        ("shm", "/dev/shm"),  # noqa: S108 - a mount point
    ]
    return {
        "name": names.CONTAINER_GATE,
        "image": gate["image"],
        "imagePullPolicy": settings.image_pull_policy,
        "command": [_literal(word) for word in gate["command"]],
        "workingDir": names.PATH_WORKSPACE,
        "env": [
            *env,
            *_places(),
            _variable("CI", "true"),
            _variable("TIDEGATE_COMMIT", spec["commit"]),
            _variable("TIDEGATE_BASE_COMMIT", spec.get("baseCommit") or ""),
        ],
        "resources": gate.get("resources") or GATE_RESOURCES,
        "securityContext": _restricted(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
    }


def _judge(gate: Object, settings: PodSettings) -> Object:
    """Ours, and the last: it has nothing but the checkout, to read."""
    coverage = gate.get("coverage") or {}
    given = JudgeInput(
        coverage_paths=list(coverage.get("paths") or ()),
        coverage_format=coverage.get("format") or "",
        minimum_percent=str(coverage.get("minimumPercent", 0)),
        test_paths=list((gate.get("tests") or {}).get("paths") or ()),
    )
    return {
        "name": names.CONTAINER_JUDGE,
        "image": settings.runner_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["judge"],
        "workingDir": "/",
        "env": [*(_variable(*piece) for piece in given.variables().items()), _variable("PYTHONNOUSERSITE", "1")],
        "resources": JUDGE_RESOURCES,
        "securityContext": _restricted(),
        "volumeMounts": [{"name": "workspace", "mountPath": names.PATH_WORKSPACE, "readOnly": True}],
    }


def _places() -> list[Object]:
    """Where a process may write, on a root file system that it can't."""
    home = names.PATH_HOME
    places = {
        "HOME": home,
        "TMPDIR": names.PATH_TMP,
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "XDG_STATE_HOME": f"{home}/.local/state",
        "PYTHONUSERBASE": f"{home}/.local",
        "NPM_CONFIG_PREFIX": f"{home}/.npm-global",
    }
    return [_variable(name, value) for name, value in places.items()]


def _restricted() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _scratch(name: str, size: str) -> Object:
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def _variable(name: str, value: str) -> Object:
    return {"name": name, "value": _literal(value)}


def _literal(text: str) -> str:
    """Text that the kubelet, which replaces `$(NAME)`, leaves as it is."""
    return text.replace("$", "$$")


def egress_mark(egress: object) -> str:
    """A label value that stands for what a gate may reach."""
    return hashlib.sha256(json.dumps(egress, sort_keys=True).encode()).hexdigest()[:16]


def egress_policy(egress: list[Mapping[str, Any]]) -> Object:
    """The NetworkPolicy that lets Pods with the egress label out to what their gate names."""
    mark = egress_mark(egress)
    labels = {names.LABEL_MANAGED_BY: names.OPERATOR, names.LABEL_PART_OF: names.OPERATOR}
    return {
        "metadata": {"name": f"tidegate-gate-{mark}", "labels": labels},
        "spec": {
            "podSelector": {"matchLabels": {names.LABEL_MANAGED_BY: names.OPERATOR, names.LABEL_EGRESS: mark}},
            "policyTypes": ["Egress"],
            "egress": [_egress_rule(one) for one in egress],
        },
    }


def _egress_rule(one: Mapping[str, Any]) -> Object:
    peer: Object = {"ipBlock": {"cidr": one["cidr"]}} if one.get("cidr") else {}
    for key in ("namespaceSelector", "podSelector"):
        if one.get(key) is not None:
            peer[key] = one[key]
    rule: Object = {"to": [peer]}
    if one.get("ports"):
        rule["ports"] = [{"port": port["port"], "protocol": port.get("protocol", "TCP")} for port in one["ports"]]
    return rule
