"""What holds a task, and how its attempts begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support import taskworld as w
from tidegate.api.views import TaskView
from tidegate.runtime.kinds import RESTING_TASKS
from tidegate.tasks import states
from tidegate.tasks.decide import decide
from tidegate.tasks.model import NO_PROBLEM, NOTHING, Decision, Dependency, Lane, Notice, Observed, PodDeletion, Problem


def after(seen: Observed, decision: Decision) -> TaskView:
    """The task once the decision's status is written."""
    view = seen.task
    status = w.merged(view.status(), decision.status)
    return w.task(build=view.build, status=status, desiredState=view.desired_state)


def succeeded(view: TaskView) -> dict[str, Any]:
    return next((c for c in view.status().get("conditions") or () if c["type"] == "Succeeded"), {})


def test_a_slot_starts_an_attempt_in_one_write_before_the_pod() -> None:
    seen = w.observed(w.task(), preflight=NO_PROBLEM)
    decision = decide(seen)
    assert decision.create_pod is None
    assigned = after(seen, decision)
    assert (assigned.state, assigned.attempt, assigned.attempt_open) == ("Assigned", 1, True)
    assert assigned.status()["attempts"] == [
        {"number": 1, "pod": "t-1", "class": "c", "classGeneration": 1, "startTime": w.at(0)}
    ]
    assert decide(replace(seen, task=assigned)).create_pod == 1


def test_the_remote_is_checked_before_an_attempt_is_recorded() -> None:
    seen = w.observed(w.task())
    assert decide(seen) == Decision(needs=frozenset({"preflight"}))
    stalled = after(seen, decide(replace(seen, preflight=Problem("SecretMissing", "Secret 'x' is not there"))))
    assert stalled.attempt == 0
    assert succeeded(stalled)["reason"] == "SecretMissing"


def test_without_a_slot_a_short_wait_is_not_worth_a_write() -> None:
    seen = w.observed(w.task(), build=w.build(slots=()))
    young = replace(seen, now=w.NOW.replace(hour=11, minute=58, second=21))  # it was made at 11:58:20
    assert decide(young) == Decision(again_after=4)
    held = after(seen, decide(seen))
    assert (held.state, succeeded(held)["reason"]) == ("Pending", "WaitingForSlot")
    assert decide(replace(seen, task=held)) == NOTHING


def test_dependencies_are_named_and_dead_ones_first() -> None:
    seen = w.observed(
        w.task(),
        dependencies=(
            Dependency("a", "Merged", False),
            Dependency("b", "Merged", True),
            Dependency("c", "Merged", False, "Failed"),
        ),
    )  # fmt: skip
    held = after(seen, decide(seen))
    assert succeeded(held)["reason"] == "WaitingForDependencies"
    assert succeeded(held)["message"] == "waits for c (Failed), a"


def test_a_message_about_dependencies_stays_while_it_is_true() -> None:
    first = (Dependency("a", "Merged", False), Dependency("b", "Merged", False))
    seen = w.observed(w.task(), dependencies=first)
    held = replace(seen, task=after(seen, decide(seen)))
    assert decide(held) == NOTHING
    one_met = replace(held, dependencies=(Dependency("a", "Merged", True), Dependency("b", "Merged", False)))
    assert decide(one_met) == NOTHING
    one_dead = replace(held, dependencies=(Dependency("a", "Merged", False, "Failed"), first[1]))
    assert succeeded(after(one_dead, decide(one_dead)))["message"] == "waits for a (Failed), b"


def test_nothing_starts_before_its_time() -> None:
    seen = w.observed(w.task(status={"state": "Pending", "nextAttemptTime": w.at(7)}), preflight=NO_PROBLEM)
    assert decide(seen) == Decision(again_after=7)


def test_a_task_alone_waits_for_its_lane() -> None:
    alone = w.task(build="")
    seen = w.observed(alone, lane=Lane("l"))
    assert decide(seen) == Decision(ensure_lane=True)
    held = after(seen, decide(replace(seen, lane=Lane("l", True, False, "the probe runs"))))
    assert succeeded(held)["reason"] == "WaitingForLane"
    assert "the probe runs" in succeeded(held)["message"]
    ready = replace(seen, lane=Lane("l", True, True), preflight=NO_PROBLEM)
    assert after(ready, decide(ready)).state == "Assigned"


def test_a_task_that_names_no_build_that_is_there_stalls() -> None:
    seen = w.observed(w.task(), build=None)
    assert succeeded(after(seen, decide(seen)))["reason"] == "BuildMissing"


def test_a_task_of_another_owner_waits_to_be_adopted() -> None:
    made = w.task_object()
    made["metadata"]["ownerReferences"] = []
    seen = w.observed(TaskView.from_object(made))
    assert "adopted" in succeeded(after(seen, decide(seen)))["message"]


def test_a_full_namespace_holds() -> None:
    seen = w.observed(w.task(), full=True, preflight=NO_PROBLEM)
    assert succeeded(after(seen, decide(seen)))["reason"] == "WaitingForSlot"


