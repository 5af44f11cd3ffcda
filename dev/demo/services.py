"""What the demo runs beside Tidegate: namespaces, git server, embedded model, and the git token."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from string import Template

from dev.demo.kubectl import DemoError, Kubectl

BUILDS = "demo"  # where build requests go
SERVICES = "demo-services"  # where git server and model run
SYSTEM = "tidegate-system"  # where the chart is installed
GIT_HOST = f"git-server.{SERVICES}.svc"
GIT_PORT = 8080
TOKEN_SECRET = "git-token"
MANIFESTS = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Built:
    """An image as it was built: its tag, and a key of its content."""

    tag: str
    key: str


def namespaces(kubectl: Kubectl) -> None:
    """The three namespaces, each enforcing Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "tidegate.dev/demo": "true"}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name in (BUILDS, SERVICES, SYSTEM)
    ]
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def token(kubectl: Kubectl) -> str:
    """The git server's token; a random one is made the first time."""
    found = kubectl.get("secret", TOKEN_SECRET, SERVICES)
    if found:
        return base64.b64decode(found["data"]["password"]).decode()
    return secrets.token_urlsafe(24)


def share_token(kubectl: Kubectl, value: str) -> None:
    """The token as a Secret for the git server, and for builds with the URL prefix that it is for."""
    for namespace in (SERVICES, BUILDS):
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": TOKEN_SECRET,
                "annotations": {"tidegate.dev/git-url": f"http://{GIT_HOST}:{GIT_PORT}/"},
            },
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "git", "password": value},
        }
        kubectl.apply(json.dumps(secret), namespace)


def deploy(kubectl: Kubectl, name: str, image: Built) -> None:
    """Apply a manifest with its image; the Pod is replaced when the image's content changed."""
    template = Template((MANIFESTS / f"{name}.yaml").read_text())
    kubectl.apply(template.substitute(IMAGE=image.tag, KEY=image.key), SERVICES)


def await_rollout(kubectl: Kubectl, namespace: str, *deployments: str, seconds: int = 600) -> None:
    """Wait until Deployments are ready. Raises DemoError with how their Pods are."""
    for name in deployments:
        try:
            kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={seconds}s")
        except DemoError as error:
            pods = kubectl("get", "pods", "-n", namespace, "-o", "wide")
            raise DemoError(f"{name} in {namespace} did not become ready: {error}\n{pods}") from None
