"""NetworkPolicies for agent Pods: DNS, the gateway, the git hosts, and what their class names."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tidegate import names
from tidegate.runtime.network import dns_egress, policy
from tidegate.settings import Settings

Object = dict[str, Any]
GATEWAY_LABELS = {"app.kubernetes.io/name": names.OPERATOR, "app.kubernetes.io/component": "gateway"}


def agent_policies(settings: Settings, agent_class: str, class_spec: Mapping[str, Any]) -> list[Object]:
    """The policies that must be there before a Pod of the class starts."""
    common = policy(
        "tidegate-agent", names.COMPONENT_AGENT, [dns_egress(), *gateway_egress(settings), *settings.git_egress]
    )
    own = policy(
        names.bounded_name("tidegate-class", agent_class),
        names.COMPONENT_AGENT,
        [rule(peer) for peer in class_spec.get("egress") or ()],
    )
    own["spec"]["podSelector"]["matchLabels"][names.LABEL_CLASS] = names.bounded_name(agent_class)
    return [common, own]


def gateway_egress(settings: Settings) -> list[Object]:
    """The rule for the gateway: its Pods, or its address where it runs outside the cluster."""
    if not settings.gateway_url:
        return []
    parts = urlsplit(settings.gateway_url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        namespace = settings.gateway_namespace or settings.operator_namespace
        peer = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "podSelector": {"matchLabels": GATEWAY_LABELS},
        }
        return [{"to": [peer]}]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    cidr = f"{address}/{address.max_prefixlen}"
    return [{"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port, "protocol": "TCP"}]}]


def rule(peer: Mapping[str, Any]) -> Object:
    """An egress rule from an entry of a class's `egress`."""
    if peer.get("cidr"):
        target: Object = {"ipBlock": {"cidr": peer["cidr"]}}
    else:
        target = {
            key: _selector(peer[key]) for key in ("namespaceSelector", "podSelector") if peer.get(key) is not None
        }
    made: Object = {"to": [target]}
    if peer.get("ports"):
        made["ports"] = [{"port": p["port"], "protocol": p.get("protocol") or "TCP"} for p in peer["ports"]]
    return made


def _selector(given: Mapping[str, Any]) -> Object:
    return {"matchLabels": dict(given["matchLabels"])} if given.get("matchLabels") else {}
