"""The chart, rendered by helm."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import ROOT

CHART = ROOT / "charts" / "tidegate"
Object = dict[str, Any]

# Values that differ in what they render.
VARIANTS: dict[str, Object] = {
    "defaults": {},
    "gateway": {"gateway": {"upstream": "https://models.example.org/v1", "keySecret": {"name": "model-key"}}},
    "all-namespaces": {"namespaces": ["*"], "gateway": {"upstream": "http://llm.models.svc:8000/v1"}},
    "two-namespaces": {"namespaces": ["team-a", "team-b"], "gateway": {"upstream": "https://models.example.org/v1"}},
    "bare": {
        "operator": {"replicas": 1},
        "crds": {"install": False},
        "rbac": {"aggregateClusterRoles": False},
        "networkPolicy": {"enabled": False},
        "gates": {"profiles": {"install": False}},
        "agentClasses": {"planner": None, "default": None},
        "uninstall": {"enabled": False},
    },
    "everything": {
        "fullnameOverride": "tg",
        "global": {"imageRegistry": "registry.example.org", "imagePullSecrets": ["pull"]},
        "commonLabels": {"team": "platform"},
        "namespaces": ["team-a"],
        "operator": {
            "image": {"digest": "sha256:" + "0" * 64},
            "podLabels": {"a": "b"},
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org"}],
            "serviceAccount": {"name": "worker", "annotations": {"a": "b"}},
        },
        "git": {"allowedHosts": ["git.example.org"], "allowedHttpHosts": ["git.example.org"]},
        "gateway": {"upstream": "https://models.example.org/v1", "egress": [{"ports": [{"port": 8443}]}]},
        "crds": {"keep": False, "annotations": {"argocd.argoproj.io/sync-options": "ServerSideApply=true"}},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}], "extraEgress": [{"ports": [{"port": 3128}]}]},
        "agents": {"model": "qwen2.5-coder"},
        "gates": {
            "language": "node",
            "node": {"image": {"repository": "team/node", "tag": "20"}, "egress": [{"cidr": "192.0.2.0/24"}]},
            "go": {"image": {"repository": "team/go", "tag": "1"}},
        },
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-extra"},
                "data": {"a": "b"},
            }
        ],
    },
}


class HelmError(AssertionError):
    """Helm refused; the text is its error."""


@lru_cache
def program(name: str) -> str:
    """The path of helm or kubeconform at the pinned version; built when it isn't there."""
    command = [sys.executable, str(ROOT / "dev/cluster/cli.py"), "tools", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(Path(done.stdout.strip().splitlines()[-1]) / name)


def helm(*args: str, values: Object | None = None, kubeconfig: Path | None = None, timeout: float = 300) -> str:
    """Run helm; its output. Raises HelmError with its error text."""
    command = [program("helm"), *args]
    if values is not None:
        command += ["--values", "-"]
    if kubeconfig:
        command.append(f"--kubeconfig={kubeconfig}")
    done = subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise HelmError(done.stderr.strip())
    return done.stdout


def rendered(
    values: Object, *flags: str, release: str = "tidegate", namespace: str = "tidegate-system"
) -> list[Object]:
    """The objects of a release, and those that it ships in a ConfigMap."""
    text = helm("template", release, str(CHART), "--namespace", namespace, *flags, values=values)
    objects = [obj for obj in yaml.safe_load_all(text) if obj]
    return objects + [obj for whole in objects for obj in shipped(whole)]


def shipped(obj: Object) -> list[Object]:
    """The AgentClasses and GateProfiles in a release's ConfigMap; none in any other object."""
    text = obj.get("data", {}).get("shipped.yaml", "") if obj["kind"] == "ConfigMap" else ""
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind by name."""
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}
