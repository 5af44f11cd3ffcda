"""Own gates: a task is complete when they passed on its commit; else its agent goes on, a bounded number of times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support import taskworld as w
from tidegate.api import reasons
from tidegate.api.gates import gate_key
from tidegate.api.views import GateRunView, ProfileView, TaskView
from tidegate.tasks.continuation import own_run_name
from tidegate.tasks.decide import decide
from tidegate.tasks.decide.gating import CONTINUATION_WAIT
from tidegate.tasks.model import INFRASTRUCTURE_LIMIT, NO_PROBLEM, Decision, Observed, Problem
from tidegate.tasks.objects import own_gate_run
from tidegate.tasks.observe import own_gates

TESTS, LINT = w.gate("tests"), w.gate("lint")
OWN = w.own_gates("tests", "lint")


def after(seen: Observed, decision: Decision, **fields: Any) -> Observed:
    """The world once the decision's status is written."""
    view = w.task(status=w.merged(seen.task.status(), decision.status), **fields)
    return replace(seen, task=view, pods=())


def gating(**around: Any) -> Observed:
    """A task whose attempt ended well a moment ago."""
    seen = w.observed(w.task(status=w.with_attempt()), pods=(w.ended(),), **{"own_gates": OWN, **around})
    return after(seen, decide(seen))


def succeeded(view: TaskView, type_: str = reasons.SUCCEEDED) -> tuple[str, str, str]:
    found: dict[str, Any] = next((c for c in view.status()["conditions"] if c["type"] == type_), {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def judged(*runs: GateRunView, seen: Observed | None = None) -> tuple[TaskView, Decision]:
    """The task after its runs were seen."""
    seen = replace(seen or gating(), runs=runs)
    decision = decide(seen)
    return after(seen, decision).task, decision


def test_a_good_attempt_waits_for_the_gates() -> None:
    seen = gating()
    assert seen.task.state == "Gating"
    assert not seen.task.commit
    status, reason, _ = succeeded(seen.task)
    assert (status, reason) == ("Unknown", "Gating")
    assert seen.task.status()["ownGates"] == {"attempt": 1, "commit": "c" * 40, "profileName": "p"}
    decision = decide(seen)
    assert [(start.gate["name"], start.number) for start in decision.create_runs] == [("tests", 1), ("lint", 1)]
    assert not decision.create_job
    message = succeeded(after(seen, decision).task)[2]
    assert all(start.name in message for start in decision.create_runs)


def test_without_own_gates_nothing_is_held_back() -> None:
    assert gating(own_gates=None).task.state == "Complete"


def test_an_empty_diff_needs_no_gates() -> None:
    pod = w.ended(said=w.report(commit="", ref=""))
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,), own_gates=OWN)
    assert after(seen, decide(seen)).task.state == "Complete"


def test_it_waits_while_one_runs() -> None:
    view, decision = judged(w.gate_run(TESTS, "Passed"), w.gate_run(LINT))
    assert view.state == "Gating"
    assert not decision.create_runs
    assert [(row["name"], row["verdict"]) for row in view.status()["ownGates"]["gates"]] == [
        ("tests", "Passed"), ("lint", ""),
    ]  # fmt: skip
    again = decide(replace(gating(), task=view, runs=(w.gate_run(TESTS, "Passed"), w.gate_run(LINT))))
    assert again.status is None


def test_all_passed_completes_the_task() -> None:
    view, decision = judged(w.gate_run(TESTS, "Passed"), w.gate_run(LINT, "Passed"))
    assert (view.state, view.commit, view.status()["mergeJob"]) == ("Complete", "c" * 40, "t-1")
    assert succeeded(view) == ("True", "Completed", "done")
    assert view.status()["ownGates"]["verdict"] == "Passed"
    assert [note.reason for note in decision.notes] == ["Complete"]
    assert decide(replace(gating(), task=view)).create_job


def test_a_failure_sends_the_agent_on_without_counting_as_one() -> None:
    view, decision = judged(w.gate_run(TESTS, "Failed"), w.gate_run(LINT, "Passed"))
    status = view.status()
    assert (view.state, status["continuations"]) == ("Pending", 1)
    assert "failedAttempts" not in status
    assert status["nextAttemptTime"] == w.at(CONTINUATION_WAIT)
    assert succeeded(view)[:2] == ("Unknown", "Continuing")
    assert status["attempts"][0]["reason"] == "OwnGatesFailed"
    assert "tests" in status["attempts"][0]["message"]
    assert "lint" not in status["attempts"][0]["message"]
    assert decision.again_after == CONTINUATION_WAIT
    assert [note.type for note in decision.notes] == ["Warning"]


