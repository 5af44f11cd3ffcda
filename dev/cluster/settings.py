"""Names, paths, versions and addresses of the local cluster, all in one place."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
TEMPLATES = HERE / "templates"
TOOLS = HERE.parent / "tools"

KUBERNETES_VERSION = "1.36.3"
PAUSE_IMAGE = "localhost/tidegate-pause:1"
COREDNS_IMAGE = "localhost/tidegate-coredns:1"
BASE_IMAGE = "localhost/tidegate-base:12"
DEBIAN_SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "git", "openssh-client", "python3", "python3-venv")

# One cluster a machine: Kubernetes shares the host's firewall, sysctls and cgroups anyway.
STATE = Path("/var/lib/tidegate-local")
RUN = Path("/run/tidegate-local")
CGROUP = "tidegate-local"
CNI_NETWORK = "tidegate-local"
NAT_TABLE = "tidegate_local"
POLICY_TABLE = "tidegate_local_policy"
PROCESS_MARK = "TIDEGATE_LOCAL_CLUSTER"
API_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"
CONTROLLER_QPS = 500  # client limit of controller-manager and scheduler, calls a second
MAX_REAL_NODES = 4

PKI = STATE / "pki"
LOGS = STATE / "log"
AUDIT_LOG = LOGS / "audit" / "audit.log"
POLICY_SOCKET = RUN / "policy.sock"
ADMIN_KUBECONFIG = PKI / "admin.kubeconfig"


def cache_root() -> Path:
    """Directory for what is built once: binaries and images. Outside every checkout."""
    given = os.environ.get("TIDEGATE_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidegate"


@dataclass(frozen=True)
class Node:
    """One real kubelet with its own containerd, address and Pod range."""

    index: int
    address: IPv4Address
    pods: IPv4Network

    @property
    def name(self) -> str:
        return f"node{self.index}"

    @property
    def bridge(self) -> str:
        return f"tgl{self.index}"

    @property
    def state(self) -> Path:
        return STATE / self.name

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def cgroup(self) -> str:
        return f"{CGROUP}/{self.name}"


@dataclass(frozen=True)
class Network:
    """Address ranges of the cluster, chosen once and kept with its state."""

    nodes: IPv4Network
    pods: IPv4Network
    services: IPv4Network
    fake_pods: IPv4Network

    def node(self, index: int) -> Node:
        """Node `index`, counted from 1: its address and one /24 of the Pod range."""
        blocks = list(self.pods.subnets(new_prefix=24))
        return Node(index, self.nodes[index], blocks[index - 1])

    @property
    def api_address(self) -> IPv4Address:
        return self.nodes[1]

    @property
    def api_url(self) -> str:
        return f"https://{self.api_address}:{API_PORT}"

    @property
    def api_service(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns_service(self) -> IPv4Address:
        return self.services[10]

    def ranges(self) -> tuple[IPv4Network, ...]:
        return (self.nodes, self.pods, self.services, self.fake_pods)

    def to_json(self) -> str:
        names = ("nodes", "pods", "services", "fake_pods")
        return json.dumps({name: str(getattr(self, name)) for name in names}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Network:
        data = json.loads(text)
        return cls(**{name: IPv4Network(value) for name, value in data.items()})

    @classmethod
    def numbered(cls, number: int) -> Network:
        """The candidate ranges number 0 to 4; each lies in parts of 10/8 that the others leave free."""
        return cls(
            nodes=IPv4Network(f"10.25{number}.0.0/24"),
            pods=IPv4Network(f"10.{244 - 16 * number}.0.0/16"),
            services=IPv4Network(f"10.{96 - 16 * number}.0.0/16"),
            fake_pods=IPv4Network(f"10.{245 - 16 * number}.0.0/16"),
        )
