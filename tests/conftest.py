"""Fixtures every suite may use. What needs a cluster fails without one: a skipped suite proves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.cluster import Cluster, fresh_name
from tests.support.gitserver import GitServer
from tests.support.operator import Operator

settings.register_profile("thorough", max_examples=2000, deadline=None)  # pytest --hypothesis-profile=thorough


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the cluster under test."""
    path = os.environ.get("KUBECONFIG", "")
    if not path:
        if os.environ.get("TIDEGATE_NO_CLUSTER") == "1":
            pytest.skip("TIDEGATE_NO_CLUSTER=1")
        pytest.fail('set KUBECONFIG: make cluster-up, then KUBECONFIG="$(make -s kubeconfig)"')
    return Path(path)


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    """The cluster with Tidegate's resource definitions and the shipped gate images."""
    cluster = Cluster(kubeconfig)
    cluster.install_definitions()
    return cluster


@pytest.fixture(scope="session")
def namespaces() -> tuple[str, ...]:
    """Names for this run's namespaces: its operators serve these alone, whatever else runs in the cluster."""
    prefix = fresh_name("t")
    return tuple(f"{prefix}-{number}" for number in range(60))


@pytest.fixture(scope="session")
def unused_namespaces(namespaces: tuple[str, ...]) -> Iterator[str]:
    """Each name once."""
    return iter(namespaces)


@pytest.fixture
def namespace(cluster: Cluster, unused_namespaces: Iterator[str]) -> Iterator[str]:
    """A namespace of its own that enforces Pod Security `restricted`; deleted afterwards."""
    name = next(unused_namespaces)
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def git_server(cluster: Cluster) -> Iterator[GitServer]:
    """A git server in the cluster that host and Pods reach under one URL."""
    server = GitServer.start(cluster)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def operator(
    cluster: Cluster, git_server: GitServer, namespaces: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Two replicas of the operator as processes of this machine, for the namespaces of this run."""
    directory = tmp_path_factory.mktemp("operator")
    operator = Operator(cluster, git_server, directory, NAMESPACES=",".join(namespaces))
    operator.start(2)
    yield operator
    operator.stop()
