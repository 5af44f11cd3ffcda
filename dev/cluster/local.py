"""The local cluster: the real control plane and kubelet as processes of this machine."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import json
import socket
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dev.cluster import (
    build,
    components,
    containers,
    dns,
    fake_nodes,
    host,
    images,
    owner,
    pki,
    prerequisites,
    processes,
    teardown,
)
from dev.cluster.api import Api, ApiError
from dev.cluster.errors import ClusterError
from dev.cluster.progress import say, step
from dev.cluster.settings import (
    ADMIN_KUBECONFIG,
    CLUSTER_DOMAIN,
    MAX_REAL_NODES,
    POLICY_SOCKET,
    RUN,
    STATE,
    Network,
    Node,
)


@dataclass(frozen=True)
class Options:
    """What `up` was asked for."""

    nodes: int = 1
    fake_nodes: int = 0
    stages: Path | None = None
    audit_all: bool = False


def known_nodes(network: Network) -> list[Node]:
    """The real nodes that the state has, at least the first."""
    indexes = [n for n in range(1, MAX_REAL_NODES + 1) if (STATE / f"node{n}").exists()]
    return [network.node(index) for index in indexes or [1]]


def up(options: Options) -> None:
    """Bring the cluster up; what runs already is left alone. Raises ClusterError with the cure."""
    prerequisites.require_root()
    if not 1 <= options.nodes <= MAX_REAL_NODES:
        raise ClusterError(f"--nodes must be 1 to {MAX_REAL_NODES}; more nodes than that are fake ones (--fake-nodes)")
    with owner.exclusive():
        teardown.clear_abandoned()
        if not owner.claim() and is_up():
            return  # another checkout's, and well
        prerequisites.install_packages()
        prerequisites.check_kernel()
        binary, archives = _artefacts()
        network = host.choose_network()
        count = max(options.nodes, len(known_nodes(network)))
        nodes = [network.node(index) for index in range(1, count + 1)]
        _prepare_host(network, nodes)
        _start_control_plane(binary, network, options.audit_all)
        with step("Starting kubelet, kube-proxy and policy enforcement"):
            _start_nodes(binary, network, nodes, archives)
        if not processes.running(fake_nodes.PROCESS):
            fake_nodes.remove()
        with step("Waiting for nodes, DNS and service accounts"):
            _wait_ready(network, nodes)
        if options.fake_nodes:
            fake_nodes.start(network, options.fake_nodes, options.stages)
    say(f"Cluster is ready: KUBECONFIG={ADMIN_KUBECONFIG}")


def _artefacts() -> tuple[Path, list[Path]]:
    """The binary and the images. The base is debootstrapped while the compiler works."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        base = pool.submit(images.base_image)
        binary = build.build(build.KUBERNETES)
        archives = images.system_images()
        archives.append(base.result())
    build.link("kubectl", binary)
    return binary, archives


def _prepare_host(network: Network, nodes: Sequence[Node]) -> None:
    RUN.mkdir(parents=True, exist_ok=True)
    host.set_sysctls()
    host.add_addresses(nodes)
    host.add_masquerade(network)
    for node in nodes:
        host.make_cgroup(node)
        host.share_kubelet_directory(node)
    pki.make(network, nodes)


def _ensure(name: str, command: Callable[[], list[str | Path]], environment: Mapping[str, str] | None = None) -> None:
    """Start what does not run. Its configuration is written only then: kube-proxy ends when its file changes."""
    if not processes.running(name):
        processes.start(name, command(), environment)


def _start_control_plane(binary: Path, network: Network, audit_all: bool) -> None:
    with step("Starting etcd and the API server"):
        _ensure("etcd", partial(components.etcd, binary))
        processes.wait_until(_etcd_healthy, "etcd", 30, "etcd")
        if audit_all and components.audit_policy_changed(audit_all):
            processes.stop("kube-apiserver", 3)  # it reads its policy only once
        _ensure("kube-apiserver", partial(components.api_server, binary, network, audit_all))
        api = Api(ADMIN_KUBECONFIG)
        processes.wait_until(lambda: api.answers("/readyz"), "kube-apiserver", 90, "kube-apiserver")
    _ensure("kube-controller-manager", partial(components.controller_manager, binary, network))
    _ensure("kube-scheduler", partial(components.scheduler, binary))


