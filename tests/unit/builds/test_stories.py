"""Whole builds against a model of their neighbours: what a person sees at the end."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.builds_model import NS, Model, build_object, static
from tidegate import names
from tidegate.builds import observe
from tidegate.errors import Forbidden


def tasks_of(model: Model) -> dict[str, dict[str, Any]]:
    return {task["metadata"]["name"]: task for task in model.all("AgentTask")}


def unmerged(model: Model) -> dict[str, str]:
    return {entry["task"]: entry["reason"] for entry in model.build["status"]["unmerged"]}


def run_task(model: Model, name: str, state: str = "Complete", *, diff: bool = True) -> None:
    model.settle()
    assert model.start(name), f"{name} may not start"
    assert model.end(name, state, diff=diff)
    model.make_jobs()


CHAIN = static({"name": "a"}, {"name": "b", "dependsOn": ["a"]})


def test_a_chain_runs_in_order_and_passes() -> None:
    model = Model(build_object(planning=CHAIN))
    model.settle()
    assert list(tasks_of(model)) == ["mk-1-a", "mk-1-b"]
    assert tasks_of(model)["mk-1-b"]["spec"]["dependsOn"] == [{"name": "mk-1-a"}]
    assert model.build["status"]["slots"] == ["mk-1-a"]
    run_task(model, "mk-1-a")
    model.settle()
    assert model.build["status"]["slots"] == []  # a change that isn't merged doesn't free its dependents
    model.finish_job("mk-1-a-1", merged=True)
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-b"]
    model.drive()
    assert model.condition("Finalized")["reason"] == "Passed"
    assert model.condition("Succeeded")["status"] == "True"
    assert not model.condition("Reconciling")
    status = model.build["status"]
    assert (status["tasks"]["complete"], status["merges"]["merged"], status["tasksSummary"]) == (2, 2, "2/2")
    assert status["completionTime"]
    assert status["finalization"]["passed"] is True


def test_children_belong_to_the_build() -> None:
    model = Model(build_object(planning=CHAIN))
    model.settle()
    task = tasks_of(model)["mk-1-a"]
    (owner,) = task["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("BuildRequest", model.build["metadata"]["uid"], True)
    assert task["metadata"]["labels"][names.LABEL_BUILD] == "mk"
    assert names.FINALIZER_BUILD in model.build["metadata"]["finalizers"]


def test_no_slot_before_the_lane_is_ready() -> None:
    model = Model(build_object(planning=CHAIN), lane_ready=False)
    model.settle()
    assert model.build["status"].get("slots") == []
    assert len(model.all("MergeLane")) == 1
    model.lane_ready = True
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-a"]


def test_a_failed_dependency_leaves_its_dependent_pending_and_ends_the_build() -> None:
    model = Model(build_object(planning=CHAIN))
    run_task(model, "mk-1-a", "Failed", diff=False)
    model.drive()
    assert model.state(tasks_of(model)["mk-1-b"]) == "Pending"
    assert model.condition("Finalized")["reason"] == "Exhausted"
    message = model.condition("Finalized")["message"]
    assert "mk-1-a (Failed)" in message
    assert "never started, a dependency is not met: mk-1-b" in message
    assert model.condition("Stalled")["status"] == "True"


def test_finalization_merges_on_another_head_what_failed_before_and_its_dependents_run() -> None:
    plan = static({"name": "a"}, {"name": "b", "dependsOn": ["a"]}, {"name": "c"})
    model = Model(build_object(planning=plan, merge={"maxConflictFixTasks": 0}))
    run_task(model, "mk-1-a")
    run_task(model, "mk-1-c")
    model.finish_job("mk-1-a-1", merged=False, reason="MergeConflict")
    model.finish_job("mk-1-c-1", merged=True)
    model.settle()
    assert unmerged(model) == {}  # queued again by now
    assert model.status_of_job("mk-1-a-1-r1") == "open"
    model.drive()
    assert model.condition("Finalized")["reason"] == "Passed"
    assert model.state(tasks_of(model)["mk-1-b"]) == "Complete"


def test_what_stays_unmerged_is_listed_with_ref_and_reason() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a")
    model.finish_job("mk-1-a-1", merged=False, reason="GatesFailed")
    model.drive()
    assert model.condition("Finalized")["reason"] == "Exhausted"
    (entry,) = model.build["status"]["unmerged"]
    assert entry["reason"] == "GatesFailed"
    assert entry["ref"].startswith("refs/tidegate/tasks/")
    assert len(model.all("MergeJob")) == 1  # the same head: queueing again can't help


def test_partial_work_is_neither_merged_nor_forgotten() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a", "Partial")
    model.drive()
    assert model.all("MergeJob") == []
    assert list(unmerged(model)) == ["mk-1-a"]
    assert "mk-1-a (Partial)" in model.condition("Finalized")["message"]


def test_a_red_head_gets_fixers_and_their_work_makes_it_pass() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a")
    model.finish_job("mk-1-a-1", merged=True)
    model.settle()
    (run,) = model.gate_runs()
    assert run["spec"]["purpose"] == "Sweep"
    assert run["spec"]["commit"] == model.head
    assert run["spec"]["fetchRef"] == "refs/heads/main"
    model.finish_gate(run["metadata"]["name"], "Failed")
    model.settle()
    fixer = tasks_of(model)["mk-s1-fix-tests"]
    assert fixer["spec"]["role"] == "Fixer"
    assert "assert 1 == 2" in fixer["spec"]["prompt"]
    assert model.condition("SweepGreen")["status"] == "False"
    model.drive()
    assert model.condition("Finalized")["reason"] == "Passed"
    assert model.build["status"]["finalization"]["attempts"] == 2


def test_a_sweep_waits_until_the_lane_shows_what_landed() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a")
    model.tick(5)
    model.finish_job("mk-1-a-1", merged=True, show=False)
    assert model.reconcile() == 1.0
    model.reconcile()
    assert model.gate_runs() == []
    model.settle()  # the lane comes round
    (run,) = model.gate_runs()
    assert run["spec"]["commit"] == model.head


def test_a_lane_that_never_shows_a_landing_holds_nothing_for_long() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a")
    model.tick(5)
    model.finish_job("mk-1-a-1", merged=True, show=False)
    model.tick(11)
    model.reconcile()
    assert len(model.gate_runs()) == 1


def test_a_head_that_stays_red_is_exhausted_after_the_attempts() -> None:
    model = Model(build_object(planning=static({"name": "a"}), finalization={"maxAttempts": 2}))
    model.drive(verdict="Failed")
    assert model.condition("Finalized")["reason"] == "Exhausted"
    assert model.build["status"]["finalization"]["attempts"] == 2
    assert "tests failed" in model.condition("Finalized")["message"]
    assert model.condition("SweepGreen")["status"] == "False"


def test_a_terminal_build_is_not_restarted_by_an_edit_or_a_new_task() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.drive()
    before = model.build["status"]
    model.patch("BuildRequest", "mk", {"spec": {"finalization": {"maxAttempts": 9}, "desiredState": "Cancelled"}})
    late = {"metadata": {"name": "late"}, "spec": {"buildRef": {"name": "mk"}, "prompt": "x"}}
    model.create("AgentTask", late)
    model.patch("BuildRequest", "mk", {"metadata": {"generation": 2}})
    model.settle()
    assert model.build["status"] == before | {"observedGeneration": 2}
    assert "ownerReferences" not in tasks_of(model)["late"]["metadata"]


def test_a_hand_made_task_is_adopted_while_the_build_is_active() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    model.create("AgentTask", {"metadata": {"name": "extra"}, "spec": {"buildRef": {"name": "mk"}, "prompt": "x"}})
    model.settle()
    (owner,) = tasks_of(model)["extra"]["metadata"]["ownerReferences"]
    assert owner["uid"] == model.build["metadata"]["uid"]
    assert set(model.build["status"]["slots"]) == {"mk-1-a", "extra"}


def test_a_name_that_is_taken_stalls_the_build_and_spoils_nothing() -> None:
    model = Model(build_object(planning=CHAIN))
    model.create("AgentTask", {"metadata": {"name": "mk-1-a"}, "spec": {"repository": {}, "prompt": "mine"}})
    model.settle()
    assert model.condition("Stalled")["reason"] == "NameTaken"
    assert "mk-1-a" in model.condition("Stalled")["message"]
    assert tasks_of(model)["mk-1-a"]["spec"]["prompt"] == "mine"
    model.run(model.store.delete("AgentTask", NS, "mk-1-a"))
    model.tick(30)
    model.settle()
    assert model.build["status"]["iteration"] == 1
    assert not model.condition("Stalled")


def test_a_missing_profile_holds_the_build_and_says_so() -> None:
    model = Model(build_object(planning=CHAIN, merge={"gateProfileName": "strict"}))
    model.settle()
    assert model.condition("Stalled")["reason"] == "GateProfileMissing"
    assert "'strict'" in model.condition("Stalled")["message"]
    assert model.all("AgentTask") == []


def test_a_task_that_a_person_must_help_shows_on_the_build() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "AgentClassMissing",
        "message": "AgentClass 'x' is missing",
    }
    wait = "2026-01-01T00:10:00Z"
    model.status("AgentTask", "mk-1-a", {"conditions": [stalled], "nextAttemptTime": wait})
    model.settle()
    assert model.condition("Stalled")["reason"] == "AgentClassMissing"
    assert "task mk-1-a: AgentClass 'x'" in model.condition("Stalled")["message"]
    assert model.build["status"]["slots"] == []
    model.status("AgentTask", "mk-1-a", {"conditions": [], "nextAttemptTime": None})
    model.settle()
    assert not model.condition("Stalled")
    assert model.build["status"]["slots"] == ["mk-1-a"]


def test_cancel_ends_everything_then_the_build() -> None:
    model = Model(build_object(planning=static({"name": "a"}, {"name": "b"}, {"name": "c", "dependsOn": ["a"]})))
    run_task(model, "mk-1-a")
    model.settle()
    assert model.start("mk-1-b")
    model.patch("BuildRequest", "mk", {"spec": {"desiredState": "Cancelled"}})
    model.settle()
    assert not model.finalized
    wishes = {n: t["spec"].get("desiredState") for n, t in tasks_of(model).items()}
    assert wishes == {"mk-1-a": None, "mk-1-b": "Cancelled", "mk-1-c": "Cancelled"}
    assert all(job["spec"]["desiredState"] == "Cancelled" for job in model.all("MergeJob"))
    assert model.build["status"]["slots"] == ["mk-1-b"]  # it still runs
    model.answer_cancels()
    model.settle()
    assert model.condition("Finalized")["reason"] == "Cancelled"
    assert model.condition("Succeeded")["status"] == "False"
    assert model.build["status"]["slots"] == []
    assert unmerged(model) == {"mk-1-a": "Cancelled"}


def test_delete_stops_the_work_then_lets_go() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    model.start("mk-1-a")
    model.run(model.store.delete("BuildRequest", NS, "mk"))
    model.settle()
    assert tasks_of(model)["mk-1-a"]["spec"]["desiredState"] == "Cancelled"
    assert ("BuildRequest", "mk") in model.store.objects
    model.answer_cancels()
    for _ in range(40):  # the remote can't be reached: refs are given up after 300 s, with an Event
        model.reconcile_quietly()
        model.tick(10)
        if ("BuildRequest", "mk") not in model.store.objects:
            break
    assert ("BuildRequest", "mk") not in model.store.objects
    assert [reason for _, reason, _ in model.store.events][-1] == "RefsNotDeleted"


def test_delete_waits_for_no_merge_job_that_never_comes() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    model.start("mk-1-a")
    model.run(model.store.delete("BuildRequest", NS, "mk"))
    model.end("mk-1-a")
    model.reconcile_quietly()
    model.tick(295)
    model.reconcile_quietly()
    assert ("BuildRequest", "mk") not in model.store.objects
    assert "Deleted" not in [reason for _, reason, _ in model.store.events]


def test_delete_ends_although_a_task_never_answers() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    model.start("mk-1-a")
    model.run(model.store.delete("BuildRequest", NS, "mk"))
    model.settle()
    model.tick(301)
    model.reconcile_quietly()
    assert ("BuildRequest", "mk") not in model.store.objects
    assert "Deleted" in [reason for _, reason, _ in model.store.events]


@pytest.mark.parametrize("ended", [False, True])
def test_delete_ends_although_the_rights_in_the_namespace_are_gone(
    ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    model.settle()
    model.start("mk-1-a")
    if ended:
        model.end("mk-1-a")
    allowed = model.store.patch

    async def patch(kind: str, *args: Any) -> dict[str, Any]:
        if kind != "BuildRequest":
            raise Forbidden(403, "Forbidden", "cannot patch")
        return await allowed(kind, *args)

    async def refused(*_: Any) -> Any:
        raise Forbidden(403, "Forbidden", "cannot get")

    monkeypatch.setattr(model.store, "patch", patch)
    monkeypatch.setattr("tidegate.builds.reconcile.git_credentials", refused)
    model.run(model.store.delete("BuildRequest", NS, "mk"))
    model.reconcile_quietly()
    assert ("BuildRequest", "mk") not in model.store.objects
    assert [reason for _, reason, _ in model.store.events][-1] == "RefsNotDeleted"


@pytest.mark.parametrize("delete", [False, True])
def test_after_the_ttl_the_children_go(delete: bool) -> None:
    model = Model(build_object(planning=CHAIN, ttlSecondsAfterFinished=60, deleteAfterFinished=delete))
    model.drive()
    status = model.build["status"]
    model.tick(59)
    model.reconcile()
    assert model.all("AgentTask")
    model.tick(2)
    for _ in range(5):
        if ("BuildRequest", "mk") in model.store.objects:
            model.reconcile_quietly()
    assert model.all("AgentTask") == []
    assert model.all("MergeJob") == []
    if delete:
        model.tick(400)
        assert model.build["metadata"]["deletionTimestamp"] if ("BuildRequest", "mk") in model.store.objects else True
    else:
        assert model.build["status"] == status


def test_a_retry_gives_its_slot_away_while_it_waits() -> None:
    model = Model(build_object(planning=static({"name": "a"}, {"name": "b"}), workers={"maxParallel": 1}))
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-a"]
    model.start("mk-1-a")
    model.end("mk-1-a", "Pending", backoff=20)
    before = tasks_of(model)["mk-1-a"]["metadata"]["resourceVersion"]
    model.settle()
    # It was moved first: a start that a stopped leader decided before this is refused by the API server.
    assert tasks_of(model)["mk-1-a"]["metadata"]["resourceVersion"] != before
    assert model.build["status"]["slots"] == ["mk-1-b"]
    model.start("mk-1-b")
    model.end("mk-1-b")
    model.make_jobs()
    model.settle()
    assert model.build["status"]["slots"] == []
    model.tick(21)
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-a"]


# -- agent plans


def planned(model: Model, monkeypatch: pytest.MonkeyPatch, *plans: Any) -> None:
    """What the planners' handoffs hold, one after the other, by handoff commit."""
    texts = {
        f"h{n}": orjson.dumps(p if isinstance(p, dict) else {"plan": {"tasks": p}}) for n, p in enumerate(plans, 1)
    }
    monkeypatch.setattr(observe, "read_blob", lambda *_a, commit, **_k: texts[commit])


