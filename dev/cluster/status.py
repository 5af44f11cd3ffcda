"""What `status` prints of the local cluster."""

from __future__ import annotations

from collections.abc import Iterator

from dev.cluster import build, host, local, owner, processes
from dev.cluster.api import Api, ApiError
from dev.cluster.settings import ADMIN_KUBECONFIG, AUDIT_LOG, LOGS, STATE


def lines() -> Iterator[str]:
    """The report, line by line; plain text for people."""
    checkout = owner.current()
    if checkout is None:
        yield "local cluster: none (make cluster-up)"
        return
    yield f"local cluster of {checkout}" + ("" if owner.is_ours() else " (another checkout)")
    yield from _processes()
    network = host.choose_network()
    yield f"addresses: nodes {network.nodes}, Pods {network.pods}, Services {network.services}, API {network.api_url}"
    if processes.running("kube-apiserver"):
        yield from _nodes()
    yield f"kubeconfig: {ADMIN_KUBECONFIG}"
    yield f"kubectl:    KUBECONFIG={ADMIN_KUBECONFIG} {build.bin_directory() / 'kubectl'} get nodes"
    yield f"audit log:  {AUDIT_LOG} (older parts beside it)"
    yield f"logs:       {LOGS}"
    yield f"state:      {STATE}"


def _processes() -> Iterator[str]:
    for name in processes.names():
        process = processes.recorded(name)
        if process is not None and process.alive():
            yield f"  {name:<26} running  pid {process.pid:<8} {process.resident_mib():6.0f} MiB"
        else:
            yield f"  {name:<26} ENDED    see {processes.log_file(name)}; `make cluster-up` starts it again"
    if not processes.names():
        yield "  nothing runs (make cluster-up)"


def _nodes() -> Iterator[str]:
    try:
        api = Api(ADMIN_KUBECONFIG)
        nodes = api.get("/api/v1/nodes")["items"]
    except (ApiError, OSError) as silent:
        yield f"nodes: {silent}"
        return
    ready = [node["metadata"]["name"] for node in nodes if local.node_ready(api, node["metadata"]["name"])]
    yield f"nodes: {len(ready)} of {len(nodes)} ready ({', '.join(ready[:6])}{', ...' if len(ready) > 6 else ''})"
