"""A git server in the cluster, reached by host and Pods under one URL: a node's address and a NodePort."""

from __future__ import annotations

import io
import secrets
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster, fresh_name, wait_until
from tests.support.git import Clone
from tests.support.images import image

PORT = 8080


class GitServer:
    """The project's own git server image with a random token."""

    def __init__(self, cluster: Cluster, namespace: str, token: str, address: str) -> None:
        self._cluster = cluster
        self.namespace = namespace
        self.token = token
        self.address = address

    @classmethod
    def start(cls, cluster: Cluster) -> GitServer:
        """Deploy it in a namespace of its own and wait until it answers."""
        namespace, token = fresh_name("git"), secrets.token_urlsafe(24)
        cluster.create_namespace(namespace)
        cluster.apply(*_manifests(token), namespace=namespace)
        cluster.kubectl("rollout", "status", "deployment/git-server", "-n", namespace, "--timeout=120s", timeout=150)
        port = cluster.get("service", "git-server", namespace)["spec"]["ports"][0]["nodePort"]
        server = cls(cluster, namespace, token, f"{cluster.node_address()}:{port}")
        wait_until(server._answers, 30, "the git server")
        return server

    def stop(self) -> None:
        """Remove it."""
        self._cluster.delete_namespace(self.namespace)

    @property
    def host(self) -> str:
        """The host part of its URLs."""
        return self.address.rsplit(":", 1)[0]

    def url(self, repository: str) -> str:
        """What a BuildRequest names."""
        return f"http://{self.address}/{repository}.git"

    def make_repository(self, files: dict[str, str], name: str = "") -> str:
        """Make a repository whose first commit on `main` holds the files; its name."""
        name = name or fresh_name("repo")
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as tar:
            for path, text in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
        self._request("PUT", f"/admin/repositories/{name}", body.getvalue())
        return name

    def clone(self, repository: str, directory: Path) -> Clone:
        """A person's view of the repository, with all refs."""
        return Clone(f"http://git:{self.token}@{self.address}/{repository}.git", directory)

    def credentials(self, name: str = "git-token") -> dict[str, Any]:
        """The Secret that a BuildRequest names."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": {"tidegate.dev/git-url": f"http://{self.address}/"}},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "git", "password": self.token},
        }

    def _answers(self) -> bool:
        try:
            self._request("GET", "/healthz")
        except OSError:
            return False
        return True

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://{self.address}{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return bytes(answer.read())


def _manifests(token: str) -> list[dict[str, Any]]:
    labels = {"app": "git-server"}
    container = {
        "name": "git-server",
        "image": image("git-server"),
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "GIT_SERVER_TOKEN", "value": token}],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "data", "mountPath": "/srv/git"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "enableServiceLinks": False,  # else GIT_SERVER_LISTEN_PORT is a URL
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "git-server"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "git-server"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
    }
    return [deployment, service]