def test_the_next_good_attempt_is_gated_anew_on_its_own_commit() -> None:
    view, _ = judged(w.gate_run(TESTS, "Failed"), w.gate_run(LINT, "Passed"))
    later = w.NOW.replace(minute=5)
    seen = replace(gating(), task=view, now=later, preflight=NO_PROBLEM)
    seen = after(seen, decide(seen))
    assert (seen.task.state, seen.task.attempt) == ("Assigned", 2)
    second = w.ended(attempt=2, said=w.report(commit="e" * 40))
    seen = replace(seen, pods=(second,))
    seen = after(seen, decide(seen))
    assert seen.task.state == "Gating"
    assert seen.task.status()["ownGates"] == {"attempt": 2, "commit": "e" * 40, "profileName": "p"}
    old = (w.gate_run(TESTS, "Passed"), w.gate_run(LINT, "Passed"))
    assert len(decide(replace(seen, runs=old)).create_runs) == 2


def test_the_last_failure_ends_the_task_and_its_work_stays() -> None:
    seen = gating(own_gates=w.own_gates("tests", "lint", most=0))
    view, decision = judged(w.gate_run(TESTS, "Failed"), w.gate_run(LINT, "Failed"), seen=seen)
    status, reason, message = succeeded(view)
    assert (view.state, status, reason) == ("Failed", "False", "OwnGatesFailed")
    assert "tests, lint" in message
    assert w.TASK_REF in message
    assert view.ref == w.TASK_REF
    assert not view.commit
    assert succeeded(view, reasons.MERGED)[:2] == ("False", "OwnGatesFailed")
    assert decision.notes[0].reason == "OwnGatesFailed"
    assert decide(replace(seen, task=view)).status is None


def test_what_the_cluster_ends_is_run_again_and_not_without_end() -> None:
    infra = w.gate_run(TESTS, "Infra", ended=-5)
    view, decision = judged(infra, w.gate_run(LINT, "Passed"))
    assert (view.state, decision.create_runs, decision.again_after) == ("Gating", (), 5)
    old = w.gate_run(TESTS, "Infra", ended=-10)
    view, decision = judged(old, w.gate_run(LINT, "Passed"))
    assert [(s.name, s.number) for s in decision.create_runs] == [(w.gate_run(TESTS, number=2).meta.name, 2)]
    assert "continuations" not in view.status()
    last = w.gate_run(TESTS, "Infra", number=INFRASTRUCTURE_LIMIT + 1, ended=-5)
    view, decision = judged(last, w.gate_run(LINT, "Passed"))
    assert (view.state, succeeded(view)[1]) == ("Failed", "InfrastructureExhausted")
    assert w.TASK_REF in succeeded(view)[2]


def test_a_failure_beside_an_exhausted_gate_sends_the_agent_on() -> None:
    last = w.gate_run(TESTS, "Infra", number=INFRASTRUCTURE_LIMIT + 1)
    view, _ = judged(last, w.gate_run(LINT, "Failed"))
    assert (view.state, view.status()["continuations"]) == ("Pending", 1)


def test_a_lost_run_is_made_again() -> None:
    _, decision = judged(w.gate_run(TESTS, "Passed"))
    assert [start.gate["name"] for start in decision.create_runs] == ["lint"]


def test_another_definition_is_another_gate() -> None:
    lax = w.gate_run(w.gate("tests", timeoutSeconds=5), "Passed")
    stale = w.gate_run(w.gate("tests", timeoutSeconds=6))
    view, decision = judged(lax, stale, w.gate_run(LINT, "Passed"))
    assert view.state == "Gating"
    assert [start.gate["name"] for start in decision.create_runs] == ["tests"]
    assert [run.name for run in decision.delete_runs] == [stale.meta.name]


def test_a_cancel_ends_the_runs_and_wins() -> None:
    seen = replace(gating(), task=w.task(status=gating().task.status(), desiredState="Cancelled"))
    view, decision = judged(w.gate_run(TESTS), w.gate_run(LINT, "Passed"), seen=seen)
    assert (view.state, view.status()["attempts"][0]["outcome"]) == ("Cancelled", "Cancelled")
    assert [run.name for run in decision.delete_runs] == [w.gate_run(TESTS).meta.name]
    cancelled = replace(seen, task=w.task(status=view.status(), desiredState="Cancelled"), runs=(w.gate_run(LINT),))
    assert [run.name for run in decide(cancelled).delete_runs] == [w.gate_run(LINT).meta.name]
    assert decide(cancelled).status is None


