"""Two processes of the machine room on the real API server: takeover, fencing of a stopped leader, ghosts, health."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, Cluster, wait_until
from tests.support.valid import SPECS

pytestmark = pytest.mark.cluster


class Process:
    """One replica of the toy operator."""

    def __init__(self, name: str, namespace: str, kubeconfig: Path, directory: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name = name
        self.log = directory / f"{name}.log"
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")},
            "PYTHONPATH": str(ROOT),
            "KUBECONFIG": str(kubeconfig),
            "TIDEGATE_NAMESPACES": namespace,
            "TIDEGATE_OPERATOR_NAMESPACE": namespace,
            "TIDEGATE_IDENTITY": name,
            "TIDEGATE_METRICS_HOST": "127.0.0.1",
            "TIDEGATE_METRICS_PORT": str(self.port),
            **settings,
        }
        with self.log.open("wb") as output:
            command = [sys.executable, "-m", "tests.support.toy_operator"]
            self.process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)

    def http(self, path: str) -> tuple[int, str]:
        """GET; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.http("/readyz")[0] == 200

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


@pytest.fixture
def pair(cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    """A leader and a standby."""
    leader = Process("first", namespace, kubeconfig, tmp_path)
    standby = None
    try:
        wait_until(lambda: holder(cluster, namespace).startswith("first_"), 30, "the first leader")
        standby = Process("second", namespace, kubeconfig, tmp_path)
        wait_until(lambda: leader.ready() and standby.ready(), 60, "two ready replicas")
        yield leader, standby
    finally:
        leader.end()
        if standby is not None:
            standby.end()


def holder(cluster: Cluster, namespace: str) -> str:
    """Who holds the Lease."""
    leases = cluster.list("lease", namespace)
    return str(leases[0]["spec"].get("holderIdentity") or "") if leases else ""


def make_task(cluster: Cluster, namespace: str, name: str) -> None:
    meta = {"name": name, "namespace": namespace}
    cluster.apply(
        {"apiVersion": "tidegate.dev/v1alpha1", "kind": "AgentTask", "metadata": meta, "spec": SPECS["AgentTask"]}
    )


def marked_by(cluster: Cluster, namespace: str, name: str) -> str:
    return str((cluster.get("agenttask", name, namespace).get("status") or {}).get("ref") or "")


def test_sigterm_hands_over_within_two_seconds(cluster: Cluster, namespace: str, pair: tuple[Process, Process]) -> None:
    leader, standby = pair
    make_task(cluster, namespace, "before")
    wait_until(lambda: marked_by(cluster, namespace, "before") == "refs/first", 10, "the first leader's work")
    started = time.monotonic()
    leader.process.terminate()
    wait_until(lambda: holder(cluster, namespace).startswith("second_"), 10, "the takeover", every=0.05)
    took = time.monotonic() - started
    make_task(cluster, namespace, "after")
    wait_until(lambda: marked_by(cluster, namespace, "after") == "refs/second", 10, "the second leader's work")
    assert leader.process.wait(10) == 0
    assert took < 2.0
    assert standby.ready()


def test_sigkill_is_noticed_within_fifteen_seconds(
    cluster: Cluster, namespace: str, pair: tuple[Process, Process]
) -> None:
    leader, _ = pair
    leader.process.kill()
    started = time.monotonic()
    make_task(cluster, namespace, "after")
    wait_until(lambda: marked_by(cluster, namespace, "after") == "refs/second", 20, "the takeover", every=0.1)
    assert time.monotonic() - started < 15.0


def test_a_stopped_leader_writes_nothing_after_it_continues(
    cluster: Cluster, namespace: str, pair: tuple[Process, Process]
) -> None:
    leader, _ = pair
    leader.process.send_signal(signal.SIGSTOP)
    make_task(cluster, namespace, "meanwhile")
    wait_until(lambda: holder(cluster, namespace).startswith("second_"), 20, "the takeover")
    wait_until(lambda: marked_by(cluster, namespace, "meanwhile") == "refs/second", 10, "the new leader's work")
    leader.process.send_signal(signal.SIGCONT)
    for n in range(5):
        make_task(cluster, namespace, f"later-{n}")
    for n in range(5):
        wait_until(functools.partial(marked_by, cluster, namespace, f"later-{n}"), 10, "marks")
    assert {marked_by(cluster, namespace, f"later-{n}") for n in range(5)} == {"refs/second"}
    assert holder(cluster, namespace).startswith("second_")
    wait_until(leader.ready, 30, "the old leader standing by")
    assert "tidegate_leader 0.0" in leader.http("/metrics")[1]


def test_deletions_leave_the_cache(cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path) -> None:
    for n in range(3):
        make_task(cluster, namespace, f"t{n}")
    process = Process("only", namespace, kubeconfig, tmp_path)
    try:
        wait_until(process.ready, 60, "readiness")
        cached = 'tidegate_cache_objects{kind="AgentTask"}'
        wait_until(lambda: f"{cached} 3.0" in process.http("/metrics")[1], 10, "three objects in the cache")
        cluster.kubectl("delete", "agenttask", "t0", "-n", namespace)
        wait_until(lambda: f"{cached} 2.0" in process.http("/metrics")[1], 10, "two objects in the cache")
        assert process.http("/healthz")[0] == 200
    finally:
        process.end()


def test_without_the_definitions_it_ends_and_says_so(kubeconfig: Path, tmp_path: Path, namespace: str) -> None:
    code = (
        "import asyncio, sys\n"
        "from tidegate.clients import resources\n"
        "r = resources.RESOURCES\n"
        "r['AgentTask'] = resources.Resource('AgentTask', 'absent.tidegate.dev', 'v1', 'agenttasks')\n"
        "from tests.support.toy_operator import main\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT), "TIDEGATE_METRICS_PORT": "0"}
    env |= {"TIDEGATE_METRICS_HOST": "127.0.0.1", "TIDEGATE_OPERATOR_NAMESPACE": namespace}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "install the CRDs" in done.stderr
