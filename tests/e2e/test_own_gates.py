"""A task's own gates on the real cluster: what failed goes back to the agent, which goes on from its work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.cluster import Cluster, condition, fresh_name
from tests.support.images import image

pytestmark = pytest.mark.cluster

GATE = 'grep -qx 42 answer.txt || { echo "answer.txt holds $(cat answer.txt), the answer is 42"; exit 3; }'
# The first attempt is wrong. A continuation has the first one's work, and is told what the gate printed.
LEARNS = """set -e
if [ -z "$TIDEGATE_GATE_FAILURE" ]; then
  echo 41 > answer.txt
  echo begun > kept.txt
else
  test "$(cat answer.txt)" = 41
  printf '%s\\n' "$TIDEGATE_GATE_FAILURE" > told.txt
  sed -n 's/^| .*the answer is //p' told.txt > answer.txt
fi
"""
NEVER = "test -e answer.txt || echo 41 > answer.txt; date +%s%N > tried.txt"


@pytest.fixture(scope="module")
def answer_profile(cluster: Cluster) -> Iterator[str]:
    """A GateProfile that passes for one answer."""
    name = fresh_name("answer")
    cluster.apply(objects.gate_profile(name, image("runner"), readable="test -s README.md", answer=GATE))
    yield name
    cluster.kubectl("delete", "gateprofile", name, "--wait=false")


def test_a_failed_gate_sends_the_agent_on_until_it_passes_and_lands(team: Team, answer_profile: str) -> None:
    workers = {"agentClassName": team.script_class, "maxParallel": 2, "timeoutSeconds": 120}
    own = {"profileName": answer_profile, "maxContinuations": 1}
    team.build("ask", [objects.task("one", LEARNS)], workers={**workers, "ownGates": own})
    assert team.finalized("ask")["reason"] == "Passed"
    status = team.status("agenttask", "ask-1-one")
    assert [(a["outcome"], a["reason"]) for a in status["attempts"]] == [
        ("Failed", "OwnGatesFailed"), ("Complete", "Completed"),
    ]  # fmt: skip
    assert (status["continuations"], status["ownGates"]["verdict"]) == (1, "Passed")
    assert "failedAttempts" not in status
    first, second = (attempt["commit"] for attempt in status["attempts"])
    assert status["ownGates"]["commit"] == second != first
    team.clone.fetch()
    assert team.clone.read("answer.txt") == "42"
    assert team.clone.read("kept.txt") == "begun"
    told = team.clone.read("told.txt")
    assert "## Gate answer failed (GateFailed)" in told
    assert "| answer.txt holds 41, the answer is 42" in told
    runs = team.cluster.list("gateruns", team.namespace, "tidegate.dev/purpose=task")
    assert {run["spec"]["commit"] for run in runs} == {first, second}


def test_the_last_failure_ends_the_task_and_keeps_its_work(team: Team, answer_profile: str) -> None:
    own = {"profileName": answer_profile, "maxContinuations": 1}
    task = objects.agent_task("stubborn", team.url, NEVER, agent_class=team.script_class, ownGates=own)
    team.cluster.apply(task, namespace=team.namespace)
    status = team.task_in_state("stubborn", "Failed", 240)
    said = condition({"status": status}, "Succeeded")
    assert said["reason"] == "OwnGatesFailed"
    assert "answer" in said["message"]
    assert (status["continuations"], len(status["attempts"])) == (1, 2)
    team.clone.fetch()
    assert team.clone.read("answer.txt", status["ref"]) == "41"
    assert not team.cluster.list("mergejobs", team.namespace)
