"""A leader is stopped with the creation of a gate's Pod on its way, which arrives when another one leads and has given
the slot to another gate. The chart's policy refuses it: no more Pods than slots, whatever arrives late."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.api_proxy import ApiProxy
from tests.support.cluster import Cluster, wait_until
from tests.support.operator import LEASE_NAMESPACE, Operator
from tests.support.release import account

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]


@pytest.fixture
def operator(operator: Operator, cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """Its replicas act as the account of a release."""
    with account(cluster, operator.lease, LEASE_NAMESPACE, namespace, tmp_path) as kubeconfig:
        operator.kubeconfig = kubeconfig
        yield operator
        operator.retire(namespace)


def test_a_former_leaders_gate_is_refused(team: Team, operator: Operator, proxy: ApiProxy) -> None:
    first = operator.add_replica(proxy.kubeconfig)
    wait_until(lambda: operator.leader() is first, 60, "the first replica to lead")
    late = proxy.delay("POST", '"tidegate.dev/component":"gate"')
    team.build("b", [objects.task("t", "echo 1 > file.txt")])
    wait_until(lambda: late.body, 120, "the creation of a gate's Pod")
    first.signal(signal.SIGSTOP)
    second = operator.add_replica()
    wait_until(lambda: operator.leader() is second, 60, "the second replica to lead")
    gate = late.body["metadata"]["name"]
    team.cluster.kubectl("delete", "gaterun", gate, "-n", team.namespace)
    held = f"{second.name}_"
    wait_until(lambda: all(h.startswith(held) for h in holders(team)), 60, "the second replica to start gates")
    late.release()
    status, text = wait_until(lambda: late.answer, 30, "the answer")
    assert status == 403, text
    assert "may not start gates in MergeLane" in text
    first.signal(signal.SIGCONT)
    assert team.finalized("b")["reason"] == "Passed"


def holders(team: Team) -> list[str]:
    """Who may start gates, by lane."""
    return [str(lane["status"].get("gateHolder") or "") for lane in team.cluster.list("mergelanes", team.namespace)]
