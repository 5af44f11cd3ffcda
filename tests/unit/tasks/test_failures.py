"""The failure table: one row, one test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support import taskworld as w
from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import PodView, TaskView
from tidegate.api.wire import PublisherReport, WorkspaceReport
from tidegate.tasks.decide import decide
from tidegate.tasks.model import NO_PROBLEM, Decision, Observed, PodDeletion, Policy, Problem
from tidegate.tasks.outcome import FoundRefs

OWN_STORAGE = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
OWN_VOLUME = 'Usage of EmptyDir volume "workspace" exceeds the limit "4Gi". '
NODE_STORAGE = "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi."


def after(seen: Observed, decision: Decision) -> TaskView:
    """The task once the decision's status is written."""
    return w.task(build=seen.task.build, status=w.merged(seen.task.status(), decision.status))


def judged(pod: PodView, **around: Any) -> tuple[dict[str, Any], dict[str, Any], Decision]:
    """Status and newest attempt after a Pod of a running task was seen."""
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,), **around)
    decision = decide(seen)
    if decision.needs == {"refs"}:  # the agent ran and nobody reported
        decision = decide(replace(seen, refs=FoundRefs()))
    status = after(seen, decision).status()
    return status, status["attempts"][-1], decision


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next((c for c in status["conditions"] if c["type"] == type_), {})


def assert_retries(pod: PodView, reason: str, *, infrastructure: bool, **around: Any) -> dict[str, Any]:
    """The attempt failed for that reason and the task waits for its next one."""
    status, attempt, decision = judged(pod, **around)
    assert (attempt["reason"], attempt.get("infrastructure", False)) == (reason, infrastructure)
    assert attempt["outcome"] == ("Lost" if infrastructure else "Failed")
    assert attempt["endTime"] == w.at(0)
    assert status["state"] == "Pending"
    assert (condition(status, "Succeeded")["status"], condition(status, "Succeeded")["reason"]) == (
        "Unknown",
        "Retrying",
    )
    assert status["nextAttemptTime"] == w.at(10)
    assert status.get("infrastructureFailures" if infrastructure else "failedAttempts") == 1
    assert decision.again_after == 10
    return attempt


TASKS_OWN = [
    pytest.param(w.ended(3), reasons.AGENT_FAILED, id="exit code"),
    pytest.param(w.ended(124), reasons.TIMED_OUT, id="timeout, by the entry script"),
    pytest.param(w.ended(143), reasons.AGENT_FAILED, id="stopped"),
    pytest.param(
        w.pod(phase="Failed", reason="DeadlineExceeded", agent=w.terminated(137)), reasons.TIMED_OUT, id="backstop"
    ),
    pytest.param(w.ended(137, reason="OOMKilled"), reasons.OUT_OF_MEMORY, id="out of memory"),
    pytest.param(
        w.pod(phase="Failed", reason="Evicted", message=OWN_STORAGE, agent=w.terminated(137)),
        reasons.EPHEMERAL_STORAGE_EXCEEDED,
        id="own ephemeral storage",
    ),
    pytest.param(
        w.pod(phase="Failed", reason="Evicted", message=OWN_VOLUME, agent=w.terminated(137)),
        reasons.EPHEMERAL_STORAGE_EXCEEDED,
        id="own volume",
    ),
    pytest.param(w.ended(said=w.report(handoff_valid=False, handoff_status="")), reasons.NO_HANDOFF, id="no handoff"),
    pytest.param(
        w.ended(said=w.report(handoff_valid=False, message="status: not one of Complete")),
        reasons.BAD_HANDOFF,
        id="bad handoff",
    ),
    pytest.param(w.ended(said=w.report(handoff_status="Failed")), reasons.AGENT_FAILED, id="the agent gave up"),
    pytest.param(
        w.ended(said=w.report(commit="", ref="", tokens_in=0, tokens_out=0, model_calls=0, handoff_made=True)),
        reasons.NO_RESULT,
        id="no result",
    ),
    pytest.param(
        w.ended(said=w.report(ref=names.wip_ref(w.UID, 1), refused=[{"path": "a/.GIT", "why": "name"}])),
        reasons.WORK_REFUSED,
        id="work that can't be merged",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "reason"), TASKS_OWN)
