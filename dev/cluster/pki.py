"""Certificates, service-account keys and kubeconfigs of the local cluster, made by openssl."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import shell
from dev.cluster.settings import CLUSTER_DOMAIN, PKI, Network, Node

DAYS = "3650"
_USERS = ("admin", "controller-manager", "scheduler", "proxy", "policy", "kwok")
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


@dataclass(frozen=True)
class Leaf:
    """One certificate: file name, authority that signs it, subject, purpose and names it serves."""

    name: str
    authority: str
    subject: str
    purpose: str
    serves: Sequence[str] = ()


def _control_plane(network: Network) -> list[Leaf]:
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    hosts = [*service, f"kubernetes.default.svc.{CLUSTER_DOMAIN}", "localhost"]
    addresses = ["127.0.0.1", str(network.api_address), str(network.api_service)]
    serves = [f"DNS:{host}" for host in hosts] + [f"IP:{address}" for address in addresses]
    masters = "/O=system:masters"
    return [
        Leaf("apiserver", "ca", "/CN=kube-apiserver", "serverAuth", serves),
        Leaf("apiserver-kubelet-client", "ca", f"{masters}/CN=kube-apiserver-kubelet-client", "clientAuth"),
        Leaf("front-proxy-client", "front-proxy-ca", "/CN=front-proxy-client", "clientAuth"),
        Leaf("admin", "ca", f"{masters}/CN=kubernetes-admin", "clientAuth"),
        Leaf("controller-manager", "ca", "/CN=system:kube-controller-manager", "clientAuth"),
        Leaf("scheduler", "ca", "/CN=system:kube-scheduler", "clientAuth"),
        Leaf("proxy", "ca", "/CN=system:kube-proxy", "clientAuth"),
        Leaf("policy", "ca", "/CN=tidegate-local:policy", "clientAuth"),
        Leaf("kwok", "ca", f"{masters}/CN=tidegate-local:kwok", "clientAuth"),
    ]


def _kubelet(node: Node) -> list[Leaf]:
    subject = f"/O=system:nodes/CN=system:node:{node.name}"
    serves = [f"DNS:{node.name}", f"IP:{node.address}"]
    return [
        Leaf(f"kubelet-{node.name}", "ca", subject, "clientAuth"),
        Leaf(f"kubelet-{node.name}-serving", "ca", subject, "serverAuth", serves),
    ]


def make(network: Network, nodes: Sequence[Node]) -> None:
    """Make what is missing below PKI; what is there stays as it is."""
    PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    PKI.chmod(0o700)
    _authority("ca", "kubernetes-ca")
    _authority("front-proxy-ca", "front-proxy-ca")
    _service_account_key()
    leaves = _control_plane(network) + [leaf for node in nodes for leaf in _kubelet(node)]
    for leaf in leaves:
        _sign(leaf)
    for user in [*_USERS, *(f"kubelet-{node.name}" for node in nodes)]:
        _kubeconfig(user, network.api_url)


def _authority(name: str, common_name: str) -> None:
    key, certificate = PKI / f"{name}.key", PKI / f"{name}.crt"
    if certificate.exists():
        return
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", usage]
    fresh = certificate.with_suffix(".new")
    names: list[str | Path] = ["-subj", f"/CN={common_name}", *extensions, "-keyout", key, "-out", fresh]
    shell.run(["openssl", "req", "-x509", *_KEY, "-days", DAYS, *names])
    fresh.rename(certificate)


def _sign(leaf: Leaf) -> None:
    key, certificate = PKI / f"{leaf.name}.key", PKI / f"{leaf.name}.crt"
    if certificate.exists():
        return
    request, extensions, fresh = (PKI / f"{leaf.name}.{suffix}" for suffix in ("csr", "ext", "new"))
    shell.run(["openssl", "req", "-new", *_KEY, "-subj", leaf.subject, "-keyout", key, "-out", request])
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        f"extendedKeyUsage={leaf.purpose}",
    ]
    if leaf.serves:
        lines.append(f"subjectAltName={','.join(leaf.serves)}")
    extensions.write_text("\n".join(lines) + "\n")
    signer: list[str | Path] = [
        "-CA",
        PKI / f"{leaf.authority}.crt",
        "-CAkey",
        PKI / f"{leaf.authority}.key",
        "-CAcreateserial",
    ]
    output: list[str | Path] = ["-days", DAYS, "-extfile", extensions, "-out", fresh]
    shell.run(["openssl", "x509", "-req", "-in", request, *signer, *output])
    request.unlink()
    extensions.unlink()
    fresh.rename(certificate)


def _service_account_key() -> None:
    private, public = PKI / "sa.key", PKI / "sa.pub"
    if public.exists():
        return
    shell.run(["openssl", "genrsa", "-out", private, "2048"])
    shell.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public])


def _kubeconfig(user: str, url: str) -> None:
    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    credentials = {
        "client-certificate-data": encoded(PKI / f"{user}.crt"),
        "client-key-data": encoded(PKI / f"{user}.key"),
    }
    cluster = {"server": url, "certificate-authority-data": encoded(PKI / "ca.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tidegate-local", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "tidegate-local", "context": {"cluster": "tidegate-local", "user": user}}],
        "current-context": "tidegate-local",
    }
    path = PKI / f"{user}.kubeconfig"
    text = json.dumps(document, indent=1)  # JSON is YAML
    if not path.exists() or path.read_text() != text:
        path.touch(mode=0o600)
        path.write_text(text)


def remove() -> None:
    """Delete all of it."""
    shutil.rmtree(PKI, ignore_errors=True)
