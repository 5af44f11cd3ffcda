"""The chart installed by helm: two replicas with the chart's rights and policies do a build, and let go of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import objects
from tests.support.chart import CHART, HelmError, Object, helm, of_kind, rendered
from tests.support.cluster import ROOT, Cluster, RefusedError, condition, fresh_name, wait_until
from tests.support.gitserver import GitServer
from tests.support.images import image

pytestmark = pytest.mark.cluster

SEED = {"README.md": "A repository for tests.\n"}


@dataclass
class Release:
    """An installed release and the one namespace that it serves."""

    cluster: Cluster
    name: str
    home: str
    served: str
    url: str
    agent_class: str
    profile: str

    def build(self, name: str, scripts: dict[str, str], url: str = "", profile: str = "") -> None:
        """Apply a BuildRequest with a scripted task each."""
        build = objects.build(
            name,
            url or self.url,
            [objects.task(task, script) for task, script in scripts.items()],
            agent_class=self.agent_class,
            profile=profile or self.profile,
            finalization={"maxAttempts": 1},
        )
        self.cluster.apply(build, namespace=self.served)

    def verdict(self, name: str) -> str:
        """Wait until the build is finalized; the reason."""

        def found() -> str:
            condition_ = condition(self.get(name), "Finalized")
            return str(condition_["reason"]) if condition_.get("status") == "True" else ""

        return wait_until(found, 500, f"the verdict of {name}", every=1)

    def get(self, name: str) -> Object:
        """A BuildRequest as it is now."""
        return self.cluster.get("buildrequest", name, self.served)

    def pods(self) -> list[Object]:
        """The release's own Pods."""
        return self.cluster.list("pods", self.home, f"app.kubernetes.io/instance={self.name}")


def values(release: str, served: str, git_server: GitServer, agent_class: str) -> Object:
    """Cluster-wide objects that another release may own are left out."""
    script = objects.agent_class(agent_class, image("runner"))["spec"]
    return {
        "fullnameOverride": release,
        "namespaces": [served],
        "git": {
            "allowedHosts": [git_server.host],
            "allowedHttpHosts": [git_server.host],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 8080}]}],
        },
        "gateway": {"upstream": "http://models.invalid/v1", "replicas": 1},
        "crds": {"install": False},
        "gates": {"profiles": {"install": False}},
        "agentClasses": {"planner": None, "default": None, agent_class: script},
        "rbac": {"aggregateClusterRoles": False},
    }


@pytest.fixture(scope="module")
def release(cluster: Cluster, git_server: GitServer) -> Iterator[Release]:
    name, home, served = (fresh_name(word) for word in ("tg", "home", "served"))
    for namespace in (home, served):
        cluster.create_namespace(namespace)
    agent_class, profile = fresh_name("script"), fresh_name("profile")
    gate = objects.gate_profile(profile, image("runner"), readable="test -s README.md")
    cluster.apply(gate)
    cluster.apply(git_server.credentials(), namespace=served)
    flags = ["--namespace", home, "--wait", "--timeout", "180s"]
    chosen = values(name, served, git_server, agent_class)
    helm("install", name, str(CHART), *flags, values=chosen, kubeconfig=cluster.kubeconfig)
    url = git_server.url(git_server.make_repository(SEED))
    yield Release(cluster, name, home, served, url, agent_class, profile)
    if name in helm("list", "--namespace", home, "-q", kubeconfig=cluster.kubeconfig):
        helm("uninstall", name, "--namespace", home, kubeconfig=cluster.kubeconfig)
    cluster.kubectl("delete", "gateprofile", profile, "--wait=false")
    for namespace in (served, home):
        cluster.delete_namespace(namespace)


def logs(release: Release) -> str:
    """The newest lines of both replicas."""
    selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component=operator"
    return release.cluster.kubectl("logs", "-n", release.home, "-l", selector, "--tail=2000")


def test_a_build_passes_with_the_charts_rights(release: Release) -> None:
    release.build("first", {"only": "echo hello > hello.txt"})
    assert release.verdict("first") == "Passed"
    assert release.get("first")["status"]["merges"]["merged"] == 1
    seen = logs(release)
    assert "orbidden" not in seen
    assert "the API server warns" not in seen, "unknown fields are pruned, and warned of"


