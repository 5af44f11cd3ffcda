"""What a gate's Pod says about the commit: the containers' exit codes as the kubelet reports them. Pure.

A gate that leaves reports is followed by a container of ours, `judge`: it is the last word then.

`Infra` is only what the code under test can't cause; whatever it can cause is `Failed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import ContainerView, PodView
from tidegate.api.wire import CheckoutReport, JudgeReport, WireError
from tidegate.lane.decide.model import FAILED, INFRA, PASSED

START_TIMEOUT = 600.0  # seconds until the gate's container must run
JUDGE_ALLOWANCE = 120  # seconds that the Pod may live beyond the gate's own time, for its reports to be judged
CLOCK_STEP = 1.0  # seconds: the kubelet's times have no fractions
GONE_AFTER = 60.0  # seconds after its end was due that a Pod on a silent node counts as lost
LOG_BYTES = 2048
_OVER_TIME = "ran longer than its timeoutSeconds"
_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_START = ("StartError", "ContainerCannotRun", "CreateContainerError", "CreateContainerConfigError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a gate run."""

    verdict: str
    reason: str
    message: str = ""
    exit_code: int | None = None
    log_tail: str = ""
    image_id: str = ""
    report: JudgeReport | None = None  # where the gate has reports judged and they could be read


@dataclass(frozen=True, slots=True)
class Pending:
    """No verdict yet: look again after `seconds`. `deadline`: the active deadline to set, from the Pod's start."""

    seconds: float
    deadline: int | None = None


def judge(pod: PodView, timeout: int, now: datetime, deadline_known: bool, judged: bool = False) -> Verdict | Pending:
    """The verdict of a Pod that is there. `judged`: its last container judges what the gate reports."""
    gate = pod.container(names.CONTAINER_GATE)
    if gate is not None and gate.state == "Terminated":
        late = judged and _between(gate.started, gate.finished) > timeout + CLOCK_STEP
        if late:
            return Verdict(FAILED, reasons.TIMED_OUT, _OVER_TIME, gate.exit_code, image_id=gate.image_id)
        if judged and gate.exit_code == 0:
            return _after_gate(pod, gate, now)
        return _ended(pod, gate)
    checkout = pod.container(names.CONTAINER_CHECKOUT)
    if checkout is not None and checkout.state == "Terminated" and checkout.exit_code != 0:
        return _checkout_failed(pod, checkout)
    if pod.terminal:
        return _without_containers(pod)
    if pod.deletion_time:
        return _leaving(pod, now)
    if gate is not None and gate.state == "Running":
        return _running(pod, gate, timeout, now, deadline_known, JUDGE_ALLOWANCE if judged else 0)
    return _starting(pod, gate, checkout, now)


def _leaving(pod: PodView, now: datetime) -> Verdict | Pending:
    left = GONE_AFTER - _since(pod.deletion_time, now)
    return Pending(left) if left > 0 else Verdict(INFRA, reasons.NODE_LOST, "the Pod's node doesn't answer")


def lost() -> Verdict:
    """The verdict when the Pod is gone."""
    return Verdict(INFRA, reasons.POD_LOST, "the Pod is gone and left no exit code")


def figures(verdict: Verdict) -> dict[str, dict[str, Any]]:
    """What the reports said, for the status of the GateRun."""
    report, found = verdict.report, {}
    if report is not None and report.percent:
        found["coverage"] = {"percent": report.percent[:8], "covered": report.covered, "total": report.total}
    if report is not None and report.has_tests:
        found["tests"] = {"ran": report.ran, "skipped": report.skipped, "failed": report.failed}
    return found


def _ended(pod: PodView, gate: ContainerView) -> Verdict:
    tail = gate.message.encode()[-LOG_BYTES:].decode("utf-8", "ignore")

    def verdict(word: str, reason: str, message: str = "") -> Verdict:
        return Verdict(word, reason, message, gate.exit_code, "" if word == PASSED else tail, gate.image_id)

    if gate.exit_code == 0 and pod.reason != "DeadlineExceeded":
        return verdict(PASSED, reasons.PASSED)
    if pod.reason == "DeadlineExceeded":
        return verdict(FAILED, reasons.TIMED_OUT, _OVER_TIME)
    if pod.disrupted:
        return verdict(INFRA, reasons.DISRUPTED, f"the cluster ended the Pod: {pod.disrupted}")
    if pod.reason == "Evicted":
        return verdict(FAILED, reasons.EPHEMERAL_STORAGE_EXCEEDED, pod.message[:500])
    if gate.reason == "OOMKilled":
        return verdict(FAILED, reasons.OUT_OF_MEMORY, "used more memory than its limit")
    if gate.reason in _START:
        return verdict(FAILED, reasons.START_FAILED, "the gate's command can't be started in its image")
    if pod.deletion_time:
        return verdict(INFRA, reasons.DELETED, "somebody deleted the Pod")
    if gate.reason == "ContainerStatusUnknown":
        return verdict(INFRA, reasons.NODE_LOST, "the node lost the container")
    return verdict(FAILED, reasons.GATE_FAILED, f"exit code {gate.exit_code}")