def test_counts_against_the_tasks_retries(pod: PodView, reason: str) -> None:
    assert_retries(pod, reason, infrastructure=False)


NOBODYS = [
    pytest.param(
        w.pod(phase="Failed", reason="Evicted", message=NODE_STORAGE, disrupted="TerminationByKubelet"),
        reasons.EVICTED,
        id="node pressure",
    ),
    pytest.param(
        w.pod(phase="Failed", disrupted="DeletionByTaintManager", agent=w.terminated(143)), reasons.NODE_LOST, id="node"
    ),
    pytest.param(w.pod(phase="Failed", disrupted="DeletionByPodGC"), reasons.NODE_LOST, id="node gone"),
    pytest.param(
        w.pod(phase="Failed", disrupted="EvictionByEvictionAPI", agent=w.terminated(143)), reasons.DISRUPTED, id="drain"
    ),
    pytest.param(
        w.ended(143, disrupted="PreemptionByScheduler"), reasons.DISRUPTED, id="preemption, even with a report"
    ),
    pytest.param(
        w.pod(phase="Failed", reason="Terminated", message="shutdown", agent=w.terminated(143)),
        reasons.DISRUPTED,
        id="node shutdown",
    ),
    pytest.param(
        w.pod(phase="Failed", workspace=w.terminated(137, reason="OOMKilled"), agent=w.waiting()),
        reasons.WORKSPACE_FAILED,
        id="init killed",
    ),
    pytest.param(
        w.pod(
            phase="Failed",
            workspace=w.terminated(1, message=WorkspaceReport(error="TargetMissing", message="no branch main").dumps()),
            agent=w.waiting(),
        ),
        reasons.WORKSPACE_FAILED,
        id="init failed",
    ),
    pytest.param(
        w.pod(
            phase="Failed",
            workspace=w.terminated(1, message=WorkspaceReport(error="Fenced", message="held").dumps()),
            agent=w.waiting(),
        ),
        reasons.FENCED,
        id="fenced at the start",
    ),
    pytest.param(w.ended(said=w.report(fenced=True)), reasons.FENCED, id="fenced at the end"),
    pytest.param(
        w.ended(said=w.report(error="RemoteUnreachable", message="no route")), reasons.PUBLISHER_FAILED, id="publisher"
    ),
    pytest.param(
        w.pod(phase="Failed", reason="DeadlineExceeded", agent=w.waiting()), reasons.START_TIMED_OUT, id="never began"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "reason"), NOBODYS)
def test_counts_against_the_clusters_limit(pod: PodView, reason: str) -> None:
    assert_retries(pod, reason, infrastructure=True)


def test_work_that_was_published_counts_although_the_node_went_away_then() -> None:
    status, _, _ = judged(w.ended(disrupted="EvictionByEvictionAPI"))
    assert status["state"] == "Complete"


def test_a_publisher_without_a_report_is_judged_from_the_refs() -> None:
    pod = w.pod(phase="Succeeded", agent=w.terminated(), publisher=w.terminated(137, reason="OOMKilled"))
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,))
    assert decide(seen).needs == {"refs"}
    good = FoundRefs(result="c" * 40, report=w.report())
    assert after(seen, decide(replace(seen, refs=good))).state == "Complete"
    assert_retries(pod, reasons.PUBLISHER_FAILED, infrastructure=True, refs=FoundRefs())


def test_work_that_is_not_on_the_remote_is_told() -> None:
    lost = PublisherReport(error="RemoteUnreachable", message="no route to host")
    attempt = assert_retries(w.ended(3, said=lost), reasons.AGENT_FAILED, infrastructure=False)
    assert "not on the remote (RemoteUnreachable: no route to host)" in attempt["message"]


def test_without_a_report_the_refs_tell_where_the_work_is() -> None:
    pod = w.pod(phase="Failed", disrupted="DeletionByTaintManager")
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,))
    assert decide(seen).needs == {"refs"}
    ref = names.wip_ref(w.UID, 1)
    found = replace(seen, refs=FoundRefs(wip="e" * 40, wip_ref=ref))
    attempt = after(found, decide(found)).status()["attempts"][0]
    assert (attempt["reason"], attempt["commit"], attempt["ref"]) == ("NodeLost", "e" * 40, ref)
    nothing = replace(seen, refs=FoundRefs())
    attempt = after(nothing, decide(nothing)).status()["attempts"][0]
    assert "nothing of its work is on the remote" in attempt["message"]


