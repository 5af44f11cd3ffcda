"""Configuration files and command lines of the cluster's parts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

from dev.cluster import shell
from dev.cluster.errors import ClusterError
from dev.cluster.settings import (
    ADMIN_KUBECONFIG,
    API_PORT,
    AUDIT_LOG,
    CHECKOUT,
    CLUSTER_DOMAIN,
    CNI_NETWORK,
    CONTROLLER_QPS,
    COREDNS_IMAGE,
    HERE,
    LOGS,
    PAUSE_IMAGE,
    PKI,
    POLICY_SOCKET,
    POLICY_TABLE,
    STATE,
    TEMPLATES,
    Network,
    Node,
)

ETCD_URL = "http://127.0.0.1:2379"
AUDIT_FILE_MEGABYTES = 200
AUDIT_FILES_KEPT = 5
_CNI_PLUGINS = Path("/usr/lib/cni")


def render(template: str, **values: object) -> str:
    """The text of a template with its `$names` filled in."""
    text = (TEMPLATES / template).read_text()
    return Template(text).substitute({name: str(value) for name, value in values.items()})


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file only where it changes: kube-proxy exits when its configuration is written."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


# container runtime


def containerd(node: Node) -> list[str | Path]:
    """containerd of one node, with socket, state and images of its own."""
    program, runc = shell.find("containerd"), shell.find("runc")
    if program is None or runc is None:
        raise ClusterError("containerd or runc is missing. Cure: apt-get install containerd runc")
    version = shell.run([program, "--version"]).split()[2].lstrip("v")
    template = "containerd.toml" if version.startswith("1.") else "containerd2.toml"
    config = node.state / "containerd.toml"
    text = render(template, state=node.state, run=node.run, socket=node.socket, pause=PAUSE_IMAGE, runc=runc)
    put(config, text)
    node.run.mkdir(parents=True, exist_ok=True)
    _network_plugins(node)
    return [program, "--config", config]


def _network_plugins(node: Node) -> None:
    plugins = node.state / "cni" / "bin"
    plugins.mkdir(parents=True, exist_ok=True)
    for name in ("bridge", "host-local", "loopback"):
        link = plugins / name
        if not link.is_symlink():
            link.symlink_to(_CNI_PLUGINS / name)
    interpreter = Path(sys.executable).resolve()
    source = (HERE / "policy" / "plugin.py").read_text()
    put(plugins / "tidegate-policy", f"#!{interpreter} -IS\n{source}", mode=0o755)
    values = {"bridge": node.bridge, "pods": node.pods, "run": node.run, "policy_socket": POLICY_SOCKET}
    config = render("cni.json", network=CNI_NETWORK, **values)
    put(node.state / "cni" / "net.d" / "10-tidegate.conflist", config)


# control plane


def etcd(binary: Path) -> list[str | Path]:
    """etcd; without fsync, as the cluster's state is worth no more than the machine's."""
    return [binary, "etcd", "--data-dir", STATE / "etcd", "--client-url", ETCD_URL, "--no-fsync"]


def audit_policy_changed(audit_all: bool) -> bool:
    """Whether the API server's kept audit policy is another than the one that `audit_all` asks for."""
    kept = STATE / "audit.yaml"
    return kept.exists() and kept.read_text() != _audit_policy(audit_all)


def _audit_policy(audit_all: bool) -> str:
    return (TEMPLATES / ("audit-all.yaml" if audit_all else "audit.yaml")).read_text()


def api_server(binary: Path, network: Network, audit_all: bool) -> list[str | Path]:
    """kube-apiserver with an audit log of bounded size."""
    policy = STATE / "audit.yaml"
    put(policy, _audit_policy(audit_all))
    AUDIT_LOG.parent.mkdir(parents=True, exist_ok=True)
    flags = {
        "etcd-servers": ETCD_URL,
        "bind-address": network.api_address,
        "advertise-address": network.api_address,
        "secure-port": API_PORT,
        "service-cluster-ip-range": network.services,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "profiling": "false",
        "max-requests-inflight": 1000,
        "max-mutating-requests-inflight": 500,
        "client-ca-file": PKI / "ca.crt",
        "tls-cert-file": PKI / "apiserver.crt",
        "tls-private-key-file": PKI / "apiserver.key",
        "kubelet-certificate-authority": PKI / "ca.crt",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": PKI / "apiserver-kubelet-client.crt",
        "kubelet-client-key": PKI / "apiserver-kubelet-client.key",
        "service-account-issuer": f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "service-account-key-file": PKI / "sa.pub",
        "service-account-signing-key-file": PKI / "sa.key",
        "requestheader-client-ca-file": PKI / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": PKI / "front-proxy-client.crt",
        "proxy-client-key-file": PKI / "front-proxy-client.key",
        "audit-policy-file": policy,
        "audit-log-path": AUDIT_LOG,
        "audit-log-maxsize": AUDIT_FILE_MEGABYTES,
        "audit-log-maxbackup": AUDIT_FILES_KEPT,
    }
    return [binary, "kube-apiserver", *_flags(flags)]