def _after_gate(pod: PodView, gate: ContainerView, now: datetime) -> Verdict | Pending:
    """The gate itself passed: its reports decide."""
    last = pod.container(names.CONTAINER_JUDGE)
    if last is not None and last.state == "Terminated":
        return replace(_judged(pod, last), image_id=gate.image_id)
    if pod.terminal:
        if pod.reason == "Evicted" and not pod.disrupted:
            return Verdict(FAILED, reasons.EPHEMERAL_STORAGE_EXCEEDED, pod.message[:500])
        return Verdict(INFRA, reasons.DISRUPTED if pod.disrupted else reasons.NODE_LOST, "ended before its judgement")
    if pod.deletion_time:
        return _leaving(pod, now)
    left = START_TIMEOUT - _since(gate.finished, now)
    if left > 0:
        return Pending(left)
    return Verdict(INFRA, reasons.START_TIMED_OUT, "the container that judges reports didn't start in time")


def _judged(pod: PodView, last: ContainerView) -> Verdict:
    """What `judge` says. That it ends badly by itself is the reports' doing, which the gate wrote."""
    try:
        report = JudgeReport.loads(last.message)
    except WireError:
        report = None
    if report is not None and bool(report.reason) == bool(last.exit_code):
        word = FAILED if report.reason else PASSED
        return Verdict(word, report.reason or reasons.PASSED, report.message, last.exit_code, report=report)
    if pod.disrupted or pod.deletion_time:
        return Verdict(INFRA, reasons.DISRUPTED, pod.disrupted or "somebody deleted the Pod", last.exit_code)
    if last.exit_code == 0 or last.reason in _START or last.reason == "ContainerStatusUnknown":
        return Verdict(INFRA, reasons.JUDGE_FAILED, f"no judgement of the reports: {last.reason}", last.exit_code)
    if pod.reason == "Evicted":
        return Verdict(FAILED, reasons.EPHEMERAL_STORAGE_EXCEEDED, pod.message[:500], last.exit_code)
    why = "too big or too slow to be read" if last.reason == "OOMKilled" or pod.reason else "they can't be read"
    return Verdict(FAILED, reasons.JUDGE_FAILED, f"the gate's reports could not be judged: {why}", last.exit_code)


def _checkout_failed(pod: PodView, checkout: ContainerView) -> Verdict:
    if pod.disrupted or pod.deletion_time:
        return Verdict(INFRA, reasons.DISRUPTED, pod.disrupted or "somebody deleted the Pod", checkout.exit_code)
    if checkout.reason == "OOMKilled" or pod.reason == "DeadlineExceeded":
        return Verdict(FAILED, reasons.CHECKOUT_FAILED, "the commit is too big to be checked out", checkout.exit_code)
    if pod.reason == "Evicted":
        return Verdict(FAILED, reasons.EPHEMERAL_STORAGE_EXCEEDED, pod.message[:500], checkout.exit_code)
    try:
        report = CheckoutReport.loads(checkout.message)
    except WireError:
        return Verdict(INFRA, reasons.CHECKOUT_FAILED, "checkout left no report", checkout.exit_code)
    passing = report.error in (reasons.REMOTE_UNREACHABLE, reasons.SOURCE_MISSING, "")
    word = INFRA if passing else FAILED
    return Verdict(word, reasons.CHECKOUT_FAILED, f"{report.error}: {report.message}", checkout.exit_code)


def _without_containers(pod: PodView) -> Verdict:
    """The Pod ended and no container says why: refused by the node, evicted before it ran, or lost."""
    if pod.reason == "DeadlineExceeded" and pod.container(names.CONTAINER_GATE) is not None:
        return Verdict(INFRA, reasons.START_TIMED_OUT, "the gate didn't start in time")
    reason = reasons.EVICTED if pod.reason == "Evicted" else reasons.NODE_LOST
    return Verdict(INFRA, reason, f"{pod.reason} {pod.message}".strip()[:500] or "the Pod ended without its containers")


def _running(
    pod: PodView, gate: ContainerView, timeout: int, now: datetime, deadline_known: bool, allowance: int
) -> Pending:
    """The kubelet ends the Pod at its deadline, which is set once the gate's own start is known."""
    left = timeout - _since(gate.started, now)
    if deadline_known:
        return Pending(max(left, 0) + 30)
    offset = _between(pod.start_time or gate.started, gate.started)
    return Pending(max(left, 0) + 30, deadline=max(int(offset + timeout + allowance + 0.999), 1))


def _starting(
    pod: PodView, gate: ContainerView | None, checkout: ContainerView | None, now: datetime
) -> Verdict | Pending:
    left = START_TIMEOUT - _since(pod.meta.created, now)
    if left > 0:
        return Pending(left)
    waiting = next((one for one in (checkout, gate) if one is not None and one.state == "Waiting"), None)
    if waiting is not None and waiting.reason in _PULL:
        return Verdict(INFRA, reasons.IMAGE_PULL_FAILED, f"{waiting.reason}: {waiting.message}"[:500])
    return Verdict(INFRA, reasons.START_TIMED_OUT, pod.scheduling_message[:500] or "the gate didn't start in time")


def _since(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds() if moment else 0.0


def _between(first: str, second: str) -> float:
    if not first or not second:
        return 0.0
    return max((datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds(), 0.0)