def test_a_pod_that_somebody_deleted_is_not_the_tasks_failure() -> None:
    assert_retries(w.ended(143, deleting=True), reasons.DISRUPTED, infrastructure=True)
    assert_retries(w.ended(3, deleting=True), reasons.AGENT_FAILED, infrastructure=False)
    assert_retries(w.ended(137, deleting=True, reason="OOMKilled"), reasons.OUT_OF_MEMORY, infrastructure=False)


def test_no_start_in_time_stops_the_pod_first() -> None:
    pod = w.pod(phase="Pending", workspace=w.waiting(), publisher=w.waiting(), agent=w.waiting())
    status = w.with_attempt(state="Assigned", started=-599, podUID=None)
    seen = w.observed(w.task(status=status), pods=(pod,))
    assert decide(seen) == Decision(again_after=1)
    late = w.observed(w.task(status=w.with_attempt(state="Assigned", started=-600, podUID=None)), pods=(pod,))
    decision = decide(late)
    assert decision.delete_pods == (PodDeletion("t-1", "pod-1"),)
    stopping = after(late, decision)
    assert stopping.attempt_open
    assert stopping.status()["attempts"][0]["reason"] == "StartTimedOut"
    # the Pod is gone: the recorded reason counts
    gone = w.observed(stopping, newest_pod_gone=True, refs=FoundRefs())
    attempt = after(gone, decide(gone)).status()["attempts"][0]
    assert (attempt["reason"], attempt["infrastructure"]) == ("StartTimedOut", True)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_an_image_that_cannot_be_pulled_has_a_grace(reason: str) -> None:
    pod = w.pod(phase="Pending", agent=w.waiting(reason, "no such host"))  # its turn came 5 s ago
    seen = w.observed(w.task(status=w.with_attempt(started=-60)), pods=(pod,))
    assert decide(seen).delete_pods == ()
    assert decide(seen).again_after == pytest.approx(115)
    late = replace(seen, policy=Policy(pull_grace_seconds=5))
    decision = decide(late)
    assert decision.delete_pods == (PodDeletion("t-1", "pod-1"),)
    assert after(late, decision).status()["attempts"][0]["reason"] == "ImagePullFailed"


def test_what_the_kubelet_says_is_cut_to_what_the_status_takes() -> None:
    pod = w.pod(phase="Pending", agent=w.waiting("InvalidImageName", "x\u202e" * 2000))
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,))
    message = after(seen, decide(seen)).status()["attempts"][0]["message"]
    assert len(message.encode()) <= 1024
    assert "\u202e" not in message


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_never_can_be_pulled_has_none(reason: str) -> None:
    pod = w.pod(phase="Pending", agent=w.waiting(reason))
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,))
    assert decide(seen).delete_pods == (PodDeletion("t-1", "pod-1"),)


def test_a_publisher_that_crashes_before_the_agent_starts() -> None:
    pod = w.pod(
        phase="Pending", agent=w.waiting(), publisher=w.waiting("CrashLoopBackOff", "back-off"), publisher_restarts=3
    )
    seen = w.observed(w.task(status=w.with_attempt()), pods=(pod,))
    assert after(seen, decide(seen)).status()["attempts"][0]["reason"] == "PublisherFailed"


# -- the author's and the namespace's


def refused(problem: Problem) -> tuple[Observed, Decision, dict[str, Any]]:
    seen = w.observed(w.task(status=w.with_attempt(state="Assigned", podUID=None)), refusal=problem)
    decision = decide(seen)
    return seen, decision, after(seen, decision).status()


def test_quota_holds_the_task_with_backoff_and_counts_for_nothing() -> None:
    _, decision, status = refused(Problem(reasons.QUOTA_EXCEEDED, "exceeded quota: pods"))
    assert status["state"] == "Pending"
    assert condition(status, "Succeeded")["reason"] == "QuotaExceeded"
    assert not condition(status, "Stalled")
    assert status["nextAttemptTime"] == w.at(10)
    assert "failedAttempts" not in status
    assert "infrastructureFailures" not in status
    # the fourth refusal in a row: the records make room, the wait grows
    again = w.with_attempt(4, state="Assigned", podUID=None)
    fourth = w.observed(w.task(status=again), refusal=Problem(reasons.QUOTA_EXCEEDED, "exceeded quota"))
    assert decide(fourth).again_after == 80
    assert decision.create_pod is None