def test_never_two_pods_a_leftover_goes_first() -> None:
    status = w.with_attempt(outcome="Lost", endTime=w.at(-10)) | {"state": "Pending"}
    seen = w.observed(w.task(status=status), pods=(w.pod(),), preflight=NO_PROBLEM)
    assert decide(seen) == Decision(delete_pods=(PodDeletion("t-1", "pod-1"),))
    going = replace(seen, pods=(w.pod(deleting=True),))
    assert decide(going) == NOTHING
    gone = replace(seen, pods=())
    assert after(gone, decide(gone)).attempt == 2


def test_cancel_while_pending_ends_it_at_once() -> None:
    seen = w.observed(w.task(desiredState="Cancelled"))
    cancelled = after(seen, decide(seen))
    assert (cancelled.state, succeeded(cancelled)["reason"]) == ("Cancelled", "Cancelled")
    assert decide(replace(seen, task=cancelled)) == NOTHING


def test_cancel_while_running_stops_the_pod_and_then_ends_it() -> None:
    running = w.task(status=w.with_attempt(), desiredState="Cancelled")
    seen = w.observed(running, pods=(w.pod(),))
    assert decide(seen) == Decision(delete_pods=(PodDeletion("t-1", "pod-1"),))
    assert decide(replace(seen, pods=(w.pod(deleting=True),))) == NOTHING
    done = replace(seen, pods=(w.ended(143, deleting=True, said=w.report(ref="refs/tidegate/wip/x/1")),))
    ended = after(done, decide(done))
    assert ended.state == "Cancelled"
    assert ended.status()["attempts"][0]["outcome"] == "Cancelled"
    assert ended.ref == "refs/tidegate/wip/x/1"


def test_a_cancel_that_comes_before_the_judgement_wins_over_good_work() -> None:
    seen = w.observed(w.task(status=w.with_attempt(), desiredState="Cancelled"), pods=(w.ended(),))
    ended = after(seen, decide(seen))
    assert ended.state == "Cancelled"
    assert not decide(replace(seen, task=ended)).create_job


def test_deleting_a_task_needs_nothing() -> None:
    made = w.task_object(status=w.with_attempt())
    made["metadata"]["deletionTimestamp"] = w.at(0)
    assert decide(w.observed(TaskView.from_object(made), pods=(w.pod(),))) == NOTHING


def test_running_is_recorded_with_the_pods_uid_and_base() -> None:
    seen = w.observed(w.task(status=w.with_attempt(state="Assigned", podUID=None)), pods=(w.pod(),))
    decision = decide(seen)
    assert decision.notice is Notice.RUNS
    running = after(seen, decision).status()
    assert running["state"] == "Running"
    assert running["attempts"][0]["podUID"] == "pod-1"
    assert running["baseCommit"] == "b" * 40


def test_an_attempt_that_has_just_begun_may_end_before_it_is_recorded_as_running() -> None:
    brief = {"running": {"startedAt": w.at(-1)}}
    assigned = w.task(status=w.with_attempt(state="Assigned", podUID=None))
    decision = decide(w.observed(assigned, pods=(w.pod(workspace=brief),)))
    assert decision.status is None
    assert decision.again_after == 4.0
    ahead = {"running": {"startedAt": w.at(30)}}
    assert decide(w.observed(assigned, pods=(w.pod(workspace=ahead),))).status, "a node's clock may be ahead"


def test_what_a_task_waits_for_is_a_notice_unless_it_waits_in_vain() -> None:
    told = [
        decide(w.observed(w.task(), dependencies=(Dependency("a", "Complete", False, dead),)))
        for dead in ("", "Failed")
    ]
    assert [decision.notice for decision in told] == [Notice.WAITS, None]
    assert all(decision.status for decision in told)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        pytest.param(w.with_attempt(outcome="Complete", endTime=w.at(-1)), "Complete", id="back"),
        pytest.param(w.with_attempt() | {"state": "Complete"}, "Running", id="ahead"),
        pytest.param({"state": "Complete"}, "Pending", id="from nothing"),
        pytest.param(w.with_attempt(outcome="Cancelled", endTime=w.at(-1)), "Cancelled", id="again"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_follow_is_put_back_and_told(status: dict[str, Any], state: str) -> None:
    seen = w.observed(w.task(status=status))
    decision = decide(seen)
    assert decision.status is not None
    assert decision.status["state"] == state
    assert [(note.type, note.reason) for note in decision.notes] == [("Warning", "IllegalTransition")]


def test_only_the_steps_of_the_state_machine_are_taken() -> None:
    every = {*states.ACTIVE, *states.TERMINAL, states.PENDING}
    legal = {
        ("Pending", "Assigned"), ("Pending", "Cancelled"), ("Assigned", "Running"), ("Assigned", "Pending"),
        ("Running", "Pending"), *((active, end) for active in states.ACTIVE for end in states.TERMINAL),
    }  # fmt: skip
    for old in every:
        for new in every - {old}:
            if (old, new) in legal:
                assert states.step(old, new) == new
            else:
                with pytest.raises(states.IllegalTransitionError):
                    states.step(old, new)


def test_a_new_leader_asks_for_the_tasks_in_every_state_that_has_an_attempt() -> None:
    assert set(RESTING_TASKS) == {"", states.PENDING, *states.TERMINAL}
