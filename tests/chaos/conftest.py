"""A team whose operator is the test's own: its replicas can be killed, stopped and cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import profile, script_class, team
from tests.support.api_proxy import ApiProxy
from tests.support.cluster import Cluster
from tests.support.gitserver import GitServer
from tests.support.operator import Operator

__all__ = ["profile", "script_class", "team"]


@pytest.fixture
def operator(cluster: Cluster, git_server: GitServer, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """What serves the namespace; no replica of it runs yet."""
    operator = Operator(cluster, git_server, tmp_path, NAMESPACES=namespace)
    yield operator
    operator.retire(namespace)


@pytest.fixture
def proxy(operator: Operator, tmp_path: Path) -> Iterator[ApiProxy]:
    """A way to the API server that can be cut and slowed."""
    proxy = ApiProxy(operator.kubeconfig, tmp_path)
    yield proxy
    proxy.close()