@pytest.mark.parametrize("reason", [reasons.POD_REFUSED, reasons.SECRET_MISSING, reasons.URL_REFUSED])
def test_what_the_author_must_change_stalls(reason: str) -> None:
    seen, _, status = refused(Problem(reason, "because"))
    assert status["state"] == "Pending"
    assert condition(status, "Stalled") == {**condition(status, "Stalled"), "status": "True", "reason": reason}
    assert "failedAttempts" not in status
    stalled = replace(seen, task=w.task(status=status), refusal=None)
    assert decide(stalled).status is None  # nothing more until something changes


def test_a_refused_pod_is_tried_again_when_its_class_changes() -> None:
    seen = w.observed(
        w.task(status=w.with_attempt(state="Assigned", podUID=None, classGeneration=1)),
        refusal=Problem(reasons.POD_REFUSED, "violates PodSecurity"),
    )
    stalled = replace(seen, task=after(seen, decide(seen)), refusal=None)
    assert decide(stalled).status is None
    changed = replace(stalled, agent_class=w.agent_class(generation=2))
    lifted = after(changed, decide(changed))
    assert not lifted.next_attempt_time
    started = replace(changed, task=lifted, preflight=NO_PROBLEM)
    assert after(started, decide(started)).attempt == 2


def test_a_missing_class_stalls_until_it_is_there() -> None:
    seen = w.observed(w.task(), agent_class=None)
    decision = decide(seen)
    stalled = replace(seen, task=after(seen, decision))
    assert condition(stalled.task.status(), "Stalled")["reason"] == "AgentClassMissing"
    assert "'c'" in condition(stalled.task.status(), "Stalled")["message"]
    assert [note.reason for note in decision.notes] == ["AgentClassMissing"]
    assert decide(stalled).status is None
    there = replace(stalled, agent_class=w.agent_class())
    assert not after(there, decide(there)).next_attempt_time


def test_a_class_that_is_not_for_the_namespace_stalls() -> None:
    seen = w.observed(w.task(), agent_class=w.agent_class(allowedNamespaces=["other"]))
    assert condition(after(seen, decide(seen)).status(), "Stalled")["reason"] == "NamespaceNotAllowed"


def test_a_name_that_is_taken_stalls_while_it_is() -> None:
    seen = w.observed(w.task(status=w.with_attempt(state="Assigned", podUID=None)), foreign_pod=True)
    stalled = after(seen, decide(seen))
    assert condition(stalled.status(), "Stalled")["reason"] == "NameTaken"
    later = w.observed(stalled, now=w.NOW.replace(hour=13))
    assert decide(later).needs == {"pod"}
    assert after(later, decide(replace(later, foreign_pod=True))).state == "Pending"
    free = replace(later, newest_pod_gone=True, preflight=NO_PROBLEM)
    assert after(free, decide(free)).attempt == 2


# -- a Pod that is gone


def test_a_pod_that_is_gone_is_looked_for_before_anything_is_done() -> None:
    seen = w.observed(w.task(status=w.with_attempt()))
    assert decide(seen) == Decision(needs=frozenset({"pod"}))
    assert decide(replace(seen, newest_pod_gone=True)) == Decision(needs=frozenset({"refs"}))


GONE: list[Any] = [
    pytest.param(FoundRefs(), "Pending", reasons.POD_LOST, id="nothing there"),
    pytest.param(FoundRefs(wip="e" * 40, wip_ref="w"), "Pending", reasons.POD_LOST, id="a checkpoint"),
    pytest.param(FoundRefs(result="c" * 40, report=w.report()), "Complete", reasons.COMPLETED, id="the result"),
    pytest.param(FoundRefs(result="f" * 40, report=w.report()), "Pending", reasons.POD_LOST, id="another's result"),
    pytest.param(
        FoundRefs(report=w.report(ref=names.wip_ref(w.UID, 1))), "Pending", reasons.POD_LOST, id="a failed attempt's"
    ),
    pytest.param(FoundRefs(problem="Secret 'x' is missing"), "Pending", reasons.POD_LOST, id="nobody may look"),
]


