"""What a team has: a namespace with its git token, a repository, agent classes and gate profiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import objects
from tests.support.cluster import Cluster, condition, fresh_name, wait_until
from tests.support.git import Clone
from tests.support.gitserver import GitServer
from tests.support.images import image
from tests.support.operator import Operator

MOST_NAMESPACES = 40
SEED = {"README.md": "A repository for tests.\n", "shared.txt": "one\ntwo\nthree\n"}


@dataclass
class Team:
    """One namespace and one repository, seen as a user sees them."""

    cluster: Cluster
    namespace: str
    url: str
    clone: Clone
    script_class: str
    profile: str

    def build(self, name: str, tasks: list[dict[str, Any]], **spec: Any) -> None:
        """Apply a BuildRequest with a static plan of Script tasks."""
        spec = {"agent_class": self.script_class, "profile": self.profile, **spec}
        self.cluster.apply(objects.build(name, self.url, tasks, **spec), namespace=self.namespace)

    def finalized(self, name: str, seconds: float = 240) -> dict[str, Any]:
        """Wait for the build's verdict: the condition `Finalized`."""

        def verdict() -> dict[str, Any]:
            found = condition(self.cluster.get("buildrequest", name, self.namespace), "Finalized")
            return found if found.get("status") == "True" else {}

        return wait_until(verdict, seconds, f"the verdict of {name}", every=1)

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """An object's status."""
        found: dict[str, Any] = self.cluster.get(kind, name, self.namespace).get("status") or {}
        return found

    def task_in_state(self, name: str, state: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a task is in a state; its status."""

        def reached() -> dict[str, Any]:
            status = self.status("agenttask", name)
            return status if status.get("state") == state else {}

        return wait_until(reached, seconds, f"{name} to be {state}", every=0.5)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks of the namespace by name."""
        return {t["metadata"]["name"]: t for t in self.cluster.list("agenttasks", self.namespace)}


@pytest.fixture(scope="session")
def namespaces() -> tuple[str, ...]:
    """Names for the namespaces of these tests: their operator serves these alone, whatever else is in the cluster."""
    prefix = fresh_name("t")
    return tuple(f"{prefix}-{number}" for number in range(MOST_NAMESPACES))


@pytest.fixture(scope="session")
def unused_namespaces(namespaces: tuple[str, ...]) -> list[str]:
    """Each name until it is taken."""
    return list(namespaces)


@pytest.fixture
def namespace(cluster: Cluster, unused_namespaces: list[str]) -> Iterator[str]:
    """A namespace that the operator serves; it enforces Pod Security `restricted`, and is deleted afterwards."""
    assert unused_namespaces, "more tests than MOST_NAMESPACES: raise it"
    name = unused_namespaces.pop()
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def operator(
    cluster: Cluster, git_server: GitServer, namespaces: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Two replicas of the operator as processes of this machine."""
    operator = Operator(cluster, git_server, tmp_path_factory.mktemp("operator"), NAMESPACES=",".join(namespaces))
    operator.start(2)
    yield operator
    try:
        cluster.await_namespaces_gone(namespaces)
    finally:
        operator.stop()


@pytest.fixture(scope="session")
def script_class(cluster: Cluster) -> Iterator[str]:
    """An AgentClass whose prompt is the script."""
    name = fresh_name("script")
    cluster.apply(objects.agent_class(name, image("runner")))
    yield name
    cluster.kubectl("delete", "agentclass", name, "--wait=false")


@pytest.fixture(scope="session")
def profile(cluster: Cluster) -> Iterator[str]:
    """A GateProfile that passes unless the tree holds a file `broken`."""
    name = fresh_name("profile")
    cluster.apply(objects.gate_profile(name, image("runner"), whole="test ! -e broken", readable="test -s README.md"))
    yield name
    cluster.kubectl("delete", "gateprofile", name, "--wait=false")


@pytest.fixture
def team(
    cluster: Cluster,
    operator: Operator,  # runs for the whole session
    git_server: GitServer,
    namespace: str,
    script_class: str,
    profile: str,
    tmp_path: Path,
) -> Team:
    """A team that is ready to apply builds."""
    repository = git_server.make_repository(SEED)
    cluster.apply(git_server.credentials(), namespace=namespace)
    clone = git_server.clone(repository, tmp_path / "clone.git")
    return Team(cluster, namespace, git_server.url(repository), clone, script_class, profile)
