"""Fixtures every suite may use. What needs a cluster fails without one: a skipped suite proves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.cluster import Cluster, fresh_name
from tests.support.gitserver import GitServer

settings.register_profile("thorough", max_examples=2000, deadline=None)  # pytest --hypothesis-profile=thorough
settings.register_profile("repeatable", derandomize=True)  # what passed here passes there; the other one explores
settings.load_profile("repeatable")


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


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own that enforces Pod Security `restricted`; deleted afterwards."""
    name = fresh_name("t")
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def git_server(cluster: Cluster) -> Iterator[GitServer]:
    """A git server in the cluster that host and Pods reach under one URL."""
    server = GitServer.start(cluster)
    yield server
    server.stop()
