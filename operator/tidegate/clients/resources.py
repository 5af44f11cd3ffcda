"""Where the API server serves each kind: the only table of groups, versions and plurals that requests are made from."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.names import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind and its path. `group` is empty for the core group."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The value of `apiVersion` in objects of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The URL path of one object, or of the collection when `name` is empty; None means all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


def _own(kind: str, plural: str, *, namespaced: bool = True) -> Resource:
    return Resource(kind, GROUP, VERSION, plural, namespaced)


RESOURCES: dict[str, Resource] = {
    resource.kind: resource
    for resource in (
        _own("BuildRequest", "buildrequests"),
        _own("AgentTask", "agenttasks"),
        _own("MergeJob", "mergejobs"),
        _own("MergeLane", "mergelanes"),
        _own("GateRun", "gateruns"),
        _own("AgentClass", "agentclasses", namespaced=False),
        _own("GateProfile", "gateprofiles", namespaced=False),
        Resource("Pod", "", "v1", "pods"),
        Resource("Secret", "", "v1", "secrets"),
        Resource("ConfigMap", "", "v1", "configmaps"),
        Resource("Service", "", "v1", "services"),
        Resource("ServiceAccount", "", "v1", "serviceaccounts"),
        Resource("Namespace", "", "v1", "namespaces", namespaced=False),
        Resource("Node", "", "v1", "nodes", namespaced=False),
        Resource("Event", "events.k8s.io", "v1", "events"),
        Resource("Job", "batch", "v1", "jobs"),
        Resource("Deployment", "apps", "v1", "deployments"),
        Resource("Lease", "coordination.k8s.io", "v1", "leases"),
        Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
        Resource("TokenReview", "authentication.k8s.io", "v1", "tokenreviews", namespaced=False),
        Resource(
            "CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False
        ),
    )
}


def register(resource: Resource) -> None:
    """Add a kind to the table: for tools that need more of the API than the operator."""
    RESOURCES[resource.kind] = resource


def resource_of(kind: str) -> Resource:
    """The resource of a kind; raises KeyError with the known kinds for an unknown one."""
    try:
        return RESOURCES[kind]
    except KeyError:
        raise KeyError(f"unknown kind {kind!r}; known: {', '.join(sorted(RESOURCES))}") from None
