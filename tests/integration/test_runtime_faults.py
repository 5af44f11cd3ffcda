"""The machine room behind an API server that fails: watches cut and expired, requests refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_runtime_takeover import Process, make_task, marked_by
from tests.support.api_proxy import ApiProxy
from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.cluster
CACHED = 'tidegate_cache_objects{kind="AgentTask"}'


@pytest.fixture
def proxy(kubeconfig: Path, cluster: Cluster, tmp_path: Path) -> Iterator[ApiProxy]:
    """The real API server, with faults."""
    proxy = ApiProxy(kubeconfig, tmp_path)
    yield proxy
    proxy.close()


@pytest.fixture
def process(proxy: ApiProxy, namespace: str, tmp_path: Path) -> Iterator[Process]:
    """A leader that compares its cache with the cluster by itself only every ten minutes."""
    process = Process("only", namespace, proxy.kubeconfig, tmp_path, TIDEGATE_RESYNC_SECONDS="600")
    try:
        wait_until(process.ready, 90, "readiness")
        yield process
    finally:
        process.end()


def cached(process: Process, number: int) -> bool:
    return f"{CACHED} {number}.0" in process.http("/metrics")[1]


def test_what_vanished_in_a_gap_past_a_410_is_dropped(
    cluster: Cluster, namespace: str, proxy: ApiProxy, process: Process
) -> None:
    for n in range(4):
        make_task(cluster, namespace, f"t{n}")
    wait_until(lambda: cached(process, 4), 20, "four objects in the cache")
    proxy.cut()
    cluster.kubectl("delete", "agenttask", "t0", "t1", "-n", namespace)
    make_task(cluster, namespace, "new")
    proxy.restore(expired=True)
    wait_until(lambda: cached(process, 3), 60, "two ghosts dropped and one object added")
    wait_until(lambda: marked_by(cluster, namespace, "new"), 30, "the new object worked")
    assert proxy.expired > 0
    ghosts = 'tidegate_cache_ghosts_total{kind="AgentTask"}'
    assert f"{ghosts} 2.0" in process.http("/metrics")[1]
    assert process.http("/healthz")[0] == 200


def test_when_everything_vanished_in_the_gap_the_empty_list_is_noticed(
    cluster: Cluster, namespace: str, proxy: ApiProxy, process: Process
) -> None:
    make_task(cluster, namespace, "only")
    wait_until(lambda: cached(process, 1), 20, "one object in the cache")
    proxy.cut()
    cluster.kubectl("delete", "agenttask", "only", "-n", namespace)
    proxy.restore(expired=True)
    wait_until(lambda: cached(process, 0), 60, "the ghost dropped")
    assert proxy.expired > 0


def test_a_cut_watch_goes_on_where_it_was(cluster: Cluster, namespace: str, proxy: ApiProxy, process: Process) -> None:
    make_task(cluster, namespace, "t0")
    wait_until(lambda: cached(process, 1), 20, "one object in the cache")
    proxy.cut()
    cluster.kubectl("delete", "agenttask", "t0", "-n", namespace)
    make_task(cluster, namespace, "t1")
    proxy.restore()
    wait_until(lambda: marked_by(cluster, namespace, "t1"), 60, "work after the cut")
    wait_until(lambda: cached(process, 1), 30, "the deletion in the cache")
    assert process.process.poll() is None


def test_refused_writes_delay_and_change_nothing(
    cluster: Cluster, namespace: str, proxy: ApiProxy, process: Process
) -> None:
    proxy.fail("PATCH", "/agenttasks/", 409, 429, 500, 503, 500, 500, 504, 500, 500, 429)
    make_task(cluster, namespace, "t0")
    wait_until(lambda: marked_by(cluster, namespace, "t0") == "refs/only", 60, "the mark")
    assert proxy.failed == 10


def test_an_api_server_that_is_away_ends_the_leadership_not_the_process(
    cluster: Cluster, namespace: str, proxy: ApiProxy, process: Process
) -> None:
    proxy.cut()
    wait_until(lambda: "tidegate_leader 0.0" in process.http("/metrics")[1], 30, "the end of the leadership")
    make_task(cluster, namespace, "meanwhile")
    proxy.restore()
    wait_until(lambda: marked_by(cluster, namespace, "meanwhile") == "refs/only", 60, "work after the return")
    assert process.process.poll() is None
