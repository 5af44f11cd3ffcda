"""Ending the local cluster without a trace, also after a crash: processes, Pods, mounts, cgroups, links, rules."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from dev.cluster import host, owner, prerequisites, processes
from dev.cluster.errors import ClusterError
from dev.cluster.progress import say, step
from dev.cluster.settings import CNI_NETWORK, MAX_REAL_NODES, RUN, STATE, Network

# in this order: nothing restarts what was ended before it; the API server before its database
_ORDER = ("kwok", "kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "policy-enforcer")
_PATIENCE = {"kube-apiserver": 3.0, "kwok": 2.0}
_DEFAULT_PATIENCE = 5.0
_KUBELET_PLUGINS = Path("/var/lib/kubelet/device-plugins")  # does not follow --root-dir
_CONTAINER_LOGS = Path("/var/log/containers")  # neither does this one
_SHIM_SOCKETS = Path("/run/containerd/s")
_PLUGIN_RESULTS = Path("/var/lib/cni/results")
_SHARED_DIRECTORIES = (
    _KUBELET_PLUGINS,
    _KUBELET_PLUGINS.parent,
    _CONTAINER_LOGS,
    _PLUGIN_RESULTS,
    _PLUGIN_RESULTS.parent,
    _SHIM_SOCKETS,
    _SHIM_SOCKETS.parent,
)


def down(wipe: bool, force: bool) -> None:
    """End everything and put the machine back; with `wipe`, forget the state too.

    A cluster of another checkout is ended only with `force`; where this one shares it, it is left running.
    """
    prerequisites.require_root()
    with owner.exclusive():
        if not force and not _may_end():
            return
        _take_down(wipe)
    say("Cluster is down" + (", its state deleted" if wipe else f"; its state is kept in {STATE}"))


def clear_abandoned() -> None:
    """Delete what another checkout's cluster left, if nothing of it runs; the caller holds the lock."""
    if owner.is_abandoned():
        say(f"Clearing the stopped cluster of {owner.current()}, and its state")
        _take_down(wipe=True)


def _take_down(wipe: bool) -> None:
    with step("Ending the cluster's processes"):
        _end_processes()
        _end_pods()
    with step("Removing mounts, cgroups, interfaces and rules"):
        _clean_host()
    if wipe:
        _wipe()
    _check_nothing_left()


def _may_end() -> bool:
    other = owner.current()
    if owner.is_ours() or (other and not other.exists()):
        return True
    if owner.sharing():
        say(f"The cluster belongs to {other} and is left running")
        return False
    raise ClusterError(f"the local cluster belongs to the checkout {other}: end it there, or say --force")


def _rank(name: str) -> int:
    for rank, prefix in enumerate(_ORDER):
        if name.startswith(prefix):
            return rank
    return {"kube-apiserver": 100, "etcd": 101}.get(name, 102)  # containerd last


def _end_processes() -> None:
    names = sorted(processes.names(), key=_rank)
    before = [p for n in names if _rank(n) < len(_ORDER) and (p := processes.recorded(n)) is not None]
    processes.end(before, _DEFAULT_PATIENCE)
    for name in names:
        if _rank(name) < 102:
            processes.stop(name, _PATIENCE.get(name, _DEFAULT_PATIENCE))


def _end_pods() -> None:
    """Kill the containers, then containerd and its shims, so that nothing starts them again."""
    for _ in range(3):
        _kill_cgroups()
    for name in processes.names():
        processes.stop(name, _DEFAULT_PATIENCE)
    processes.end(processes.marked(), 2.0)
    deadline = time.monotonic() + 10
    while host.cgroup_processes() and time.monotonic() < deadline:
        _kill_cgroups()


def _kill_cgroups() -> None:
    for pid in host.cgroup_processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)


def _clean_host() -> None:
    _forget_sandboxes()
    host.unmount_all()
    host.remove_cgroups()
    host.remove_rules()
    network = _network()
    host.remove_links(network, [network.node(index) for index in range(1, MAX_REAL_NODES + 1)])
    host.restore_sysctls()
    for link in _CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{STATE}/"):
            link.unlink()
    for entry in (_KUBELET_PLUGINS / "kubelet.sock", _KUBELET_PLUGINS / "kubelet_internal_checkpoint"):
        entry.unlink(missing_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    for directory in _SHARED_DIRECTORIES:
        with suppress(OSError):
            directory.rmdir()  # only where nobody else has something in it


def _forget_sandboxes() -> None:
    """Remove what containerd, whatever its configuration says, keeps in directories of the whole machine."""
    for file in RUN.glob("node*/containerd/io.containerd.runtime.v2.task/k8s.io/*/address"):
        socket = Path(file.read_text().strip().removeprefix("unix://"))
        if socket.parent == _SHIM_SOCKETS:
            socket.unlink(missing_ok=True)
    for result in _PLUGIN_RESULTS.glob(f"{CNI_NETWORK}-*-eth0"):
        sandbox = result.name.removeprefix(f"{CNI_NETWORK}-").removesuffix("-eth0")
        (_PLUGIN_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink()


def _network() -> Network:
    kept = STATE / "network.json"
    return Network.from_json(kept.read_text()) if kept.exists() else Network.numbered(0)


def _wipe() -> None:
    if any(path.startswith(f"{STATE}/") for path in host.mounts()):
        raise ClusterError(f"something is still mounted below {STATE}; see /proc/mounts, unmount it and try again")
    shutil.rmtree(STATE, ignore_errors=True)


def _check_nothing_left() -> None:
    left = [f"process {process.pid}" for process in processes.marked()]
    left += [f"process {pid} in a Pod's cgroup" for pid in host.cgroup_processes()]
    left += [f"mount {path}" for path in host.mounts() if path.startswith((f"{STATE}/", f"{RUN}/"))]
    left += [f"cgroup {path}" for path in host.cgroups()]
    if left:
        raise ClusterError("teardown left something behind: " + ", ".join(left[:20]) + ". Run it again")
