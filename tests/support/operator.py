"""Replicas of the operator as processes of this machine: they can be killed and stopped as a node's can't."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster, RefusedError, fresh_name, wait_until
from tests.support.gitserver import GitServer
from tests.support.images import image

LEASE_NAMESPACE = "default"


@dataclass
class Replica:
    """One process and the file it logs to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


class Operator:
    """A set of replicas with one Lease."""

    def __init__(
        self, cluster: Cluster, git_server: GitServer, directory: Path, kubeconfig: Path | None = None, **settings: str
    ) -> None:
        self._cluster = cluster
        self.kubeconfig = kubeconfig or cluster.kubeconfig
        self._git_server = git_server
        self._directory = directory
        self._settings = settings
        self.lease = fresh_name("tidegate-test")
        self.replicas: list[Replica] = []

    def start(self, count: int = 1) -> None:
        """Start replicas and wait until one leads."""
        for _ in range(count):
            self.add_replica()
        wait_until(self.leader, 60, f"a leader (logs in {self._directory})")

    def add_replica(self, kubeconfig: Path | None = None) -> Replica:
        """Start one more process, perhaps with another way to the API server than the others."""
        name = f"replica-{len(self.replicas)}"
        log = self._directory / f"{name}.log"
        env = {**self._environment(name), "KUBECONFIG": str(kubeconfig or self.kubeconfig)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidegate"], env=env, stdout=output, stderr=subprocess.STDOUT
            )
        replica = Replica(name, process, log)
        self.replicas.append(replica)
        return replica

    def leader(self) -> Replica | None:
        """The living replica that holds the Lease."""
        try:
            holder = self._cluster.get("lease", self.lease, LEASE_NAMESPACE)["spec"].get("holderIdentity") or ""
        except RefusedError:
            return None
        return next((r for r in self.replicas if r.alive and holder.startswith(r.name)), None)

    def retire(self, namespace: str) -> None:
        """Delete the namespace and end every replica once it is gone: without them its finalizers would stay."""
        try:
            self._cluster.delete_namespace(namespace)
            self._cluster.await_namespaces_gone([namespace])
        finally:
            self.stop()

    def stop(self) -> None:
        """End every replica; their logs stay."""
        for replica in self.replicas:
            if replica.alive:
                replica.signal(signal.SIGCONT)
                replica.process.terminate()
        for replica in self.replicas:
            try:
                replica.process.wait(15)
            except subprocess.TimeoutExpired:
                replica.process.kill()
                replica.process.wait()

    def _environment(self, name: str) -> dict[str, str]:
        rule: dict[str, Any] = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 8080}]}
        settings = {
            "NAMESPACES": "*",
            "OPERATOR_NAMESPACE": LEASE_NAMESPACE,
            "LEASE_NAME": self.lease,
            "IDENTITY": name,
            "RUNNER_IMAGE": image("runner"),
            "ALLOWED_GIT_HOSTS": self._git_server.host,
            "ALLOWED_HTTP_HOSTS": self._git_server.host,
            "GIT_EGRESS": json.dumps([rule]),
            "MIRROR_DIR": str(self._directory / name / "mirrors"),
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": str(_free_port()),
            "LOG_FORMAT": "console",
            **self._settings,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")}
        return {**kept, **{f"TIDEGATE_{key}": value for key, value in settings.items()}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
