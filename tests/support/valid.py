"""One valid object of each kind, to be spoilt by tests, and ways to change them."""

from __future__ import annotations

import copy
from typing import Any

from tidegate import names

Object = dict[str, Any]
REMOVED = object()

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URL = "https://git.example.org/team/mathkit.git"

GATE: Object = {
    "name": "tests",
    "image": "registry.example.org/python:3.11",
    "command": ["pytest", "-q"],
    "input": "Repository",
    "env": [{"name": "PYTHONHASHSEED", "value": "0"}],
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}},
    "egress": [{"cidr": "192.0.2.0/24", "ports": [{"port": 443}]}],
    "coverage": {"minimumPercent": 85, "paths": ["out/coverage.xml"], "format": "Cobertura"},
    "tests": {"paths": ["out/junit.xml", "out/more.xml"]},
}

SPECS: dict[str, Object] = {
    "BuildRequest": {
        "request": "Add a module with add and sub of rational numbers, with tests.",
        "repository": {
            "url": URL,
            "targetBranch": "release/1.2",
            "credentialsSecretName": "git-token",
            "author": {"name": "Team A", "email": "team-a@example.org"},
            "publishBranches": "Always",
            "branchPrefix": "tidegate/team-a/",
        },
        "planning": {
            "tasks": [
                {
                    "name": "one",
                    "prompt": "Write one.py",
                    "scope": ["src/**/*.py"],
                    "acceptance": ["tests/test_one.py"],
                },
                {"name": "two", "prompt": "Write two.py", "dependsOn": ["one"], "role": "Tester", "priority": 1},
            ]
        },
        "workers": {
            "agentClassName": "aider",
            "maxParallel": 4,
            "retry": {"limit": 1, "backoffSeconds": 1, "maxBackoffSeconds": 5},
            "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        },
        "merge": {"strategy": "Squash", "gateProfileName": "standard"},
        "sweep": {"intervalSeconds": 30},
        "finalization": {"maxAttempts": 2},
        "ttlSecondsAfterFinished": 3600,
    },
    "AgentTask": {
        "repository": {"url": "ssh://git.example.org:2222/team/mathkit.git"},
        "prompt": "echo hello > hello.txt",
        "scope": ["docs/*.md"],
        "dependsOn": [{"name": "first"}, {"name": "second", "until": "Complete"}],
        "retryLimit": 1,
    },
    "MergeJob": {
        "taskRef": {"name": "one", "uid": "5f0c9a3e-0000-4000-8000-000000000000"},
        "repository": {"url": URL, "credentialsSecretName": "git-token"},
        "sourceRef": "refs/tidegate/tasks/5f0c9a3e-0000-4000-8000-000000000000",
        "sourceCommit": COMMIT,
        "targetBranch": "main",
    },
    "MergeLane": {
        "repository": {"url": URL},
        "targetBranch": "main",
        "strategies": ["Rebase", "Squash"],
        "protectedPaths": ["deploy/**"],
    },
    "GateRun": {
        "repository": {"url": URL},
        "laneRef": {"name": "mathkit-main-0123456789"},
        "commit": COMMIT,
        "fetchRef": f"refs/tidegate/lanes/0123456789/candidates/{COMMIT}",
        "gate": GATE,
    },
    "AgentClass": {
        "image": "registry.example.org/agent-aider:1",
        "engine": {"protocol": "Exec", "command": ["aider"], "args": ["--yes"], "env": [{"name": "A", "value": "b"}]},
        "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1"}},
        "egress": [{"namespaceSelector": {"matchLabels": {"name": "git"}}, "podSelector": {}}],
        "allowedNamespaces": ["team-a"],
    },
    "GateProfile": {"gates": [GATE]},
}


def valid(kind: str, name: str = "good") -> Object:
    """A valid object of that kind."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(SPECS[kind]),
    }


def changed(obj: Object, path: str, value: Any) -> Object:
    """A copy with the field at the dotted path set, or taken out for REMOVED; numbers are list indexes."""
    out = copy.deepcopy(obj)
    *parents, last = path.split(".")
    holder: Any = out
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
    if value is REMOVED:
        del holder[last]
    elif isinstance(holder, list):
        index = int(last)
        holder[index : index + 1] = [value]
    else:
        holder[last] = value
    return out
