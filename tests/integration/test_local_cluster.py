"""The development cluster keeps what it promises: names resolve, and NetworkPolicies hold from a Pod's first packet."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, Cluster, Object, fresh_name, wait_until

pytestmark = pytest.mark.cluster

CLI = [sys.executable, str(ROOT / "dev/cluster/cli.py")]
IMAGE = "localhost/tidegate-base:12"
ENFORCED_WITHIN_SECONDS = 5.0  # a fraction of a second on an idle machine; tests may not be alone on theirs

# Tries every target at once and prints which could be reached.
PROBE = """
import json, socket, sys, threading
targets, result = json.loads(sys.argv[1]), {}
def connect(name, host, port):
    try:
        socket.create_connection((host, port), timeout=1.5).close()
        result[name] = True
    except OSError:
        result[name] = False
def resolve(name, host):
    question = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\12kubernetes\\7default\\3svc\\7cluster\\5local\\0\\0\\1\\0\\1"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1.5)
    try:
        s.sendto(question, (host, 53))
        result[name] = len(s.recv(512)) > len(question)
    except OSError:
        result[name] = False
threads = [threading.Thread(target=resolve if n == "dns" else connect, args=[n, *a]) for n, a in targets.items()]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps(result))
"""
SERVE = """
import http.server as h
h.ThreadingHTTPServer.request_queue_size = 128  # a full queue drops what arrives: that would look like isolation
h.ThreadingHTTPServer(("", 8080), h.SimpleHTTPRequestHandler).serve_forever()
"""
# From its first instant and for a second: does anything get through?
EARLY = """
import socket, sys, time
end = time.time() + 1
while time.time() < end:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.1).close()
        sys.exit(print("reached"))
    except OSError:
        pass
print("isolated")
"""


def pod(name: str, role: str, command: list[str]) -> Object:
    """A Pod of the Debian base that runs `command`."""
    ports = [{"name": "web", "containerPort": 8080}]
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": command, "ports": ports}
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "labels": {"role": role}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(name: str, **spec: object) -> Object:
    """A NetworkPolicy; `podSelector` defaults to every Pod."""
    full = {"podSelector": {}, **spec}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": full,
    }


@dataclass
class Trial:
    """A client, a sibling behind a Service, a stranger in another namespace, and a listener on the node."""

    cluster: Cluster
    namespace: str
    strangers: str
    targets: dict[str, list[str | int]]
    stranger_targets: dict[str, list[str | int]]

    def reached(self, name: str = "client") -> dict[str, bool]:
        """What the client can reach now."""
        return self._probe(self.namespace, name, self.targets)

    def stranger_reached(self) -> bool:
        """Whether the stranger can reach the server."""
        return self._probe(self.strangers, "stranger", self.stranger_targets)["sibling"]

    def _probe(self, namespace: str, name: str, targets: dict[str, list[str | int]]) -> dict[str, bool]:
        command = ["exec", "-n", namespace, name, "--", "python3", "-c", PROBE, json.dumps(targets)]
        answer: dict[str, bool] = json.loads(self.cluster.kubectl(*command))
        return answer

    def expect(self, *names: str) -> None:
        """Fail unless the client soon reaches exactly the targets of these names."""
        wanted = {name: name in names for name in self.targets}
        deadline = time.monotonic() + ENFORCED_WITHIN_SECONDS
        while (seen := self.reached()) != wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        assert seen == wanted


@pytest.fixture(scope="module")
def local(kubeconfig: Path) -> Cluster:
    """The development cluster with the Debian base image in it."""
    where = json.loads(subprocess.run([*CLI, "addresses"], check=True, capture_output=True, text=True).stdout)
    if where["mode"] != "local":
        pytest.skip("another cluster's network is its owner's")
    base = subprocess.run([*CLI, "base-image"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*CLI, "load", base], check=True)
    return Cluster(kubeconfig)


@pytest.fixture
def listener(local: Cluster) -> Iterator[tuple[str, int]]:
    """A TCP port on the node's own address: outside the Pod network."""
    server = socket.create_server((local.node_address(), 0))

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[:2]
    server.close()


