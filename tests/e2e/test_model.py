"""The whole chain once with a language model that runs in the cluster, set up as the demo sets it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.demo import commands, install
from dev.demo.build import SEED
from dev.demo.kubectl import Kubectl
from dev.demo.repository import GitServer
from dev.demo.services import BUILDS
from tests.support import objects
from tests.support.cluster import Cluster, condition, fresh_name, wait_until
from tests.support.git import Clone

pytestmark = [pytest.mark.cluster, pytest.mark.model, pytest.mark.timeout(2400)]

PROMPT = """\
Write the module mathkit/fibonacci.py with the function fibonacci(n: int) -> int, the n-th Fibonacci number:
fibonacci(0) is 0 and fibonacci(1) is 1.
"""


@pytest.fixture(scope="module")
def demo(cluster: Cluster) -> Iterator[Kubectl]:
    """Git server, model and chart; removed afterwards."""
    kubectl = Kubectl()
    install.up(kubectl)
    yield kubectl
    commands.down(kubectl)


def test_a_function_that_the_model_writes_lands(demo: Kubectl, cluster: Cluster, tmp_path: Path) -> None:
    git = GitServer(demo)
    name = fresh_name("fib")
    git.make(name, SEED)
    confined = {"scope": ["mathkit/fibonacci.py"], "acceptance": ["tests/test_fibonacci.py"]}
    task = objects.task("fibonacci", PROMPT, **confined)
    workers = {"timeoutSeconds": 900, "retry": {"limit": 4, "backoffSeconds": 2}}
    request = objects.build(
        name, git.url_in_cluster(name), [task], agent_class="default", profile="standard", workers=workers
    )
    cluster.apply(request, namespace=BUILDS)

    def verdict() -> dict[str, str]:
        found = condition(cluster.get("buildrequest", name, BUILDS), "Finalized")
        return found if found.get("status") == "True" else {}

    assert wait_until(verdict, 2000, "the verdict", every=2)["reason"] == "Passed"
    clone = Clone(git.url_here(name), tmp_path / "clone.git")
    assert "def fibonacci(n: int) -> int" in clone.read("mathkit/fibonacci.py")
    (landed,) = cluster.list("mergejobs", BUILDS)
    assert {gate["verdict"] for gate in landed["status"]["gates"]} == {"Passed"}
    (written,) = cluster.list("agenttasks", BUILDS)
    assert written["status"]["usage"]["tokensOut"] > 0, "the gateway counted what the model wrote"
    agent = next(pod for pod in cluster.list("pods", BUILDS, "tidegate.dev/component=agent"))
    by_name = {c["name"]: c for c in agent["spec"]["containers"]}
    assert "secretKeyRef" not in json.dumps(by_name["agent"]), "no key in the agent's container"
