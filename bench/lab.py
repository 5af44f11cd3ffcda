"""The cluster of a run: fake nodes that take every Pod, a namespace, a repository."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tidegate.clients.kube import Json, Kube
from tidegate.clients.resources import Resource, register
from tidegate.errors import AlreadyExists, NotFound

for _kind, _plural in (
    ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
    ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
):
    register(Resource(_kind, "admissionregistration.k8s.io", "v1", _plural, namespaced=False))

ROOT = Path(__file__).resolve().parents[1]
FAKE_NODES = 10
NAMESPACE_LABELS = {"tidegate.dev/bench": "true"}
POLICY = "tidegate-bench-placement"
HOLD_CLASS = "bench-hold"
WORK_CLASS = "bench"
PROFILE = "bench"
CALLS_AT_ONCE = 16


@dataclass
class Lab:
    """What the scenarios share."""

    kube: Kube
    kubeconfig: Path
    directory: Path
    repository: str  # a file:// URL

    async def create_all(self, kind: str, namespace: str, objects: list[Json]) -> None:
        """Create objects in this order with a fixed number of requests at once, as a fast client does."""
        waiting = iter(objects)

        async def work() -> None:
            for obj in waiting:
                await self.kube.create(kind, namespace, obj)

        await asyncio.gather(*(work() for _ in range(CALLS_AT_ONCE)))

    @asynccontextmanager
    async def namespace(self, name: str) -> AsyncIterator[str]:
        """A namespace; its objects are deleted with it."""
        await self.kube.create("Namespace", "", {"metadata": {"name": name, "labels": NAMESPACE_LABELS}})
        await poll(lambda: self._has_account(name))
        try:
            yield name
        finally:
            await self.kube.delete("Namespace", "", name)
            await poll(lambda: self.gone("Namespace", "", name), 600)  # the next scenario has the machine to itself

    async def gone(self, kind: str, namespace: str, name: str) -> bool:
        """Whether there is no such object."""
        try:
            await self.kube.get(kind, namespace, name)
        except NotFound:
            return True
        return False

    async def _has_account(self, namespace: str) -> bool:
        return not await self.gone("ServiceAccount", namespace, "default")


def say(text: str) -> None:
    """Tell how far the run is; figures go to standard output, this does not."""
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    """Bring the cluster up with fake nodes; Pods of the bench's namespaces go to them and no others do."""
    up = ["up", "--fake-nodes", str(FAKE_NODES), "--stages", str(ROOT / "bench" / "stages.yaml")]
    await asyncio.to_thread(_cluster, *up)
    kubeconfig = Path(await asyncio.to_thread(_cluster, "kubeconfig"))
    kube = await Kube.connect(str(kubeconfig))
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        try:
            await _prepare(kube)
            yield Lab(kube, kubeconfig, Path(directory), make_repository(Path(directory) / "repo.git"))
        finally:
            for kind in ("MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"):
                await kube.delete(kind, "", POLICY)
            await kube.close()


def _cluster(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "dev" / "cluster" / "cli.py"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


async def _prepare(kube: Kube) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())
        name = definition["metadata"]["name"]
        await kube.patch("CustomResourceDefinition", "", name, definition, content="apply")
        await poll(functools.partial(_established, kube, name))
    for obj in placement():
        await kube.patch(obj["kind"], "", POLICY, obj, content="apply")
    for name in (WORK_CLASS, HOLD_CLASS):
        spec = {"image": "localhost/bench:1", "engine": {"protocol": "Script"}}
        await _create_once(kube, "AgentClass", name, spec)
    gate = {"name": "nothing", "image": "localhost/bench:1", "command": ["true"], "input": "Tree"}
    await _create_once(kube, "GateProfile", PROFILE, {"gates": [gate]})


async def _established(kube: Kube, name: str) -> bool:
    return is_true((await kube.get("CustomResourceDefinition", "", name)).get("status") or {}, "Established")


async def poll(check: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Ask until it is so; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(0.1)


def is_true(status: Json, condition: str) -> bool:
    """Whether a condition of a status is True."""
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions") or [])


def placement() -> list[Json]:
    """What sends every Pod of the bench's namespaces to the fake nodes, whoever makes it."""
    group = "admissionregistration.k8s.io/v1"
    toleration = 'Object.spec.tolerations{key: "kwok.x-k8s.io/node", operator: "Exists"}'
    patch = f"""[
      JSONPatch{{op: "add", path: "/spec/nodeSelector", value: {{"tidegate.dev/fake-node": "true"}}}},
      has(object.spec.tolerations)
        ? JSONPatch{{op: "add", path: "/spec/tolerations/-", value: {toleration}}}
        : JSONPatch{{op: "add", path: "/spec/tolerations", value: [{toleration}]}}
    ]"""
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    here = {"namespaceSelector": {"matchLabels": NAMESPACE_LABELS}}
    policy = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "matchConstraints": {**here, "resourceRules": [pods]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY},
    }
    return [policy, binding]


async def _create_once(kube: Kube, kind: str, name: str, spec: Json) -> None:
    try:
        await kube.create(kind, "", {"metadata": {"name": name}, "spec": spec})
    except AlreadyExists:
        return


def make_repository(path: Path) -> str:
    """A bare repository with one commit on `main`; its file:// URL."""
    seed = path.with_suffix(".seed")
    git = ["git", "-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "init.defaultBranch=main"]
    seed.mkdir()
    (seed / "README").write_text("A repository for measuring.\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, "-C", str(seed), *arguments], check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(seed), str(path)], check=True)
    return path.as_uri()
