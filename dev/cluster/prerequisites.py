"""What the machine must have. Debian packages are installed where they are missing; the rest is named with its cure."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from dev.cluster import shell
from dev.cluster.errors import ClusterError
from dev.cluster.progress import step

# program or file -> the Debian package that brings it
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "mount": "mount",
    "debootstrap": "debootstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}
GO_CURE = "install Go 1.21 or later from https://go.dev/dl/ into /usr/local/go (it fetches newer toolchains itself)"


def require_root() -> None:
    """Raise unless this process may start containers and change the network."""
    if os.geteuid() != 0:
        raise ClusterError(
            "the local cluster runs containerd, a kubelet and firewall rules of this machine and needs root: "
            "run the same command as root, or set TIDEGATE_CLUSTER=given and KUBECONFIG to use a cluster you have"
        )
    if platform.system() != "Linux":
        raise ClusterError(f"the local cluster needs Linux, not {platform.system()}: use kind (TIDEGATE_CLUSTER=kind)")


def missing_packages() -> list[str]:
    """The Debian packages whose programs are not there, each once, in a fixed order."""
    missing: dict[str, None] = {}
    for program, package in PROGRAMS.items():
        there = Path(program).exists() if program.startswith("/") else shell.find(program) is not None
        if not there:
            missing[package] = None
    return list(missing)


def install_packages() -> None:
    """Install what is missing with apt-get; raise with the exact command where that cannot be."""
    packages = missing_packages()
    if not packages:
        return
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    if shell.find("apt-get") is None:
        raise ClusterError(f"missing: {', '.join(packages)} (Debian's names), and there is no apt-get; install them")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"Installing Debian packages: {' '.join(packages)}"):
        try:
            shell.run(["apt-get", "update", "-q"], extra_environment=quiet)
            shell.run(
                ["apt-get", "install", "-yq", "--no-install-recommends", *packages],
                extra_environment=quiet,
            )
        except ClusterError as failed:
            raise ClusterError(f"{failed}\nCure: make this succeed, then try again: {command}") from failed
    left = missing_packages()
    if left:
        raise ClusterError(f"still missing after the installation: {', '.join(left)}. Cure: {command}")


def require_go() -> None:
    """Raise unless a Go toolchain is there that can fetch the version that the modules name."""
    if shell.find("go") is None:
        raise ClusterError(f"the program `go` is missing. Cure: {GO_CURE}")
    found = re.search(r"go(\d+)\.(\d+)", shell.run(["go", "version"]))
    if found is None or (int(found[1]), int(found[2])) < (1, 21):
        version = found[0] if found else "unknown"
        raise ClusterError(f"Go is too old ({version}). Cure: {GO_CURE}")


def check_kernel() -> None:
    """Raise unless the kernel can filter bridged packets and serve overlay file systems."""
    for module, probe in (("br_netfilter", Path("/proc/sys/net/bridge")), ("overlay", None)):
        if probe is not None and probe.exists():
            continue
        if probe is None and "overlay" in Path("/proc/filesystems").read_text():
            continue
        if not shell.succeeds(["modprobe", module]):
            raise ClusterError(f"the kernel has no {module}. Cure: `modprobe {module}`, or a kernel built with it")
