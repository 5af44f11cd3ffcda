"""NetworkPolicies that must be in a namespace before its first Pod."""

from __future__ import annotations

from typing import Any

import orjson

from tidegate.names import LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_PART_OF, OPERATOR
from tidegate.runtime.context import Context


def _selector(component: str = "") -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: OPERATOR}
    if component:
        labels[LABEL_COMPONENT] = component
    return {"matchLabels": labels}


def policy(name: str, component: str, egress: list[dict[str, Any]]) -> dict[str, Any]:
    """A NetworkPolicy that lets the Pods of a component (`agent`, `gate`) out to what is named. Pure."""
    return {
        "metadata": {"name": name, "labels": {LABEL_MANAGED_BY: OPERATOR, LABEL_PART_OF: OPERATOR}},
        "spec": {"podSelector": _selector(component), "policyTypes": ["Egress"], "egress": egress},
    }


def default_deny() -> dict[str, Any]:
    """No traffic to or from any Pod of ours. Pure."""
    return {
        "metadata": {"name": "tidegate-default-deny", "labels": {LABEL_MANAGED_BY: OPERATOR, LABEL_PART_OF: OPERATOR}},
        "spec": {"podSelector": _selector(), "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    }


def dns_egress() -> dict[str, Any]:
    """An egress rule for DNS to wherever the cluster's DNS is. Port 1053 is where some clusters' DNS Pods listen."""
    ports = [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP") for port in (53, 1053)]
    return {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": ports}


async def ensure_isolated(ctx: Context, namespace: str, policies: list[dict[str, Any]]) -> None:
    """Have default-deny and the given policies (full objects without apiVersion and kind) in a namespace.

    Each content is applied once per process and checked against the server again when it changes; returns only when
    all exist. Raises what the API server raises: then no Pod may be started.
    """
    for obj in (default_deny(), *policies):
        content = orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)
        mark = (namespace, obj["metadata"]["name"])
        if ctx.applied.get(mark) == content:
            continue
        body = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
        await ctx.writer.apply("NetworkPolicy", namespace, body)
        ctx.applied[mark] = content
