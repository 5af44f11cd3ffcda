"""Whole builds of scripted agents on the real cluster: real Pods, real git, real gates."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.cluster import RefusedError, condition, fresh_name, wait_until
from tests.support.images import image

pytestmark = pytest.mark.cluster


def test_a_build_of_dependent_tasks_lands_in_order_and_passes(team: Team) -> None:
    team.build(
        "chain",
        [
            objects.task("first", "echo base > lib.txt"),
            objects.task("second", "grep -q base lib.txt && echo uses-$(cat lib.txt) > app.txt", "first"),
            objects.task("aside", "echo aside > aside.txt"),
        ],
    )
    verdict = team.finalized("chain")
    assert verdict["reason"] == "Passed", verdict
    team.clone.fetch()
    assert team.clone.read("app.txt") == "uses-base"
    assert {"lib.txt", "app.txt", "aside.txt"} <= set(team.clone.files())
    status = team.status("buildrequest", "chain")
    assert status["tasks"]["complete"] == 3
    assert status["merges"]["merged"] == 3
    assert not status.get("slots")
    assert condition({"status": status}, "Succeeded")["status"] == "True"
    assert len(team.clone.log()) == 4, "one commit a task on top of the seed"


def test_two_tasks_that_edit_the_same_lines(team: Team) -> None:
    """One lands; the other is reported with the file it conflicts in."""
    edit = "sleep 2; sed -i 's/two/{}/' shared.txt"
    team.build(
        "conflict",
        [objects.task("left", edit.format("left")), objects.task("right", edit.format("right"))],
        merge={"gateProfileName": team.profile, "maxConflictFixTasks": 0},
        finalization={"maxAttempts": 1},
    )
    verdict = team.finalized("conflict")
    assert verdict["reason"] == "Exhausted", verdict
    team.clone.fetch()
    assert team.clone.read("shared.txt").splitlines()[1] in {"left", "right"}
    jobs = team.cluster.list("mergejobs", team.namespace)
    conflicted = [job for job in jobs if condition(job, "Conflicted").get("status") == "True"]
    assert conflicted
    assert all(job["status"]["conflictFiles"] == ["shared.txt"] for job in conflicted)
    unmerged = team.status("buildrequest", "conflict")["unmerged"]
    assert len(unmerged) == 1
    assert unmerged[0]["reason"] == "MergeConflict"
    assert unmerged[0]["ref"] in team.clone.refs(), "what is unmerged stays on the remote"


def test_a_fixer_resolves_what_stays_in_conflict(team: Team) -> None:
    """Its work tree is the head with the other change merged in and markers left; what it makes of it lands."""
    resolve = "if grep -q '^<<<<<<<' shared.txt; then printf 'one\\nboth\\nthree\\n' > shared.txt; exit; fi"
    command = ["sh", "-c", f'{resolve}; sleep 2; sed -i "s/two/$TIDEGATE_TASK/" shared.txt']
    name = fresh_name("resolver")
    team.cluster.apply(objects.agent_class(name, image("runner"), engine={"protocol": "Exec", "command": command}))
    team.build("fixed", [objects.task(side, "Write your name.") for side in ("left", "right")], agent_class=name)
    verdict = team.finalized("fixed")
    team.cluster.kubectl("delete", "agentclass", name, "--wait=false")
    assert verdict["reason"] == "Passed", verdict
    team.clone.fetch()
    assert team.clone.read("shared.txt") == "one\nboth\nthree"
    fixers = [task for task in team.tasks().values() if task["spec"].get("role") == "Fixer"]
    assert [task["status"]["state"] for task in fixers] == ["Complete"]


def test_a_change_that_fails_a_gate_does_not_land(team: Team) -> None:
    team.build(
        "red",
        [objects.task("good", "echo fine > good.txt"), objects.task("bad", "echo x > broken")],
        finalization={"maxAttempts": 1},
    )
    verdict = team.finalized("red")
    assert verdict["reason"] == "Exhausted"
    assert "bad" in verdict["message"]
    team.clone.fetch()
    assert "good.txt" in team.clone.files()
    assert "broken" not in team.clone.files()
    failed = [g for g in team.cluster.list("gateruns", team.namespace) if g["status"].get("verdict") == "Failed"]
    assert failed
    assert all(run["spec"]["gate"]["name"] == "whole" for run in failed)
    assert all(run["status"]["exitCode"] == 1 for run in failed)


def test_deleting_a_build_in_the_middle_stops_its_pods_and_ends(team: Team) -> None:
    team.build("gone", [objects.task(f"sleeper-{n}", "sleep 600") for n in range(3)])
    wait_until(lambda: len(team.cluster.list("pods", team.namespace)) == 3, 90, "three Pods")
    team.cluster.kubectl("delete", "buildrequest", "gone", "-n", team.namespace, "--timeout=120s", timeout=150)
    wait_until(lambda: not team.cluster.list("pods", team.namespace), 90, "no Pod of the build")
    with pytest.raises(RefusedError, match="not found"):
        team.cluster.get("buildrequest", "gone", team.namespace)
    assert not team.tasks()


def test_cancelling_a_build_ends_everything(team: Team) -> None:
    team.build("stop", [objects.task("runs", "sleep 600"), objects.task("waits", "true", "runs")])
    wait_until(lambda: team.cluster.list("pods", team.namespace), 90, "a Pod")
    team.cluster.patch("buildrequest", "stop", team.namespace, {"spec": {"desiredState": "Cancelled"}})
    verdict = team.finalized("stop")
    assert verdict["reason"] == "Cancelled"
    states = {task["status"]["state"] for task in team.tasks().values()}
    assert states == {"Cancelled"}
    active = [p for p in team.cluster.list("pods", team.namespace) if p["status"]["phase"] in {"Pending", "Running"}]
    assert not active


def test_a_conflict_that_a_person_pushed_makes_the_head_red(team: Team) -> None:
    team.clone.push_file("notes.txt", "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n")
    team.build(
        "marked",
        [objects.task("aside", "echo aside > aside.txt")],
        sweep={"maxFixTasks": 0},
        finalization={"maxAttempts": 1},
    )
    verdict = team.finalized("marked")
    assert verdict["reason"] == "Exhausted", verdict
    assert "conflict-markers" in verdict["message"]
    [run] = team.cluster.list("gateruns", team.namespace, "tidegate.dev/gate=conflict-markers")
    assert run["status"]["verdict"] == "Failed"
    assert "notes.txt:2: a conflict is left here" in run["status"]["logTail"]
    assert team.status("buildrequest", "marked")["merges"]["merged"] == 1
