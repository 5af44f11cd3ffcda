"""What the API server lets the operator's account do, as it decides it with the chart's policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, RefusedError, fresh_name, wait_until
from tests.support.release import account, gate_pod
from tests.support.valid import valid
from tidegate.clients.kube import Kube
from tidegate.errors import Forbidden

pytestmark = pytest.mark.cluster

HOME = "default"


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[str]:
    """A namespace without Pod Security: the policy alone decides."""
    name = fresh_name("served")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def operator(cluster: Cluster, served: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster as the operator's account sees it."""
    with account(cluster, fresh_name("tg"), HOME, served, tmp_path_factory.mktemp("account")) as kubeconfig:
        yield Cluster(Path(kubeconfig))


@pytest.fixture
def lane(cluster: Cluster, served: str) -> str:
    """A lane whose gates `first_1` starts."""
    name = fresh_name("lane")
    cluster.apply(valid("MergeLane", name), namespace=served)
    hold(cluster, served, name, "first_1")
    return name


def hold(cluster: Cluster, namespace: str, lane: str, holder: str) -> None:
    """Write whose gates they are."""
    patch = json.dumps({"status": {"gateHolder": holder}})
    cluster.kubectl("patch", "mergelane", lane, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def create(by: Cluster, namespace: str, lane: str, holder: str) -> str:
    """Make a gate's Pod; the refusal, empty where there is none."""
    pod = gate_pod(fresh_name("gate"), lane, holder)
    try:
        by.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    except RefusedError as error:
        return str(error)
    return ""


def test_only_the_lanes_holder_starts_gates(cluster: Cluster, operator: Cluster, served: str, lane: str) -> None:
    wait_until(lambda: not create(operator, served, lane, "first_1"), 10, "the holder to be known")
    for other in ("second_2", ""):
        assert f"{other or 'nobody'} may not start gates in MergeLane {lane}" in create(operator, served, lane, other)
    hold(cluster, served, lane, "second_2")
    wait_until(lambda: create(operator, served, lane, "first_1"), 10, "the former holder to be refused")
    assert not create(operator, served, lane, "second_2")


def test_before_anybody_holds_the_lane_nobody_starts_gates(cluster: Cluster, operator: Cluster, served: str) -> None:
    name = fresh_name("new")
    cluster.apply(valid("MergeLane", name), namespace=served)
    wait_until(lambda: create(operator, served, name, "first_1"), 10, "the refusal")


def test_lanes_are_told_apart(cluster: Cluster, operator: Cluster, served: str, lane: str) -> None:
    other = fresh_name("other")
    cluster.apply(valid("MergeLane", other), namespace=served)
    hold(cluster, served, other, "second_2")
    wait_until(lambda: not create(operator, served, other, "second_2"), 10, "the other lane's holder")
    wait_until(lambda: not create(operator, served, lane, "first_1"), 10, "the lane's holder")
    assert create(operator, served, other, "first_1")


def test_other_pods_and_other_people_are_not_asked(cluster: Cluster, operator: Cluster, served: str, lane: str) -> None:
    agent = gate_pod(fresh_name("agent"), lane)
    agent["metadata"]["labels"] = {"tidegate.dev/component": "agent"}
    operator.kubectl("create", "-n", served, "-f", "-", stdin=json.dumps(agent))
    assert not create(cluster, served, lane, "somebody")


async def test_builds_are_patched_in_served_namespaces_alone(cluster: Cluster, operator: Cluster, served: str) -> None:
    patch = {"metadata": {"finalizers": ["tidegate.dev/stop-work"]}}
    other = fresh_name("other")
    cluster.kubectl("create", "namespace", other)
    for namespace in (served, other):
        cluster.apply(valid("BuildRequest", "b"), namespace=namespace)
    kube = await Kube.connect(str(operator.kubeconfig))  # kubectl would read the object first, which is refused too
    try:
        await kube.patch("BuildRequest", served, "b", patch)
        with pytest.raises(Forbidden, match=f"namespace {other} is not served"):
            await kube.patch("BuildRequest", other, "b", patch)
    finally:
        await kube.close()
    cluster.patch("buildrequest", "b", served, {"metadata": {"finalizers": None}})
    cluster.delete_namespace(other)


def test_a_release_that_comes_back_is_heard(cluster: Cluster, served: str, lane: str, tmp_path: Path) -> None:
    """An API server doesn't follow what policies name any more once the last of them is gone; a new one begins anew."""
    hold(cluster, served, lane, "third_3")
    with account(cluster, fresh_name("tg"), HOME, served, tmp_path) as kubeconfig:
        again = Cluster(Path(kubeconfig))
        wait_until(lambda: not create(again, served, lane, "third_3"), 10, "the holder to be known")
        assert create(again, served, lane, "first_1")
