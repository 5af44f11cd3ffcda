"""What a gate's Pod says: exit codes, and which ends the code under test can't cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidegate.api import reasons
from tidegate.api.views import PodView
from tidegate.api.wire import CheckoutReport, JudgeReport
from tidegate.lane.verdict import Pending, Verdict, figures, judge

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(phase: str = "Running", gate: dict[str, Any] | None = None, checkout: dict[str, Any] | None = None,
        deleted: float | None = None, created: float = -10, **status: Any) -> PodView:  # fmt: skip
    meta: dict[str, Any] = {
        "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "creationTimestamp": at(created),
    }  # fmt: skip
    if deleted is not None:
        meta["deletionTimestamp"] = at(deleted)
    status = {"phase": phase, "startTime": at(created), **status}
    if gate is not None:
        status["containerStatuses"] = [{"name": "gate", "state": gate}]
    if checkout is not None:
        status["initContainerStatuses"] = [{"name": "checkout", "state": checkout}]
    return PodView.from_object({"metadata": meta, "spec": {"nodeName": "node1"}, "status": status})


def exited(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": at(-5)}}


DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
REFUSED = CheckoutReport(reasons.WORKSPACE_FAILED, "a path that can't be").dumps()
SILENT = CheckoutReport(reasons.REMOTE_UNREACHABLE, "no answer").dumps()


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        (pod("Succeeded", exited(0, "Completed")), "Passed", "Passed"),
        (pod("Succeeded", exited(0, "Completed"), deleted=1), "Passed", "Passed"),
        (pod("Failed", exited(1)), "Failed", "GateFailed"),
        (pod("Failed", exited(5)), "Failed", "GateFailed"),
        (pod("Failed", exited(137, "OOMKilled")), "Failed", "OutOfMemory"),
        (pod("Failed", exited(137), reason="DeadlineExceeded"), "Failed", "TimedOut"),
        (pod("Failed", exited(0), reason="DeadlineExceeded"), "Failed", "TimedOut"),
        (
            pod("Failed", exited(137), reason="Evicted", message="exceeds the limit"),
            "Failed",
            "EphemeralStorageExceeded",
        ),
        (pod("Failed", exited(137), reason="Evicted", conditions=DISRUPTED), "Infra", "Disrupted"),
        (pod("Failed", exited(143), conditions=DISRUPTED), "Infra", "Disrupted"),
        (pod("Failed", exited(1), conditions=DISRUPTED), "Infra", "Disrupted"),
        (pod("Succeeded", exited(0, "Completed"), conditions=DISRUPTED), "Passed", "Passed"),
        # what a Pod can cause is never the cluster's fault: limits and deadlines of its own
        (pod("Failed", exited(137, "OOMKilled"), message="x"), "Failed", "OutOfMemory"),
        (pod("Failed", exited(139)), "Failed", "GateFailed"),
        (pod("Failed", exited(127)), "Failed", "GateFailed"),
        (pod("Failed", exited(128, "ContainerCannotRun")), "Failed", "StartFailed"),
        (pod("Failed", exited(143), reason="DeadlineExceeded", conditions=DISRUPTED), "Failed", "TimedOut"),
        (pod("Failed", checkout=exited(1, message=SILENT), conditions=DISRUPTED), "Infra", "Disrupted"),
        (pod("Failed", checkout=exited(137), reason="Evicted"), "Failed", "EphemeralStorageExceeded"),
        (pod("Failed", checkout=exited(137), reason="DeadlineExceeded"), "Failed", "CheckoutFailed"),
        (pod("Pending", {"waiting": {"reason": "InvalidImageName"}}, created=-700), "Infra", "ImagePullFailed"),
        (pod("Running", exited(137), deleted=1), "Infra", "Deleted"),
        (pod("Failed", exited(128, "StartError")), "Failed", "StartFailed"),
        (pod("Failed", exited(137, "ContainerStatusUnknown")), "Infra", "NodeLost"),
        (pod("Failed", checkout=exited(1, message=SILENT)), "Infra", "CheckoutFailed"),
        (pod("Failed", checkout=exited(1, message=REFUSED)), "Failed", "CheckoutFailed"),
        (pod("Failed", checkout=exited(137, "OOMKilled")), "Failed", "CheckoutFailed"),
        (pod("Failed", checkout=exited(1, message="rubbish")), "Infra", "CheckoutFailed"),
        (pod("Failed", reason="Evicted", message="The node was low on memory"), "Infra", "Evicted"),
        (pod("Failed", reason="NodeLost"), "Infra", "NodeLost"),
        (pod("Running", {"running": {}}, deleted=-100), "Infra", "NodeLost"),
        (pod("Pending", {"waiting": {"reason": "ImagePullBackOff"}}, created=-700), "Infra", "ImagePullFailed"),
        (pod("Pending", created=-700), "Infra", "StartTimedOut"),
    ],
)
def test_verdicts(seen: PodView, verdict: str, reason: str) -> None:
    found = judge(seen, 60, NOW, deadline_known=True)
    assert isinstance(found, Verdict)
    assert (found.verdict, found.reason) == (verdict, reason)


def judged_pod(phase: str, judge_state: dict[str, Any] | None, gate: dict[str, Any] | None = None,
               **status: Any) -> PodView:  # fmt: skip
    made = pod(phase, **status)
    gate = gate or {"terminated": {"exitCode": 0, "startedAt": at(-50), "finishedAt": at(-5)}}
    statuses = [{"name": "judge", "state": judge_state}] if judge_state is not None else []
    obj = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "creationTimestamp": at(-60)},
        "status": {
            "phase": phase, "startTime": at(-60), **status, "containerStatuses": statuses,
            "initContainerStatuses": [{"name": "checkout", "state": exited(0)}, {"name": "gate", "state": gate}],
        },
    }  # fmt: skip
    if made.deletion_time:
        obj["metadata"]["deletionTimestamp"] = made.deletion_time
    return PodView.from_object(obj)


GOOD = JudgeReport(message="90 % covered", percent="90", covered=9, total=10, has_tests=True, ran=3).dumps()
LOW = JudgeReport("CoverageTooLow", "84.9 % covered, 85 % required", "84.9", 849, 1000, False).dumps()
LATE = {"terminated": {"exitCode": 0, "startedAt": at(-200), "finishedAt": at(-5)}}


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        (judged_pod("Succeeded", exited(0, message=GOOD)), "Passed", "Passed"),
        (judged_pod("Failed", exited(1, message=LOW)), "Failed", "CoverageTooLow"),
        (judged_pod("Failed", exited(1, message=LOW), conditions=DISRUPTED), "Failed", "CoverageTooLow"),
        # what the gate says for itself stands
        (judged_pod("Failed", None, exited(1)), "Failed", "GateFailed"),
        (judged_pod("Failed", {"waiting": {"reason": "PodInitializing"}}, exited(1)), "Failed", "GateFailed"),
        (judged_pod("Failed", None, exited(137, "OOMKilled")), "Failed", "OutOfMemory"),
        (judged_pod("Succeeded", exited(0, message=GOOD), LATE), "Failed", "TimedOut"),
        # reports that break what reads them are the gate's doing
        (judged_pod("Failed", exited(137, "OOMKilled")), "Failed", "JudgeFailed"),
        (judged_pod("Failed", exited(1, message="Traceback")), "Failed", "JudgeFailed"),
        (judged_pod("Failed", exited(1, message=GOOD)), "Failed", "JudgeFailed"),
        (judged_pod("Failed", exited(137), reason="DeadlineExceeded"), "Failed", "JudgeFailed"),
        (judged_pod("Failed", exited(137), reason="Evicted"), "Failed", "EphemeralStorageExceeded"),
        (judged_pod("Failed", None, reason="Evicted"), "Failed", "EphemeralStorageExceeded"),
        # the rest is the cluster's
        (judged_pod("Succeeded", exited(0)), "Infra", "JudgeFailed"),
        (judged_pod("Failed", exited(128, "StartError")), "Infra", "JudgeFailed"),
        (judged_pod("Failed", exited(143), conditions=DISRUPTED), "Infra", "Disrupted"),
        (judged_pod("Failed", None, conditions=DISRUPTED), "Infra", "Disrupted"),
        (judged_pod("Failed", exited(137, "ContainerStatusUnknown")), "Infra", "JudgeFailed"),
    ],
)
def test_verdicts_of_gates_with_reports(seen: PodView, verdict: str, reason: str) -> None:
    found = judge(seen, 60, NOW, deadline_known=True, judged=True)
    assert isinstance(found, Verdict)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_the_figures_go_into_the_status_and_a_gate_that_passed_waits_for_its_judgement() -> None:
    found = judge(judged_pod("Failed", exited(1, message=LOW)), 60, NOW, deadline_known=True, judged=True)
    assert isinstance(found, Verdict)
    assert figures(found) == {"coverage": {"percent": "84.9", "covered": 849, "total": 1000}}
    assert found.message == "84.9 % covered, 85 % required"
    passed = judge(judged_pod("Succeeded", exited(0, message=GOOD)), 60, NOW, deadline_known=True, judged=True)
    assert isinstance(passed, Verdict)
    assert figures(passed)["tests"] == {"ran": 3, "skipped": 0, "failed": 0}
    waiting = judged_pod("Pending", {"waiting": {"reason": "PodInitializing"}})
    assert judge(waiting, 60, NOW, deadline_known=True, judged=True) == Pending(595)


def test_the_deadline_leaves_time_for_the_judgement() -> None:
    running = judged_pod("Pending", None, {"running": {"startedAt": at(-4)}})
    assert judge(running, 60, NOW, deadline_known=False, judged=True) == Pending(86, deadline=236)


def test_the_log_tail_is_that_of_a_failure_and_bounded() -> None:
    found = judge(pod("Failed", exited(1, message="x" * 5000 + "the end")), 60, NOW, deadline_known=True)
    assert isinstance(found, Verdict)
    assert len(found.log_tail) == 2048
    assert found.log_tail.endswith("the end")


def test_a_running_gate_gets_a_deadline_of_its_own_time_from_its_own_start() -> None:
    running = pod("Running", {"running": {"startedAt": at(-4)}}, created=-30)
    assert judge(running, 60, NOW, deadline_known=False) == Pending(86, deadline=86)
    assert judge(running, 60, NOW, deadline_known=True) == Pending(86)


def test_a_pod_that_waits_or_ends_is_looked_at_again() -> None:
    assert judge(pod("Pending", {"waiting": {"reason": "ErrImagePull"}}), 60, NOW, deadline_known=False) == Pending(590)
    assert judge(pod("Running", {"running": {}}, deleted=5), 60, NOW, deadline_known=True) == Pending(65)
