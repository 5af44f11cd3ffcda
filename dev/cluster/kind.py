"""kind, where Docker answers: a thin layer over its own command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dev.cluster import build, shell
from dev.cluster.errors import ClusterError
from dev.cluster.progress import step
from dev.cluster.settings import cache_root

NAME = "tidegate"
UP_SECONDS = 600


def docker_answers() -> bool:
    """Whether a Docker engine (not only its client) answers."""
    return shell.succeeds(["docker", "info"], timeout=10)


def kubeconfig() -> Path:
    """Where kind writes the kubeconfig of our cluster."""
    return cache_root() / "kind.kubeconfig"


def _kind() -> Path:
    installed = shell.find("kind")
    return installed or build.link("kind", build.build(build.TOOL_PROGRAMS["kind"]))


def _exists() -> bool:
    return NAME in shell.run([_kind(), "get", "clusters"]).split()


def up(nodes: int) -> None:
    """Make the cluster, or write the kubeconfig of the one that is there."""
    if not docker_answers():
        raise ClusterError("kind needs Docker and `docker info` fails. Cure: start Docker, or TIDEGATE_CLUSTER=local")
    if _exists():
        shell.run([_kind(), "export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig()])
        return
    document = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(nodes - 1))],
    }
    create: list[str | Path] = [
        "create",
        "cluster",
        "--name",
        NAME,
        "--kubeconfig",
        kubeconfig(),
        "--wait",
        "120s",
        "--config",
        "-",
    ]
    kubeconfig().parent.mkdir(parents=True, exist_ok=True)
    with step(f"Creating the kind cluster {NAME}"):
        shell.run([_kind(), *create], stdin=json.dumps(document), timeout=UP_SECONDS)


def down() -> None:
    """Delete our cluster; no other."""
    with step(f"Deleting the kind cluster {NAME}"):
        shell.run([_kind(), "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig()])


def load(archives: Sequence[Path]) -> None:
    """Load image archives into every node."""
    for path in archives:
        with step(f"Loading {path.name}"):
            shell.run([_kind(), "load", "image-archive", "--name", NAME, path])


def addresses() -> str:
    """The kind network's ranges as JSON, in the same words as the local cluster's."""
    container = f"{NAME}-control-plane"
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    node = shell.run(["docker", "inspect", "-f", address, container]).strip()
    known = {"mode": "kind", "kubeconfig": str(kubeconfig()), "nodeAddresses": [node]}
    ranges = {"podRange": "10.244.0.0/16", "serviceRange": "10.96.0.0/16", "dns": "10.96.0.10"}
    return json.dumps({**known, **ranges}, indent=1)