def test_what_the_chart_ships_follows_its_values(release: Release, git_server: GitServer) -> None:
    chosen = values(release.name, release.served, git_server, release.agent_class)
    more = fresh_name("more")
    classes = {**chosen["agentClasses"], more: {"engine": {"protocol": "Planner"}}}
    flags = ["--namespace", release.home, "--wait", "--timeout", "180s"]

    def upgrade(classes: Object) -> None:
        new = {**chosen, "agentClasses": classes}
        helm("upgrade", release.name, str(CHART), *flags, values=new, kubeconfig=release.cluster.kubeconfig)

    upgrade(classes)
    assert release.cluster.get("agentclass", more)["spec"]["engine"]["protocol"] == "Planner"
    upgrade(chosen["agentClasses"])
    with pytest.raises(RefusedError, match="not found"):
        release.cluster.get("agentclass", more)
    somebodys = fresh_name("somebodys")
    release.cluster.apply(objects.agent_class(somebodys, image("runner")))
    with pytest.raises(HelmError, match="post-upgrade"):
        upgrade({**classes, somebodys: {"engine": {"protocol": "Planner"}}})
    assert release.cluster.get("agentclass", somebodys)["spec"]["engine"]["protocol"] == "Script"
    release.cluster.kubectl("delete", "agentclass", somebodys)


def test_the_standby_is_ready_and_there_is_one_leader(release: Release) -> None:
    operators = [
        pod for pod in release.pods() if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    ]
    assert len(operators) == 2
    assert all(condition(pod, "Ready")["status"] == "True" for pod in operators)
    holder = release.cluster.get("lease", release.name, release.home)["spec"]["holderIdentity"]
    assert [pod for pod in operators if holder.startswith(pod["metadata"]["name"])]


@pytest.fixture(scope="module")
def python_project(release: Release, git_server: GitServer) -> Iterator[tuple[str, str]]:
    """The URL of a Python project and the name of the chart's profile `standard` under a name of its own."""
    seed = ROOT / "examples" / "mathkit-seed"
    sources = [path for path in seed.rglob("*") if path.suffix in (".py", ".toml", ".md")]
    files = {str(path.relative_to(seed)): path.read_text("utf-8") for path in sources}
    profile = of_kind(rendered({}), "GateProfile")["standard"]
    profile["metadata"]["name"] = name = fresh_name("standard")
    release.cluster.apply(profile)
    yield git_server.url(git_server.make_repository(files)), name
    release.cluster.kubectl("delete", "gateprofile", name, "--wait=false")


def gates(release: Release, task: str) -> dict[str, Object]:
    """What the gates said of a task's newest change."""
    jobs = [j for j in release.cluster.list("mergejobs", release.served) if task in j["spec"]["taskRef"]["name"]]
    newest = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    return {gate["name"]: gate for gate in newest["status"]["gates"]}


TESTED = """cat > mathkit/double.py <<'END'
def double(number: int) -> int:
    return 2 * number
END
cat > tests/test_double.py <<'END'
from mathkit.double import double


def test_double() -> None:
    assert double(4) == 8
END
"""

UNTESTED = """cat > mathkit/sign.py <<'END'
def sign(number: int) -> int:
    if number > 0:
        return 1
    if number < 0:
        return -1
    if number == 0:
        return 0
    raise AssertionError
END
"""


def test_the_standard_profile_lets_in_what_is_tested(release: Release, python_project: tuple[str, str]) -> None:
    release.build("python", {"tested": TESTED, "untested": UNTESTED}, *python_project)
    assert release.verdict("python") == "Exhausted"
    status = release.get("python")["status"]
    assert (status["merges"]["merged"], [change["reason"] for change in status["unmerged"]]) == (1, ["GatesFailed"])
    passed = {name: gate["verdict"] for name, gate in gates(release, "-tested").items()}
    assert passed == {"typecheck": "Passed", "lint": "Passed", "tests": "Passed"}
    failed = gates(release, "-untested")
    assert (failed["typecheck"]["verdict"], failed["tests"]["verdict"]) == ("Passed", "Failed")
    assert failed["tests"]["reason"] == "CoverageTooLow"
    assert "85 % required" in failed["tests"]["message"]


def test_the_operator_lets_go_when_it_is_uninstalled(release: Release) -> None:
    """Runs last: it removes the release in the middle of a build."""
    release.build("second", {"only": "sleep 600"})
    wait_until(lambda: release.get("second")["metadata"].get("finalizers"), 60, "the finalizer")
    helm("uninstall", release.name, "--namespace", release.home, kubeconfig=release.cluster.kubeconfig)
    assert not release.get("second")["metadata"].get("finalizers")
    release.cluster.kubectl("delete", "buildrequest", "second", "-n", release.served, "--timeout=60s")
    with pytest.raises(RefusedError, match="not found"):
        release.cluster.get("agentclass", release.agent_class)