def plan_once(model: Model, name: str, handoff: str) -> None:
    model.settle()
    assert model.start(name), f"{name} may not start: {list(tasks_of(model))}"
    model.end(name, diff=False, handoff=handoff)
    model.settle()


def test_an_agent_plan_is_applied_again_and_again_until_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(build_object())
    planned(model, monkeypatch, [{"name": "a", "prompt": "x"}], [{"name": "b", "prompt": "y"}], [])
    model.settle()
    planner = tasks_of(model)["mk-1-plan"]
    assert (planner["spec"]["role"], planner["spec"]["agentClassName"]) == ("Planner", "planner")
    assert planner["spec"]["prompt"] == "Build it."
    plan_once(model, "mk-1-plan", "h1")
    assert model.condition("Planned")["status"] == "True"
    run_task(model, "mk-1-a", diff=False)
    plan_once(model, "mk-2-plan", "h2")
    assert '"task":"mk-1-a"' in tasks_of(model)["mk-2-plan"]["spec"]["prompt"]
    run_task(model, "mk-2-b", diff=False)
    plan_once(model, "mk-3-plan", "h3")
    model.drive()
    assert model.build["status"]["iteration"] == 2
    assert model.condition("Finalized")["reason"] == "Passed"


def test_an_invalid_plan_gets_two_more_tries_then_the_build_is_exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(build_object())
    bad = [{"name": "a", "prompt": "x", "role": "Boss"}]
    planned(model, monkeypatch, bad, {"no": "plan"}, bad)
    plan_once(model, "mk-1-plan", "h1")
    assert model.condition("Planned")["reason"] == "PlanInvalid"
    assert "tasks[0].role" in tasks_of(model)["mk-1-plan-2"]["spec"]["prompt"]
    plan_once(model, "mk-1-plan-2", "h2")
    plan_once(model, "mk-1-plan-3", "h3")
    model.drive()
    assert (model.condition("Planned")["status"], model.condition("Planned")["reason"]) == ("False", "PlanInvalid")
    assert model.condition("Finalized")["reason"] == "Exhausted"
    assert "tasks[0].role" in model.condition("Finalized")["message"]
    assert [t for t in tasks_of(model) if "plan" not in t] == []