def controller_manager(binary: Path, network: Network) -> list[str | Path]:
    """kube-controller-manager; its client limit is raised, or a benchmark would measure that limit."""
    config = PKI / "controller-manager.kubeconfig"
    flags = {
        **_client_flags(config),
        "service-cluster-ip-range": network.services,
        "use-service-account-credentials": "true",
        "root-ca-file": PKI / "ca.crt",
        "service-account-private-key-file": PKI / "sa.key",
        "cluster-signing-cert-file": PKI / "ca.crt",
        "cluster-signing-key-file": PKI / "ca.key",
        "flex-volume-plugin-dir": STATE / "volume-plugins",
        "enable-hostpath-provisioner": "true",
    }
    return [binary, "kube-controller-manager", *_flags(flags)]


def scheduler(binary: Path) -> list[str | Path]:
    """kube-scheduler, its client limit raised likewise."""
    return [binary, "kube-scheduler", *_flags(_client_flags(PKI / "scheduler.kubeconfig"))]


def _client_flags(config: Path) -> dict[str, object]:
    return {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "kube-api-qps": CONTROLLER_QPS,
        "kube-api-burst": 2 * CONTROLLER_QPS,
    }


def _flags(flags: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


# node


def kubelet(binary: Path, network: Network, node: Node) -> list[str | Path]:
    """The kubelet of one node."""
    config = node.state / "kubelet.yaml"
    (node.state / "volume-plugins").mkdir(parents=True, exist_ok=True)
    text = render(
        "kubelet.yaml",
        address=node.address,
        name=node.name,
        pki=PKI,
        socket=node.socket,
        cgroup=node.cgroup,
        dns=network.dns_service,
        domain=CLUSTER_DOMAIN,
        state=node.state,
        logs=LOGS,
    )
    put(config, text)
    flags = {
        "config": config,
        "kubeconfig": PKI / f"kubelet-{node.name}.kubeconfig",
        "hostname-override": node.name,
        "node-ip": node.address,
        "root-dir": node.state / "kubelet",
        "cert-dir": node.state / "kubelet-pki",
    }
    return [binary, "kubelet", *_flags(flags)]


def proxy(binary: Path, network: Network, node: Node) -> list[str | Path]:
    """kube-proxy: one serves every node, as they share this machine's network."""
    config = STATE / "proxy.yaml"
    put(config, render("proxy.yaml", pki=PKI, name=node.name, pods=network.pods, address=node.address))
    return [binary, "kube-proxy", f"--config={config}"]


def enforcer(nodes: Sequence[Node]) -> list[str | Path]:
    """The NetworkPolicy enforcer; Pods on fake nodes have no network and are not watched."""
    selector = f"spec.nodeName={nodes[0].name}" if len(nodes) == 1 else "spec.nodeName!="
    module = ["-m", "dev.cluster.policy.enforcer"]
    return [sys.executable, *module, PKI / "policy.kubeconfig", POLICY_SOCKET, POLICY_TABLE, selector]


def enforcer_environment() -> dict[str, str]:
    """Where the enforcer's modules are; no byte code is written into the checkout."""
    return {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}


# what runs in the cluster


def kubectl(binary: Path, *arguments: str | Path, stdin: str | None = None) -> str:
    """Run kubectl as the cluster's administrator."""
    return shell.run([binary, "kubectl", f"--kubeconfig={ADMIN_KUBECONFIG}", *arguments], stdin=stdin)


def addons(network: Network) -> str:
    """Manifests of CoreDNS and of the enforcer's role."""
    return render("addons.yaml", domain=CLUSTER_DOMAIN, coredns=COREDNS_IMAGE, dns=network.dns_service)
