"""kubectl and helm against the cluster that `dev/cluster` brought up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = (sys.executable, str(ROOT / "dev/cluster/cli.py"))
Object = dict[str, Any]


class DemoError(Exception):
    """What failed, and the cure."""


def run(command: Sequence[str], *, stdin: str | None = None, show: bool = False) -> str:
    """Run a command; its output. With `show` its standard error goes to ours. Raises DemoError with what it said."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout or "").strip()[-2000:]
        raise DemoError(
            f"{Path(command[0]).name} {' '.join(command[1:4])} ended with {done.returncode}. {said}".strip()
        )
    return done.stdout


class Kubectl:
    """kubectl with the demo's kubeconfig."""

    @cached_property
    def kubeconfig(self) -> str:
        """Path of the kubeconfig."""
        return run([*CLUSTER, "kubeconfig"]).strip()

    @cached_property
    def _tools(self) -> Path:
        return Path(run([*CLUSTER, "tools", "helm"], show=True).split()[-1])

    def tool(self, name: str) -> str:
        """A tool that the local cluster builds, else the one on PATH."""
        built = self._tools / name
        return str(built) if built.exists() else name

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; its output. Raises DemoError."""
        return run([self.tool("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments], stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Run helm; its output. Raises DemoError."""
        return run([self.tool("helm"), f"--kubeconfig={self.kubeconfig}", *arguments])

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """One object, or None."""
        found = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return dict(json.loads(found)) if found.strip() else None

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """All objects of a kind in a namespace."""
        narrowed = ["-l", selector] if selector else []
        return list(json.loads(self("get", kind, "-n", namespace, "-o", "json", *narrowed))["items"])

    def apply(self, text: str, namespace: str = "") -> None:
        """Apply YAML or JSON, server-side."""
        scope = ["-n", namespace] if namespace else []
        self("apply", "--server-side", "--force-conflicts", *scope, "-f", "-", stdin=text)

    def node_address(self) -> str:
        """An address of a node that this machine reaches."""
        for node in json.loads(self("get", "nodes", "-o", "json"))["items"]:
            if "kwok.x-k8s.io/node" in (node["metadata"].get("annotations") or {}):
                continue
            for address in node["status"]["addresses"]:
                if address["type"] == "InternalIP":
                    return str(address["address"])
        raise DemoError("no node of the cluster has an address; `kubectl get nodes -o wide` tells more")


def environment(kubectl: Kubectl) -> dict[str, str]:
    """Our environment with the demo's kubeconfig."""
    return {**os.environ, "KUBECONFIG": kubectl.kubeconfig}