@pytest.mark.parametrize(("refs", "state", "reason"), GONE)
def test_a_pod_that_is_gone_is_judged_from_its_refs(refs: FoundRefs, state: str, reason: str) -> None:
    seen = w.observed(w.task(status=w.with_attempt()), newest_pod_gone=True, refs=refs)
    found = after(seen, decide(seen))
    attempt = found.status()["attempts"][0]
    assert (found.state, attempt["reason"]) == (state, reason)
    assert attempt.get("infrastructure", False) == (reason == reasons.POD_LOST)
    if refs.wip:
        assert attempt["commit"] == refs.wip


def test_a_pod_that_ended_before_it_vanished_is_judged_as_it_was() -> None:
    seen = w.observed(w.task(status=w.with_attempt()), last_seen=w.ended(3))
    assert after(seen, decide(seen)).status()["attempts"][0]["exitCode"] == 3


# -- the end of all attempts


def test_failed_only_when_no_attempt_is_left() -> None:
    status = {**w.with_attempt(3), "failedAttempts": 2}
    seen = w.observed(w.task(status=status), pods=(w.ended(3, attempt=3),))
    found = after(seen, decide(seen)).status()
    assert found["state"] == "Failed"
    succeeded = condition(found, "Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("False", "Escalated")
    assert "AgentFailed: the agent ended with exit code 3" in succeeded["message"]
    assert found["completionTime"] == w.at(0)
    assert condition(found, "Merged")["status"] == "False"


def test_the_cluster_has_a_limit_of_its_own() -> None:
    lost = w.pod(phase="Failed", workspace=w.terminated(1), agent=w.waiting())
    sixth = w.observed(w.task(status={**w.with_attempt(), "infrastructureFailures": 5}), pods=(lost,))
    assert after(sixth, decide(sixth)).state == "Pending"
    seventh = w.observed(w.task(status={**w.with_attempt(), "infrastructureFailures": 6}), pods=(lost,))
    found = after(seventh, decide(seventh)).status()
    assert found["state"] == "Failed"
    assert condition(found, "Succeeded")["reason"] == "InfrastructureExhausted"


@pytest.mark.parametrize(("failures", "wait"), [(0, 10), (1, 20), (2, 40), (4, 160), (5, 300), (8, 300)])
def test_backoff_doubles_up_to_its_bound(failures: int, wait: int) -> None:
    status = {**w.with_attempt(), "failedAttempts": failures}
    seen = w.observed(w.task(status=status), pods=(w.ended(3),), policy=Policy(retry_limit=9))
    assert decide(seen).again_after == wait


# -- ends that are neither failure nor success


def test_a_secret_holds_back_its_file_and_the_merge() -> None:
    said = w.report(ref=names.wip_ref(w.UID, 1), held_back=[{"file": "leak.py", "line": 2, "rule": "aws-access-key"}])
    attempt = assert_retries(w.ended(said=said), reasons.SECRET_FOUND, infrastructure=False)
    assert "leak.py:2 (aws-access-key)" in attempt["message"]
    assert attempt["ref"] == names.wip_ref(w.UID, 1)


def test_a_diff_outside_the_scope_is_partial() -> None:
    said = w.report(ref=names.wip_ref(w.UID, 1), out_of_scope=["other/file.py"])
    status, attempt, decision = judged(w.ended(said=said))
    assert status["state"] == "Partial"
    assert attempt["reason"] == "OutOfScope"
    assert "other/file.py" in condition(status, "Succeeded")["message"]
    assert "mergeJob" not in status
    assert decision.again_after is None


@pytest.mark.parametrize("said", ["Partial", "Blocked"])
def test_partial_and_blocked_are_neither_retried_nor_merged(said: str) -> None:
    status, _, _ = judged(w.ended(said=w.report(handoff_status=said, ref=names.wip_ref(w.UID, 1))))
    assert status["state"] == said
    assert condition(status, "Merged")["status"] == "False"
    assert "nextAttemptTime" not in status
