"""The operator's connection to the API server breaks, and what happens meanwhile is never told to it."""

from __future__ import annotations

import re

import pytest

from tests.chaos.test_leader_dies import check_outcome, start_build
from tests.e2e.conftest import Team
from tests.support.api_proxy import ApiProxy
from tests.support.cluster import wait_until
from tests.support.operator import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

AGENTS = "tidegate.dev/component=agent"


def test_pods_deleted_in_a_gap_past_a_410_are_run_again(team: Team, operator: Operator, proxy: ApiProxy) -> None:
    operator.kubeconfig = proxy.kubeconfig
    operator.start(1)
    start_build(team, seconds=15)  # none is through with it when its Pod is deleted
    wait_until(lambda: agents(team), 90, "Pods", every=0.1)
    proxy.cut()
    deleted = agents(team)
    team.cluster.kubectl("delete", "pods", "-n", team.namespace, *deleted, "--grace-period=0", "--force")
    proxy.restore(expired=True)
    check_outcome(team)
    assert proxy.expired > 0
    assert re.search(r"dropped objects that are gone .*kind=Pod", operator.replicas[0].log.read_text()), deleted
    operator.retire(team.namespace)  # while the proxy still stands


def agents(team: Team) -> list[str]:
    """The names of the agents' Pods."""
    return [pod["metadata"]["name"] for pod in team.cluster.list("pods", team.namespace, AGENTS)]
