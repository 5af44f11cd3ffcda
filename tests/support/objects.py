"""Builders of the objects that tests apply."""

from __future__ import annotations

from typing import Any

from tidegate import names

Object = dict[str, Any]


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def build(name: str, url: str, tasks: list[Object], *, agent_class: str, profile: str, **spec: Any) -> Object:
    """A BuildRequest with a static plan."""
    body: Object = {
        "request": f"what the tasks of {name} say",
        "repository": {"url": url, "credentialsSecretName": "git-token"},
        "planning": {"tasks": tasks},
        "workers": {"agentClassName": agent_class, "maxParallel": 5, "timeoutSeconds": 120},
        "merge": {"gateProfileName": profile},
        **spec,
    }
    return _object("BuildRequest", name, body)


def task(name: str, script: str, *depends_on: str, **fields: Any) -> Object:
    """A task of a static plan whose prompt is a script."""
    body: Object = {"name": name, "prompt": script, **fields}
    if depends_on:
        body["dependsOn"] = list(depends_on)
    return body


def agent_task(name: str, url: str, script: str, *, agent_class: str, **spec: Any) -> Object:
    """An AgentTask that stands alone."""
    repository = {"url": url, "credentialsSecretName": "git-token"}
    return _object(
        "AgentTask", name, {"repository": repository, "prompt": script, "agentClassName": agent_class, **spec}
    )


def agent_class(name: str, image: str, protocol: str = "Script", **spec: Any) -> Object:
    """An AgentClass with small requests, quick to stop."""
    body: Object = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "engine": {"protocol": protocol},
        "stopSeconds": 3,
        "publishSeconds": 30,
        "resources": {
            "requests": {"cpu": "20m", "memory": "32Mi"},
            "limits": {"cpu": "1", "memory": "128Mi"},
        },
        **spec,
    }
    return _object("AgentClass", name, body)


def gate_profile(name: str, image: str, **gates: str) -> Object:
    """A GateProfile of shell commands, in the order given."""
    listed = [
        {"name": gate.replace("_", "-"), "image": image, "command": ["sh", "-c", command], "timeoutSeconds": 120}
        for gate, command in gates.items()
    ]
    return _object("GateProfile", name, {"gates": listed})
