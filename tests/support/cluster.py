"""The cluster under test, driven as a user drives it: by kubectl."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]
T = TypeVar("T")


def cache_dir() -> Path:
    """Where the tools and images are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("TIDEGATE_CACHE") or Path(base) / "tidegate")


def fresh_name(prefix: str) -> str:
    """A name no other test uses."""
    return f"{prefix}-{secrets.token_hex(3)}"


def tool(name: str) -> str:
    """The path of a tool that `make cluster-up` built, else the one on PATH."""
    built = cache_dir() / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    assert found, f"{name} is missing: run make cluster-up"
    return found


class RefusedError(AssertionError):
    """The API server refused an object; the text is its answer."""


class Cluster:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = tool("kubectl")

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl; its output. Raises RefusedError with its error text."""
        command = [self._kubectl, f"--kubeconfig={self.kubeconfig}", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise RefusedError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Object, namespace: str | None = None) -> None:
        """Apply objects, server-side."""
        text = "\n---\n".join(json.dumps(o) for o in objects)
        scope = ["-n", namespace] if namespace else []
        self.kubectl("apply", "--server-side", "--force-conflicts", *scope, "-f", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """One object."""
        scope = ["-n", namespace] if namespace else []
        found: Object = json.loads(self.kubectl("get", kind, name, *scope, "-o", "json"))
        return found

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """The objects of a kind in a namespace."""
        args = ["-l", selector] if selector else []
        items: list[Object] = json.loads(self.kubectl("get", kind, "-n", namespace, *args, "-o", "json"))["items"]
        return items

    def patch(self, kind: str, name: str, namespace: str, patch: Object) -> None:
        """Merge-patch one object."""
        self.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))

    def install_definitions(self) -> None:
        """Apply the resource definitions and wait until they are served."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"))

    def create_namespace(self, name: str) -> None:
        """A namespace that enforces Pod Security `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "tidegate.dev/test": "true"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        wait_until(lambda: self._has_default_account(name), 30, "the default ServiceAccount")

    def delete_namespace(self, name: str) -> None:
        """Delete it without waiting for its Pods."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def await_namespaces_gone(self, names: Iterable[str], seconds: float = 120) -> None:
        """Wait until deleted namespaces are gone: every finalizer in them has ended."""
        expected = set(names)

        def left() -> set[str]:
            return expected & {item["metadata"]["name"] for item in self.list("namespaces", "default")}

        wait_until(lambda: not left(), seconds, "the namespaces to be gone", every=1)

    def node_address(self) -> str:
        """An address of the first real node that host and Pods reach."""
        for node in json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]:
            if (node["metadata"].get("annotations") or {}).get("kwok.x-k8s.io/node"):
                continue
            for address in node["status"]["addresses"]:
                if address["type"] == "InternalIP":
                    return str(address["address"])
        raise AssertionError("no node with an address")

    def _has_default_account(self, namespace: str) -> bool:
        try:
            self.get("serviceaccount", "default", namespace)
        except RefusedError:
            return False
        return True


def condition(obj: Object, type_: str) -> Object:
    """The condition of that type, or an empty object."""
    for found in (obj.get("status") or {}).get("conditions") or []:
        if found["type"] == type_:
            return dict(found)
    return {}


def wait_until(check: Callable[[], T | None], seconds: float, what: str, every: float = 0.3) -> T:
    """Call `check` until it gives something true; fails with its last value."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"timed out after {seconds:.0f} s waiting for {what}; last: {value!r}"
        time.sleep(every)
