"""The rights and policies of a release, in force for operators that run as processes of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.chart import rendered
from tests.support.cluster import Cluster, RefusedError, wait_until
from tests.support.valid import valid
from tidegate.names import ANNOTATION_GATE_HOLDER, COMPONENT_GATE, LABEL_COMPONENT, LABEL_LANE

LANE = "policy-probe"
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
POLICIES = ("gates", "served")  # those about people's answers would hold for everybody in the cluster


@contextmanager
def account(cluster: Cluster, name: str, home: str, served: str, directory: Path) -> Iterator[Path]:
    """The kubeconfig of the operator's account of a release `name` in the namespace `home` that serves a namespace.
    Its Lease has the release's name too, and the policy about gates is in force."""
    whole = rendered({"namespaces": [served], "fullnameOverride": name}, release=name, namespace=home)
    policies = [f"{name}-{policy}" for policy in POLICIES]
    objects = [obj for obj in whole if obj["kind"] in RIGHTS or obj["metadata"]["name"] in policies]
    try:
        for obj in objects:
            cluster.apply(obj, namespace=obj["metadata"].get("namespace"))
        config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
        token = cluster.kubectl("create", "token", name, "-n", home).strip()
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path = directory / "account.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        cluster.apply(valid("MergeLane", LANE), namespace=served)
        who = f"system:serviceaccount:{home}:{name}"
        wait_until(lambda: _in_force(cluster, who, served), 60, "the policy about gates")
        cluster.kubectl("delete", "mergelane", LANE, "-n", served)
        yield path
    finally:
        for obj in objects:
            scope = obj["metadata"].get("namespace") or home
            cluster.kubectl("delete", obj["kind"], obj["metadata"]["name"], "-n", scope, "--ignore-not-found")


def gate_pod(name: str, lane: str, holder: str = "") -> dict[str, Any]:
    """A gate's Pod, as far as the policy is concerned."""
    meta = {"name": name, "labels": {LABEL_COMPONENT: COMPONENT_GATE, LABEL_LANE: lane}}
    signed = {**meta, "annotations": {ANNOTATION_GATE_HOLDER: holder}} if holder else meta
    inside = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "localhost/none:1", "securityContext": inside}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": signed, "spec": spec}


def _in_force(cluster: Cluster, account: str, served: str) -> bool:
    """Whether a Pod that nobody signed is refused: a new policy takes a moment."""
    text = json.dumps(gate_pod("p", LANE))
    try:
        cluster.kubectl("create", "-n", served, f"--as={account}", "--dry-run=server", "-f", "-", stdin=text)
    except RefusedError as error:
        return ANNOTATION_GATE_HOLDER in str(error)
    return False
