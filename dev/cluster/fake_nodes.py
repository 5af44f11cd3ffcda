"""Fake nodes: Node objects that kwok keeps alive, for scale without containers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from dev.cluster import build, processes
from dev.cluster.api import Api, ApiError
from dev.cluster.errors import ClusterError
from dev.cluster.progress import step
from dev.cluster.settings import ADMIN_KUBECONFIG, PKI, STATE, TEMPLATES, Network

STAGES_VARIABLE = "TIDEGATE_KWOK_STAGES"
ANNOTATION = "kwok.x-k8s.io/node"
LABEL = "tidegate.dev/fake-node"
PODS_PER_NODE = 2000
PROCESS = "kwok"


def start(network: Network, count: int, stages: Path | None) -> None:
    """Run kwok with the stage file and make nodes `fake-1` to `fake-<count>`.

    The stage file is `stages`, else what TIDEGATE_KWOK_STAGES names, else our own; kwok starts again when it changed.
    """
    given = stages or Path(os.environ.get(STAGES_VARIABLE) or TEMPLATES / "stages.yaml")
    if not given.is_file():
        raise ClusterError(f"no such stage file for fake nodes: {given}")
    with step(f"Making {count} fake nodes"):
        binary = build.link(PROCESS, build.build(build.TOOL_PROGRAMS[PROCESS]))
        _run(binary, network, given)
        api = Api(ADMIN_KUBECONFIG)
        for index in range(1, count + 1):
            _make(api, f"fake-{index}")
        processes.wait_until(lambda: _ready(api) >= count, "fake nodes", 60, PROCESS)


def _run(binary: Path, network: Network, stages: Path) -> None:
    kept = STATE / "stages.yaml"
    if not kept.exists() or kept.read_bytes() != stages.read_bytes():
        processes.stop(PROCESS, 5)
        shutil.copyfile(stages, kept)
    flags = {
        "kubeconfig": PKI / "kwok.kubeconfig",
        "config": kept,
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": f"{ANNOTATION}=fake",
        "node-lease-duration-seconds": 40,
        "cidr": network.fake_pods,
        "v": "WARN",
    }
    processes.start(PROCESS, [binary.resolve(), *(f"--{name}={value}" for name, value in flags.items())])


def _make(api: Api, name: str) -> None:
    capacity = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "100Ti", "pods": str(PODS_PER_NODE)}
    labels = {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"}
    node: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {ANNOTATION: "fake"}, "labels": labels},
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
    try:
        api.request("POST", "/api/v1/nodes", node)
    except ApiError as refused:
        if refused.status != 409:
            raise


def _ready(api: Api) -> int:
    nodes = api.get(f"/api/v1/nodes?labelSelector={LABEL}")["items"]
    conditions = [entry for node in nodes for entry in node["status"].get("conditions", [])]
    return sum(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def remove() -> None:
    """Forget a kwok that has ended, and delete the fake Node objects that it left."""
    processes.stop(PROCESS, 0)
    api = Api(ADMIN_KUBECONFIG)
    for node in api.get(f"/api/v1/nodes?labelSelector={LABEL}")["items"]:
        api.request("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")
