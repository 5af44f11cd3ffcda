"""What enforcement needs to know of Pods and NetworkPolicies, and label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Direction = Literal["ingress", "egress"]
Json = Mapping[str, Any]

_TERMINAL = {"Succeeded", "Failed"}


@dataclass(frozen=True)
class Port:
    """A named container port."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """A Pod on the Pod network. `address` is empty until it has one."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    ports: tuple[Port, ...]
    address: str

    def at(self, address: str) -> Pod:
        """The same Pod at another address."""
        return replace(self, address=address)


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy; `spec` as the API server accepted it."""

    namespace: str
    name: str
    spec: Json

    def covers(self, direction: Direction) -> bool:
        """Whether Pods that this policy selects are isolated in that direction."""
        types = self.spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in self.spec else [])]
        return direction in {entry.lower() for entry in types}

    def selects(self, pod: Pod) -> bool:
        """Whether the policy applies to the Pod."""
        return pod.namespace == self.namespace and matches(self.spec.get("podSelector") or {}, pod.labels)


def pod_of(item: Json) -> Pod | None:
    """The Pod of an API object; None where no rule concerns it (it has ended, or lives in the host's network)."""
    spec, status, metadata = item["spec"], item.get("status") or {}, item["metadata"]
    if spec.get("hostNetwork") or status.get("phase") in _TERMINAL:
        return None
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    ports = tuple(
        Port(port["name"], port.get("protocol", "TCP"), int(port["containerPort"]))
        for container in containers
        for port in container.get("ports") or []
        if port.get("name")
    )
    labels = dict(metadata.get("labels") or {})
    return Pod(metadata["namespace"], metadata["name"], metadata["uid"], labels, ports, status.get("podIP") or "")


def policy_of(item: Json) -> Policy:
    """The policy of an API object."""
    return Policy(item["metadata"]["namespace"], item["metadata"]["name"], item.get("spec") or {})


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; the empty selector matches everything."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            raise ValueError(f"unknown selector operator {operator!r}")
