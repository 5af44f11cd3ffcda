"""What the cluster changes on this machine outside its own directories: addresses, sysctls, mounts, cgroups, rules."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from dev.cluster import shell
from dev.cluster.errors import ClusterError
from dev.cluster.settings import CGROUP, NAT_TABLE, POLICY_TABLE, RUN, STATE, Network, Node

NETWORK_CANDIDATES = 5
# kubelet, kube-proxy, the bridge plugin and we write these; they are put back at teardown
SYSCTLS = (
    "kernel.panic",
    "kernel.panic_on_oops",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.ip_forward",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
)
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_KUBE_PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))


# addresses


def choose_network() -> Network:
    """The ranges kept with the state, else the first candidate that touches no address and route of this machine."""
    kept = STATE / "network.json"
    if kept.exists():
        return Network.from_json(kept.read_text())
    taken = _ranges_in_use()
    for number in range(NETWORK_CANDIDATES):
        network = Network.numbered(number)
        if not any(ours.overlaps(theirs) for ours in network.ranges() for theirs in taken):
            STATE.mkdir(parents=True, exist_ok=True)
            kept.write_text(network.to_json())
            return network
    tried = ", ".join(str(entry) for n in range(NETWORK_CANDIDATES) for entry in Network.numbered(n).ranges())
    raise ClusterError(
        f"every address range of the local cluster collides with this machine's addresses or routes (tried {tried}); "
        f"write four free ranges into {kept}: {Network.numbered(0).to_json()}"
    )


def _ranges_in_use() -> list[IPv4Network]:
    interfaces = json.loads(shell.run(["ip", "-json", "-4", "address", "show"]) or "[]")
    addresses = [entry for interface in interfaces for entry in interface.get("addr_info", [])]
    ranges = [f"{entry['local']}/{entry['prefixlen']}" for entry in addresses]
    routes = json.loads(shell.run(["ip", "-json", "-4", "route", "show"]) or "[]")
    ranges += [route["dst"] for route in routes if route["dst"] != "default"]
    return [*(IPv4Network(text, strict=False) for text in ranges), *_name_servers()]


def _name_servers() -> list[IPv4Network]:
    servers = []
    for line in Path("/etc/resolv.conf").read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "nameserver":
            with suppress(ValueError):
                servers.append(IPv4Network(f"{IPv4Address(words[1])}/32"))
    return servers


def add_addresses(nodes: Iterable[Node]) -> None:
    """Give the loopback interface the nodes' addresses: nothing of the cluster listens on the machine's own."""
    for node in nodes:
        shell.run(["ip", "address", "replace", f"{node.address}/32", "dev", "lo"])


# sysctls


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def set_sysctls() -> None:
    """Set what bridging and forwarding need; what it was before is recorded once a boot."""
    record = RUN / "sysctls.json"
    if not record.exists() or json.loads(record.read_text())["boot"] != _boot():
        before = {name: _sysctl_path(name).read_text().strip() for name in SYSCTLS if _sysctl_path(name).exists()}
        record.write_text(json.dumps({"boot": _boot(), "values": before}))
    _sysctl_path("net.ipv4.ip_forward").write_text("1")
    _sysctl_path("net.bridge.bridge-nf-call-iptables").write_text("1")


def restore_sysctls() -> None:
    """Put back what set_sysctls recorded, where this is still the same boot."""
    record = RUN / "sysctls.json"
    if not record.exists():
        return
    data = json.loads(record.read_text())
    if data["boot"] == _boot():
        for name, value in data["values"].items():
            with suppress(OSError):
                _sysctl_path(name).write_text(value)
    record.unlink()


# mounts and network namespaces


def share_kubelet_directory(node: Node) -> None:
    """Make the kubelet's directory a shared mount: mount propagation into Pods needs one."""
    directory = node.state / "kubelet"
    directory.mkdir(parents=True, exist_ok=True)
    if str(directory) not in mounts():
        shell.run(["mount", "--bind", directory, directory])
        shell.run(["mount", "--make-rshared", directory])