def test_a_second_try_that_is_good_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(build_object(planning={"maxIterations": 1}))
    planned(model, monkeypatch, {"no": "plan"}, [{"name": "a", "prompt": "x"}])
    plan_once(model, "mk-1-plan", "h1")
    plan_once(model, "mk-1-plan-2", "h2")
    model.drive()
    assert "mk-1-a" in tasks_of(model)
    assert model.condition("Finalized")["reason"] == "Passed"


def test_the_request_can_come_from_a_config_map() -> None:
    source: dict[str, Any] = {"requestFrom": {"configMapKeyRef": {"name": "wishes", "key": "request"}}, "request": None}
    model = Model(build_object(**source))
    model.settle()
    assert model.condition("Stalled")["reason"] == "RequestMissing"
    model.store.objects["ConfigMap", "wishes"] = {"data": {"request": "From a map."}}
    model.tick(30)
    model.settle()
    assert tasks_of(model)["mk-1-plan"]["spec"]["prompt"] == "From a map."
    assert not model.condition("Stalled")


# -- nothing is left behind


def test_a_build_waits_for_the_merge_job_of_a_complete_task() -> None:
    model = Model(build_object(planning=static({"name": "a"}), finalization={"enabled": False}))
    model.settle()
    model.start("mk-1-a")
    model.end("mk-1-a")
    model.settle()
    assert not model.finalized  # the tasks room has yet to queue the change
    model.make_jobs()
    model.settle()
    assert not model.finalized
    model.finish_job("mk-1-a-1", merged=True)
    model.settle()
    assert model.condition("Finalized")["reason"] == "Passed"


def test_a_cancelled_build_waits_for_its_merge_jobs() -> None:
    model = Model(build_object(planning=static({"name": "a"})))
    run_task(model, "mk-1-a")
    model.patch("BuildRequest", "mk", {"spec": {"desiredState": "Cancelled"}})
    model.settle()
    assert not model.finalized
    model.finish_job("mk-1-a-1", merged=True, reason="LandedBeforeCancel")
    model.settle()
    assert model.condition("Finalized")["reason"] == "Cancelled"
    assert model.build["status"]["merges"]["merged"] == 1
