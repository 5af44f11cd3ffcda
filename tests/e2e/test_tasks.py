"""Tasks that stand alone, on the real cluster: what a person, a node or the API server does to them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.cluster import RefusedError, condition, fresh_name, wait_until
from tests.support.images import image

pytestmark = pytest.mark.cluster


def start(team: Team, name: str, script: str, **spec: Any) -> None:
    """Apply a task without a build."""
    given = {"agent_class": team.script_class, "gateProfileName": team.profile, **spec}
    team.cluster.apply(objects.agent_task(name, team.url, script, **given), namespace=team.namespace)


def stalled(team: Team, name: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until a task says that somebody must change something; the condition."""

    def found() -> dict[str, Any]:
        present = condition({"status": team.status("agenttask", name)}, "Stalled")
        return present if present.get("status") == "True" else {}

    return wait_until(found, seconds, f"{name} to be stalled", every=0.5)


def pods(team: Team, task: str) -> list[dict[str, Any]]:
    return team.cluster.list("pods", team.namespace, f"tidegate.dev/task={task}")


def gone(team: Team, kind: str, name: str) -> bool:
    try:
        team.cluster.get(kind, name, team.namespace)
    except RefusedError:
        return True
    return False


def test_a_quota_holds_a_task_until_there_is_room(team: Team) -> None:
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}
    }  # fmt: skip
    team.cluster.apply(quota, namespace=team.namespace)
    wait_until(
        lambda: "hard" in (team.cluster.get("resourcequota", "none", team.namespace).get("status") or {}),
        30,
        "the quota",
    )
    start(team, "held", "echo 1 > held.txt")

    def held() -> bool:
        return condition({"status": team.status("agenttask", "held")}, "Succeeded").get("reason") == "QuotaExceeded"

    wait_until(held, 60, "the quota to hold the task")
    assert not pods(team, "held")
    team.cluster.kubectl("delete", "resourcequota", "none", "-n", team.namespace)
    status = team.task_in_state("held", "Complete", 180)
    assert "failedAttempts" not in status
    assert "infrastructureFailures" not in status


def test_a_class_that_the_cluster_refuses_stalls_until_it_is_mended(team: Team) -> None:
    name = fresh_name("odd")
    team.cluster.apply(objects.agent_class(name, image("runner"), runtimeClassName="not-there"))
    try:
        start(team, "refused", "echo 1 > refused.txt", agent_class=name)
        assert stalled(team, "refused")["reason"] == "PodRefused"
        team.cluster.kubectl("patch", "agentclass", name, "--type=merge", "-p", '{"spec":{"runtimeClassName":null}}')
        team.task_in_state("refused", "Complete", 120)
    finally:
        team.cluster.kubectl("delete", "agentclass", name, "--wait=false")


def test_a_missing_class_stalls_until_it_is_there(team: Team) -> None:
    name = fresh_name("late")
    start(team, "early", "echo 1 > early.txt", agent_class=name)
    found = stalled(team, "early")
    assert found["reason"] == "AgentClassMissing"
    assert name in found["message"]
    team.cluster.apply(objects.agent_class(name, image("runner")))
    try:
        team.task_in_state("early", "Complete", 120)
    finally:
        team.cluster.kubectl("delete", "agentclass", name, "--wait=false")


def test_a_pod_of_that_name_that_is_somebody_elses_is_left_alone(team: Team) -> None:
    restricted = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {"name": "c", "image": image("runner"), "command": ["sleep", "3600"], "securityContext": restricted}
    stranger = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "taken-1"}, "spec": {"containers": [container]}}
    team.cluster.apply(stranger, namespace=team.namespace)
    uid = team.cluster.get("pod", "taken-1", team.namespace)["metadata"]["uid"]
    start(team, "taken", "echo 1 > taken.txt")
    found = stalled(team, "taken")
    assert found["reason"] == "NameTaken"
    assert "taken-1" in found["message"]
    assert team.cluster.get("pod", "taken-1", team.namespace)["metadata"]["uid"] == uid
    team.cluster.kubectl("delete", "pod", "taken-1", "-n", team.namespace, "--grace-period=0", "--force")
    team.task_in_state("taken", "Complete", 180)