def mounts() -> list[str]:
    """Mount points of this machine."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1].encode().decode("unicode_escape") for line in lines]


def unmount_all() -> None:
    """Unmount everything below the cluster's directories, network namespaces of Pods among it."""
    for _ in range(3):  # a mount on a mount shows up again
        ours = [path for path in mounts() if path.startswith((f"{STATE}/", f"{RUN}/"))]
        for path in sorted(ours, key=len, reverse=True):
            with suppress(ClusterError):
                shell.run(["umount", "--lazy", path])
        if not ours:
            return


# cgroups


def cgroup_roots() -> list[Path]:
    """The mounted hierarchies: one a controller with cgroup v1 (and `unified` beside them), one alone with v2."""
    if (_CGROUP_ROOT / "cgroup.controllers").exists():
        return [_CGROUP_ROOT]
    real = {path.resolve() for path in _CGROUP_ROOT.iterdir() if path.is_dir()}
    return sorted(path for path in real if (path / "cgroup.procs").exists())


def make_cgroup(node: Node) -> None:
    """Make the cgroup below which the node's kubelet keeps its Pods."""
    for root in cgroup_roots():
        (root / node.cgroup).mkdir(parents=True, exist_ok=True)
        if (root / "cpuset.cpus").exists():
            _fill_cpuset(root / CGROUP)
            _fill_cpuset(root / node.cgroup)
        elif root == _CGROUP_ROOT:
            _pass_controllers_on(root)
            _pass_controllers_on(root / CGROUP)


def _fill_cpuset(path: Path) -> None:
    """With cgroup v1 a cpuset starts empty, and then takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (path / name).read_text().strip():
            (path / name).write_text((path.parent / name).read_text())


def _pass_controllers_on(path: Path) -> None:
    """With cgroup v2 a controller reaches children only when the parent says so."""
    for controller in (path / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (path / "cgroup.subtree_control").write_text(f"+{controller}")


def cgroup_processes() -> list[int]:
    """Pids of everything that runs in the cluster's Pods."""
    pids: set[int] = set()
    for root in cgroup_roots():
        for file in (root / CGROUP).rglob("cgroup.procs"):
            with suppress(OSError):
                pids.update(int(line) for line in file.read_text().split())
    pids.discard(0)
    return sorted(pids)


def cgroups() -> list[Path]:
    """The cluster's topmost cgroups that exist."""
    return [root / CGROUP for root in cgroup_roots() if (root / CGROUP).exists()]


def remove_cgroups() -> None:
    """Remove the cluster's cgroups, innermost first; they must be empty of processes."""
    for root in cgroup_roots():
        for _ in range(20):
            left = _remove_tree(root / CGROUP)
            if not left:
                break
            time.sleep(0.1)


def _remove_tree(top: Path) -> bool:
    """Remove a cgroup tree as far as it goes; whether something is left."""
    if not top.exists():
        return False
    for directory, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()
    return top.exists()


# firewall


def add_masquerade(network: Network) -> None:
    """What leaves the Pod network for the outside gets the machine's address."""
    rules = (
        f"table ip {NAT_TABLE} {{}}\ndelete table ip {NAT_TABLE}\n"
        f"table ip {NAT_TABLE} {{\n chain postrouting {{\n  type nat hook postrouting priority srcnat; policy accept;\n"
        f"  ip saddr {network.pods} ip daddr != {network.pods} masquerade\n }}\n}}\n"
    )
    shell.run(["nft", "-f", "-"], stdin=rules)


def remove_rules() -> None:
    """Delete the tables of the cluster and of its kube-proxy."""
    for family, table in (*_KUBE_PROXY_TABLES, ("ip", NAT_TABLE), ("ip", POLICY_TABLE)):
        rules = f"table {family} {table} {{}}\ndelete table {family} {table}\n"
        with suppress(ClusterError):
            shell.run(["nft", "-f", "-"], stdin=rules)


def remove_links(network: Network, nodes: Iterable[Node]) -> None:
    """Delete bridges and the nodes' addresses on loopback."""
    for node in nodes:
        with suppress(ClusterError):
            shell.run(["ip", "link", "delete", node.bridge])
        with suppress(ClusterError):
            shell.run(["ip", "address", "delete", f"{network.node(node.index).address}/32", "dev", "lo"])
