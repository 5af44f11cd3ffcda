"""Images into the containerd of each node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dev.cluster import shell
from dev.cluster.errors import ClusterError
from dev.cluster.settings import Node


def ctr(node: Node, *arguments: str | Path) -> str:
    """Run containerd's client in the kubelet's namespace."""
    return shell.run(["ctr", "--address", node.socket, "--namespace", "k8s.io", *arguments])


def answers(node: Node) -> bool:
    """Whether the node's containerd serves."""
    return shell.succeeds(["ctr", "--address", node.socket, "version"])


def load(nodes: Iterable[Node], archives: Iterable[Path]) -> list[str]:
    """Import docker or OCI archives into every node; returns the archives that were new to some node."""
    paths = [path.resolve() for path in archives]
    for path in paths:
        if not path.is_file():
            raise ClusterError(f"no such image archive: {path}")
    return [path.name for node in nodes for path in paths if _import(node, path)]


def _import(node: Node, path: Path) -> bool:
    """Import one archive, unless exactly this file is in already."""
    stat = path.stat()
    identity = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    mark = node.state / "imported" / hashlib.sha256(identity.encode()).hexdigest()
    if mark.exists():
        return False
    ctr(node, "images", "import", path)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{path}\n")
    return True