def _etcd_healthy() -> bool:
    try:
        with urllib.request.urlopen(f"{components.ETCD_URL}/health", timeout=1) as answer:
            return b"true" in answer.read()
    except OSError:
        return False


def _start_nodes(binary: Path, network: Network, nodes: Sequence[Node], archives: Sequence[Path]) -> None:
    for node in nodes:
        _ensure(f"containerd-{node.name}", partial(components.containerd, node))
    apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
    components.kubectl(binary, *apply, stdin=components.addons(network))
    _ensure("policy-enforcer", partial(components.enforcer, nodes), components.enforcer_environment())
    for node in nodes:
        name = f"containerd-{node.name}"
        processes.wait_until(partial(containers.answers, node), name, 30, name)
    containers.load(nodes, archives)
    processes.wait_until(_enforcer_answers, "policy-enforcer", 30, "policy-enforcer")
    _ensure("kube-proxy", partial(components.proxy, binary, network, nodes[0]))
    for node in nodes:
        _ensure(f"kubelet-{node.name}", partial(components.kubelet, binary, network, node))


def _enforcer_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(POLICY_SOCKET))
        except OSError:
            return False
    return True


def _wait_ready(network: Network, nodes: Sequence[Node]) -> None:
    api = Api(ADMIN_KUBECONFIG)
    for node in nodes:
        processes.wait_until(partial(_reports_ready, api, node), f"node {node.name}", 60, f"kubelet-{node.name}")
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    processes.wait_until(lambda: api.answers(account), "service accounts", 60, "kube-controller-manager")
    server = str(network.dns_service)
    answer = partial(dns.resolves, server, f"kubernetes.default.svc.{CLUSTER_DOMAIN}")
    processes.wait_until(answer, "CoreDNS (see `kubectl -n kube-system describe pods`)", 90)
    for name in processes.names():
        if not processes.running(name):
            raise ClusterError(f"{name} ended; see {processes.log_file(name)}")


def _reports_ready(api: Api, node: Node) -> bool:
    """Whether the node is ready by the word of the kubelet that runs now: its lease is younger than that process."""
    process = processes.recorded(f"kubelet-{node.name}")
    try:
        lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}")
    except ApiError:
        return False
    renewed = dt.datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
    return process is not None and renewed > process.started_at() and node_ready(api, node.name)


def node_ready(api: Api, name: str) -> bool:
    """Whether the node's condition Ready is True."""
    try:
        conditions = api.get(f"/api/v1/nodes/{name}")["status"].get("conditions", [])
    except ApiError:
        return False
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def is_up() -> bool:
    """Whether the API server answers and nothing that was started has ended."""
    if not all(processes.running(name) for name in ("etcd", "kube-apiserver", *processes.names())):
        return False
    return Api(ADMIN_KUBECONFIG).answers("/readyz")


def load(archives: Sequence[Path]) -> None:
    """Import image archives into the running cluster's nodes."""
    prerequisites.require_root()
    nodes = known_nodes(host.choose_network())
    if not all(processes.running(f"containerd-{node.name}") for node in nodes):
        raise ClusterError("the local cluster does not run. Cure: make cluster-up")
    with step(f"Loading {', '.join(path.name for path in archives)}"):
        containers.load(nodes, archives)


def addresses() -> str:
    """The cluster's addresses as JSON, for charts and tests."""
    network = host.choose_network()
    return json.dumps(
        {
            "mode": "local",
            "kubeconfig": str(ADMIN_KUBECONFIG),
            "apiServer": network.api_url,
            "nodeAddresses": [str(node.address) for node in known_nodes(network)],
            "nodeRange": str(network.nodes),
            "podRange": str(network.pods),
            "serviceRange": str(network.services),
            "dns": str(network.dns_service),
            "bridges": [str(node.pods[1]) for node in known_nodes(network)],
        },
        indent=1,
    )
