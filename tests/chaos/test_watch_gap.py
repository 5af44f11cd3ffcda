"""The operator's connection to the API server breaks, and what happens meanwhile is never told to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chaos.test_leader_dies import check_outcome, start_build
from tests.e2e.conftest import SEED, Team, profile, script_class
from tests.support.api_proxy import ApiProxy
from tests.support.cluster import Cluster, wait_until
from tests.support.gitserver import GitServer
from tests.support.operator import Operator

__all__ = ["profile", "script_class"]

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

AGENTS = "tidegate.dev/component=agent"


def test_pods_deleted_in_a_gap_past_a_410_are_run_again(
    cluster: Cluster,
    git_server: GitServer,
    namespace: str,
    script_class: str,
    profile: str,
    tmp_path: Path,
) -> None:
    proxy = ApiProxy(cluster.kubeconfig, tmp_path)
    operator = Operator(cluster, git_server, tmp_path, proxy.kubeconfig, NAMESPACES=namespace)
    cluster.apply(git_server.credentials(), namespace=namespace)
    repository = git_server.make_repository(SEED)
    clone = git_server.clone(repository, tmp_path / "clone.git")
    team = Team(cluster, namespace, git_server.url(repository), clone, script_class, profile)
    try:
        operator.start(1)
        start_build(team, seconds=15)  # none is through with it when its Pod is deleted
        wait_until(lambda: cluster.list("pods", namespace, AGENTS), 90, "Pods", every=0.1)
        proxy.cut()
        deleted = [pod["metadata"]["name"] for pod in cluster.list("pods", namespace, AGENTS)]
        cluster.kubectl("delete", "pods", "-n", namespace, *deleted, "--grace-period=0", "--force")
        proxy.restore(expired=True)
        check_outcome(team)
        assert proxy.expired > 0
        assert re.search(r"dropped objects that are gone .*kind=Pod", operator.replicas[0].log.read_text()), deleted
        cluster.delete_namespace(namespace)
        cluster.await_namespaces_gone([namespace])
    finally:
        operator.stop()
        proxy.close()