def test_runs_of_a_complete_task_go_with_its_pods() -> None:
    runs = (w.gate_run(TESTS, "Passed"), w.gate_run(LINT, "Passed"))
    view, _ = judged(*runs)
    done = replace(gating(), task=view, runs=runs, jobs=(w.job(),))
    assert decide(done) == Decision(again_after=300)
    late = decide(replace(done, now=w.NOW.replace(minute=5)))
    assert {run.name for run in late.delete_runs} == {run.meta.name for run in runs}


def test_a_profile_that_vanished_holds_the_work_until_it_is_back() -> None:
    gone = w.own_gates(problem=Problem(reasons.PROFILE_MISSING, "make it"))
    seen = replace(gating(), own_gates=gone, runs=(w.gate_run(TESTS),))
    decision = decide(seen)
    view = after(seen, decision).task
    assert (view.state, succeeded(view)[1]) == ("Gating", "GateProfileMissing")
    assert succeeded(view, reasons.STALLED)[0] == "True"
    assert not decision.delete_runs
    assert decide(replace(seen, task=view)).status is None
    back, _ = judged(w.gate_run(TESTS), seen=replace(seen, task=view, own_gates=OWN))
    assert succeeded(back, reasons.STALLED)[0] == ""


def test_no_agent_starts_for_gates_that_can_not_be_run() -> None:
    missing = w.own_gates(problem=Problem(reasons.PROFILE_MISSING, "make it"))
    seen = w.observed(w.task(), own_gates=missing, preflight=NO_PROBLEM)
    assert succeeded(after(seen, decide(seen)).task)[1] == "GateProfileMissing"
    fine = replace(seen, own_gates=OWN, task=after(seen, decide(seen)).task)
    assert succeeded(after(fine, decide(fine)).task)[1] == "Pending"


def test_another_ones_run_is_left_alone() -> None:
    seen = replace(gating(), foreign_run="tests-x-1")
    decision = decide(seen)
    assert succeeded(after(seen, decision).task)[1] == "NameTaken"
    assert not decision.create_runs
    assert not decision.delete_runs


def test_somebody_who_writes_the_state_is_corrected() -> None:
    seen = replace(gating(), task=w.task(status={**gating().task.status(), "state": "Complete"}))
    status = decide(seen).status
    assert status is not None
    assert status["state"] == "Gating"


def test_the_run_is_the_tasks_and_holds_to_the_lanes_slots() -> None:
    [start, _] = decide(gating()).create_runs
    task = gating().task
    run = own_gate_run(task, w.build(), start)
    assert run["metadata"]["name"] == start.name == own_run_name(w.UID, "tests", gate_key(TESTS), "c" * 40, 1)
    assert [(o["kind"], o["uid"]) for o in run["metadata"]["ownerReferences"]] == [("AgentTask", w.UID)]
    spec = run["spec"]
    assert (spec["purpose"], spec["commit"], spec["baseCommit"], spec["fetchRef"]) == (
        "Task", "c" * 40, "b" * 40, w.TASK_REF,
    )  # fmt: skip
    assert spec["laneRef"]["name"] == run["metadata"]["labels"]["tidegate.dev/lane"]
    assert spec["gate"] == TESTS


def test_services_and_reviews_are_left_to_the_lane() -> None:
    def profile(*gates: Any, **spec: Any) -> ProfileView:
        metadata = {"name": "p", "uid": "p", "resourceVersion": "1"}
        return ProfileView.from_object({"metadata": metadata, "spec": {"gates": list(gates), **spec}})

    service = {"name": "board", "http": {"url": "https://a.b/c"}}
    review = {"name": "review", "review": {"agentClassName": "reviewer"}}
    assert own_gates("p", 2, profile(TESTS, service, review), "ns").gates == (TESTS,)
    reasons_given = [
        own_gates("p", 2, profile(service, review), "ns").problem,
        own_gates("p", 2, None, "ns").problem,
        own_gates("p", 2, profile(TESTS, allowedNamespaces=["other"]), "ns").problem,
    ]
    assert [problem.reason for problem in reasons_given if problem] == [
        "NoGateToRun", "GateProfileMissing", "NamespaceNotAllowed",
    ]  # fmt: skip