@pytest.fixture
def trial(local: Cluster, listener: tuple[str, int]) -> Iterator[Trial]:
    """The Pods and the Service of the trial, ready, with no policy yet."""
    namespace, strangers = fresh_name("net"), fresh_name("net-strangers")
    for name, team in ((namespace, "ours"), (strangers, "theirs")):
        labels = {"team": team}
        local.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        wait_until(partial(local.list, "serviceaccount", name), 30, "the default ServiceAccount")
    ports = [{"port": 80, "targetPort": "web"}]
    service: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}}
    service["spec"] = {"selector": {"role": "server"}, "ports": ports}
    sleep = ["sleep", "3600"]
    server = pod("server", "server", ["python3", "-c", SERVE])
    local.apply(pod("client", "client", sleep), server, service, namespace=namespace)
    local.apply(pod("stranger", "client", sleep), namespace=strangers)
    for where in (namespace, strangers):
        local.kubectl("wait", "-n", where, "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    sibling = local.get("pod", "server", namespace)["status"]["podIP"]
    address = local.get("service", "server", namespace)["spec"]["clusterIP"]
    dns = local.get("service", "kube-dns", "kube-system")["spec"]["clusterIP"]
    api = local.get("service", "kubernetes", "default")["spec"]["clusterIP"]
    targets: dict[str, list[str | int]] = {
        "sibling": [sibling, 8080],
        "service": [address, 80],
        "dns": [dns],
        "api": [api, 443],
        "node": list(listener),
    }
    yield Trial(local, namespace, strangers, targets, {"sibling": targets["sibling"]})
    for name in (namespace, strangers):
        local.delete_namespace(name)


def test_policies_hold_for_pods_services_dns_api_and_node(trial: Trial) -> None:
    """Denied by default, then let through one by one, by selector, namespace, port name and address block."""
    wait_until(lambda: all(trial.reached().values()), 15, "everything reachable without a policy")
    assert trial.stranger_reached()

    trial.cluster.apply(policy("deny", policyTypes=["Ingress", "Egress"]), namespace=trial.namespace)
    trial.expect()
    assert not trial.stranger_reached()

    dns_peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    dns_ports = [{"protocol": "UDP", "port": 53}]
    trial.cluster.apply(policy("dns", egress=[{"to": [dns_peer], "ports": dns_ports}]), namespace=trial.namespace)
    trial.expect("dns")

    to_server = {"to": [{"podSelector": {"matchLabels": {"role": "server"}}}], "ports": [{"port": "web"}]}
    trial.cluster.apply(policy("out", egress=[to_server]), namespace=trial.namespace)
    trial.expect("dns")  # the receiver's side still refuses
    from_client = {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}], "ports": [{"port": 8080}]}
    ingress = policy("in", podSelector={"matchLabels": {"role": "server"}}, ingress=[from_client])
    trial.cluster.apply(ingress, namespace=trial.namespace)
    trial.expect("dns", "sibling", "service")
    assert not trial.stranger_reached(), "a podSelector alone must not let another namespace in"

    host, port = trial.targets["node"]
    block = {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": port}]}
    trial.cluster.apply(policy("node", egress=[block]), namespace=trial.namespace)
    trial.expect("dns", "sibling", "service", "node")

    theirs = {
        "from": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}}]
    }
    ingress["spec"]["ingress"] = [theirs]
    trial.cluster.apply(ingress, namespace=trial.namespace)
    wait_until(trial.stranger_reached, 10, "the other namespace let in")

    trial.cluster.kubectl("delete", "networkpolicy", "--all", "-n", trial.namespace)
    trial.expect(*trial.targets)


def test_a_new_pod_is_isolated_from_its_first_packet(trial: Trial) -> None:
    """Five Pods that try from their first instant get nothing through; without a policy the same Pod does."""
    command = ["python3", "-c", EARLY, *(str(part) for part in trial.targets["sibling"])]

    def outcomes(prefix: str) -> set[str]:
        names = [f"{prefix}-{number}" for number in range(5)]
        trial.cluster.apply(*(pod(name, "late", command) for name in names), namespace=trial.namespace)
        done = "--for=jsonpath={.status.phase}=Succeeded"
        trial.cluster.kubectl("wait", "-n", trial.namespace, "pod", *names, done, "--timeout=60s")
        return {trial.cluster.kubectl("logs", "-n", trial.namespace, name).strip() for name in names}

    assert outcomes("free") == {"reached"}
    deny = policy("deny-late", podSelector={"matchLabels": {"role": "late"}}, policyTypes=["Egress"])
    trial.cluster.apply(deny, namespace=trial.namespace)
    assert outcomes("held") == {"isolated"}
