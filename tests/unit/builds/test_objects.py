"""What a build makes and writes fits the API's own types and bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tests.support.git import git
from tidegate import names
from tidegate.api.gates import markers_gate
from tidegate.api.v1alpha1.agenttask import AgentTask
from tidegate.api.v1alpha1.buildrequest import BuildRequestStatus
from tidegate.api.v1alpha1.gaterun import GateRun
from tidegate.api.v1alpha1.mergejob import MergeJob
from tidegate.api.v1alpha1.mergelane import MergeLane
from tidegate.api.views import BuildView
from tidegate.builds import objects, status
from tidegate.builds.decide.decision import StatusUpdate
from tidegate.builds.decide.finalize import Verdict
from tidegate.builds.decide.planning import PlannerTask
from tidegate.builds.decide.sweep import Fix
from tidegate.builds.decide.world import (
    MAX_UNMERGED,
    Change,
    Finalization,
    GateResult,
    Lane,
    PlannedTask,
    Planning,
    Source,
    Spec,
    Sweep,
    Tasks,
    World,
)
from tidegate.clients.task_refs import delete_refs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATE = {"name": "tests", "image": "img", "command": ["pytest", "-q"], "timeoutSeconds": 60, "input": "Tree"}
WORLD = World(
    namespace="n", name="mk", uid="0123456789ab", now=NOW,
    spec=Spec({"url": "https://git.example.org/r.git", "targetBranch": "main", "credentialsSecretName": "token"}),
    lane=Lane("r-main-1", "lane-uid", ready=True, head="a" * 40), sweep=Sweep(gates=(GATE,)),
)  # fmt: skip


def test_tasks_fit_their_type() -> None:
    planned = PlannedTask("a", "do it", "Tester", ("src/*",), ("tests/a.py",), 2, ("b",), "fast")
    made = AgentTask.model_validate(objects.task(WORLD, 3, planned))
    assert made.spec.depends_on[0].name == "mk-3-b"
    assert (made.spec.role, made.spec.priority, made.spec.agent_class_name) == ("Tester", 2, "fast")
    source = Source("x" * 32_768, story="y" * 60_000)
    made = AgentTask.model_validate(objects.planner(WORLD, source, PlannerTask(3, 2, "tasks[0].role: wrong")))
    assert made.spec.role == "Planner"
    assert objects.planner(WORLD, source, PlannerTask(3, 2))["metadata"]["name"] == "mk-3-plan-2"
    result = GateResult("r", "tests", 4, "c" * 40, "Failed", log_tail="z" * 9000, command=("pytest", "-q"))
    made = AgentTask.model_validate(objects.fixer(WORLD, Fix(4, result)))
    assert "pytest -q" in made.spec.prompt
    assert len(made.spec.prompt) < 4096


def test_a_requeued_job_is_the_old_one_under_a_name_of_its_own() -> None:
    spec: dict[str, Any] = {
        "taskRef": {"name": "mk-1-a", "uid": "u"}, "buildRef": {"name": "mk"}, "repository": {"url": "https://g.org/r"},
        "sourceRef": "refs/tidegate/tasks/u", "sourceCommit": "b" * 40, "targetBranch": "main", "strategy": "Squash",
        "desiredState": "Run",
    }  # fmt: skip
    change = Change("mk-1-a", 2, "Worker", "Complete", "refs/x", "b" * 40, "GatesFailed", job=spec)
    made = objects.merge_job(WORLD, change, 1)
    assert made["metadata"]["name"] == "mk-1-a-2-r1"
    job = MergeJob.model_validate(made)
    assert (job.spec.strategy, job.spec.source_commit, job.spec.desired_state) == ("Squash", "b" * 40, "Run")
    assert job.spec.priority == 1


def test_lane_and_sweep_runs_fit_their_types() -> None:
    lane = MergeLane.model_validate(objects.lane(WORLD))
    assert lane.spec.repository.credentials_secret_name == "token"
    world = replace(WORLD, sweep=Sweep(gates=(GATE, markers_gate("runner"))))
    first, second = objects.sweep_runs(world, 7)
    for run in (first, second):
        made = GateRun.model_validate(run)
        assert (made.spec.purpose, made.spec.number, made.spec.commit) == ("Sweep", 7, "a" * 40)
    assert run["metadata"]["ownerReferences"][0]["uid"] == "lane-uid"


def test_names_stay_within_their_bounds_and_apart() -> None:
    long = "b" * 63
    found = {objects.fixer_name(long, n, "g" * 63) for n in range(20)} | {
        objects.planner_name(long, n, attempt) for n in range(20) for attempt in (1, 2, 3)
    }
    assert len(found) == 80
    assert max(map(len, found)) <= 57
    world = replace(WORLD, name=long)
    assert len(objects.sweep_run_name(world, 3, "g" * 63)) <= 63
    assert objects.sweep_run_name(world, 3, "tests") != objects.sweep_run_name(replace(world, uid="f" * 8), 3, "tests")


def full_status() -> dict[str, Any]:
    change = Change(
        "t" * 63, 1, "Worker", "Complete", "refs/tidegate/tasks/" + "u" * 36, "c" * 40, "R" * 70, "\u20ac\x1b" * 999
    )
    world = replace(
        WORLD,
        tasks=Tasks(counts={"Complete": 9000}, changes=(change,) * MAX_UNMERGED, changes_total=9000),
        start_time=NOW,
    )
    update = StatusUpdate(
        slots=tuple(f"{n:063d}" for n in range(1000)),
        planning=Planning(iteration=9, complete=True),
        sweep=Sweep(number=3, time=NOW, commit="c" * 40, failed=tuple("g" * 63 for _ in range(50)), red_time=NOW),
        finalization=Finalization(attempts=3, sweep_start=NOW),
        conditions=tuple((f"C{n}", "True", "R", "m" * 5000) for n in range(12)),
        verdict=Verdict(False, "Exhausted", "w" * 5000),
    )
    return status.status_of(world, update, {}, 4)


def test_a_full_status_fits_its_type_and_is_small() -> None:
    full = full_status()
    BuildRequestStatus.model_validate({k: v for k, v in full.items() if v is not None})
    assert len(orjson.dumps(full)) < 256 * 1024
    assert len(full["lastSweep"]["failed"]) == 32
    assert "\x1b" not in full["unmerged"][0]["message"]


def test_a_status_is_read_back_as_it_was_written() -> None:
    written = full_status()
    assert status.planning_of(written) == Planning(iteration=9, complete=True)
    sweep = status.sweep_of(written)
    assert (sweep.number, sweep.time, sweep.red_time, len(sweep.failed)) == (3, NOW, NOW, 32)
    assert status.finalization_of(written) == Finalization(attempts=3, sweep_start=NOW)
    assert not status.differs(written, written)
    assert status.differs({"slots": []}, written)
    assert not status.differs({"slots": [], "headCommit": None}, {})


def test_a_spec_takes_the_operators_defaults() -> None:
    view = BuildView.from_object({"metadata": {"name": "mk", "namespace": "n"}, "spec": {"request": "x"}})
    spec = status.spec_of(view, planner_class="planner", gate_profile="standard")
    assert (spec.planner_class, spec.gate_profile, spec.static, spec.max_tasks) == ("planner", "standard", False, 500)


def test_only_the_tasks_own_refs_are_deleted(tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    tree = git("hash-object", "-t", "tree", "-w", "--stdin", cwd=remote, stdin="")
    commit = git("commit-tree", "-m", "x", tree, cwd=remote)
    mine = [names.task_ref("u1"), names.wip_ref("u1", 2), names.attempt_ref("u2"), names.handoff_ref("u2", 1)]
    others = [
        "refs/heads/main", "refs/tags/u1", "refs/heads/u1", names.task_ref("u3"), names.task_ref("u11"),
        names.lane_ref("u1", "ledger"), names.lane_ref("l", "sources", "u1"),
    ]  # fmt: skip
    for ref in [*mine, *others]:
        git("update-ref", ref, commit, cwd=remote)
    assert delete_refs(f"file://{remote}", None, ["u1", "u2"], protocols="file") == 4
    left = git("for-each-ref", "--format=%(refname)", cwd=remote).split()
    assert sorted(left) == sorted(others)
    assert delete_refs(f"file://{remote}", None, ["u1", "u2"], protocols="file") == 0