def test_an_image_that_is_not_there_is_the_clusters_failure(team: Team) -> None:
    name = fresh_name("noimage")
    team.cluster.apply(objects.agent_class(name, "localhost/tidegate/not-there:1", imagePullPolicy="Never"))
    try:
        start(team, "noimage", "echo 1", agent_class=name)

        def judged() -> dict[str, Any]:
            attempts = team.status("agenttask", "noimage").get("attempts") or [{}]
            return dict(attempts[0]) if attempts[0].get("endTime") else {}

        attempt = wait_until(judged, 120, "the first attempt to end")
        assert (attempt["reason"], attempt["infrastructure"]) == ("ImagePullFailed", True)
    finally:
        team.cluster.kubectl("delete", "agentclass", name, "--wait=false")


def test_cancel_stops_the_pod_and_keeps_the_work(team: Team) -> None:
    start(team, "stopped", "echo half > half.txt; echo begun; exec sleep 600")
    team.task_in_state("stopped", "Running", 120)
    wait_until(lambda: _has_begun(team, "stopped-1"), 120, "the script to run", every=1)
    team.cluster.patch("agenttask", "stopped", team.namespace, {"spec": {"desiredState": "Cancelled"}})
    status = team.task_in_state("stopped", "Cancelled", 120)
    assert [a["outcome"] for a in status["attempts"]] == ["Cancelled"]
    team.clone.fetch()
    assert team.clone.read("half.txt", status["ref"]) == "half"
    assert all(p["status"]["phase"] in ("Succeeded", "Failed") for p in pods(team, "stopped"))
    assert not team.cluster.list("mergejobs", team.namespace)


def test_a_pod_that_somebody_deletes_is_replaced(team: Team) -> None:
    start(team, "evicted", "echo part >> part.txt; echo begun; sleep 8; echo whole > whole.txt", retryLimit=0)
    wait_until(lambda: _has_begun(team, "evicted-1"), 120, "the script to run", every=1)
    team.cluster.kubectl("delete", "pod", "evicted-1", "-n", team.namespace, "--wait=false")
    status = team.task_in_state("evicted", "Complete", 180)
    first = status["attempts"][0]
    assert (first["reason"], first["infrastructure"], status["attempts"][1]["number"]) == ("Disrupted", True, 2)
    team.clone.fetch()
    assert team.clone.read("part.txt", first["ref"]) == "part"


def test_a_task_waits_for_another_and_starts_from_its_work(team: Team) -> None:
    start(team, "second", "test -s first.txt && cp first.txt second.txt", dependsOn=[{"name": "first"}])
    start(team, "first", "echo one > first.txt")
    status = team.task_in_state("second", "Complete", 240)
    first = team.status("agenttask", "first")
    assert first["mergedCommit"] == status["baseCommit"]


def test_deleting_a_task_takes_its_pod_with_it(team: Team) -> None:
    start(team, "dropped", "sleep 600")
    team.task_in_state("dropped", "Running", 120)
    team.cluster.kubectl("delete", "agenttask", "dropped", "-n", team.namespace, "--wait=true", "--timeout=30s")
    wait_until(lambda: gone(team, "pod", "dropped-1"), 120, "its Pod to go", every=1)


def _has_begun(team: Team, pod: str) -> bool:
    try:
        return "begun" in team.cluster.kubectl("logs", pod, "-c", "agent", "-n", team.namespace)
    except RefusedError:
        return False


def test_the_longest_prompt_in_any_script_reaches_the_agent(team: Team) -> None:
    end = "\nwc -c < /tidegate/input/prompt > bytes.txt\n"
    start(team, "long", "#" + "\N{WATER WAVE}" * (65_535 - len(end)) + end)
    commit = team.task_in_state("long", "Complete")["commit"]
    team.clone.fetch()
    assert int(team.clone.read("bytes.txt", commit)) > 250_000
