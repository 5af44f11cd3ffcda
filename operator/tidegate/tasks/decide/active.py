"""A task with an open attempt: make its Pod, watch it start, judge its end."""

from __future__ import annotations

from dataclasses import replace

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import PodView
from tidegate.api.wire import WireError, WorkspaceReport
from tidegate.tasks import states, times
from tidegate.tasks.decide.end import end, never_had_pod
from tidegate.tasks.decide.pending import known_problem
from tidegate.tasks.decide.pods import deletions, newest_pod
from tidegate.tasks.decide.start import start_problem
from tidegate.tasks.model import Decision, Notice, Observed, PodDeletion, Problem, Timer
from tidegate.tasks.outcome import Expectation, Outcome, judge, judge_refs, with_refs
from tidegate.tasks.status import StatusEdit, newest

PLANNER = "Planner"


def active(seen: Observed) -> Decision:
    """The next step of the newest attempt."""
    timer = Timer()
    gone = deletions(seen, timer)
    decision = _step(seen, timer)
    if decision.again_after is not None:
        timer.within(decision.again_after)
    return replace(decision, delete_pods=(*decision.delete_pods, *gone), again_after=timer.seconds)


def _step(seen: Observed, timer: Timer) -> Decision:
    if seen.foreign_pod:
        text = f"Pod {names.pod_name(seen.task.meta.name, seen.task.attempt)!r} exists and isn't this task's: delete it"
        return never_had_pod(seen, Problem(reasons.NAME_TAKEN, text), timer)
    pod = newest_pod(seen)
    if pod is None:
        return _without_pod(seen, timer)
    if pod.terminal:
        return _judged(seen, pod)
    if pod.meta.deleting:
        return Decision()  # active until it is gone or has ended
    if seen.cancelled:
        return Decision(delete_pods=(PodDeletion(pod.meta.name, pod.meta.uid),))
    return _alive(seen, pod, timer)


def _without_pod(seen: Observed, timer: Timer) -> Decision:
    attempt = newest(seen.task)
    if seen.last_seen is not None:
        return _judged(seen, seen.last_seen)
    if seen.refusal is not None:
        return never_had_pod(seen, seen.refusal, timer)
    had_pod = bool(attempt.get("podUID") or attempt.get("reason"))
    if not had_pod and not seen.cancelled:
        problem = known_problem(seen)
        if problem is not None:
            return never_had_pod(seen, problem, timer)
        return Decision(create_pod=seen.task.attempt)
    if not seen.newest_pod_gone:
        return Decision(needs=frozenset({"pod"}))
    if not had_pod:
        return end(seen, Outcome(states.FAILED, reasons.CANCELLED, "cancelled before its Pod was made", True), None)
    if seen.refs is None:
        return Decision(needs=frozenset({"refs"}))
    return end(seen, _stopped(attempt, judge_refs(seen.refs, _expectation(seen))), None)


def _judged(seen: Observed, pod: PodView) -> Decision:
    """Judge a Pod that has ended."""
    expected = _expectation(seen)
    outcome = judge(pod, expected)
    if outcome is None:
        if seen.refs is None:
            return Decision(needs=frozenset({"refs"}))
        outcome = judge_refs(seen.refs, expected)
        if outcome.reason == reasons.POD_LOST:
            text = outcome.message.replace("the Pod is gone without a recorded outcome", "the publisher left no report")
            outcome = replace(outcome, reason=reasons.PUBLISHER_FAILED, message=text)
    elif outcome.unreported and not seen.cancelled:
        if seen.refs is None:
            return Decision(needs=frozenset({"refs"}))
        outcome = with_refs(outcome, seen.refs)
    return end(seen, _stopped(newest(seen.task), outcome), pod)


def _stopped(attempt: dict[str, object], outcome: Outcome) -> Outcome:
    """The outcome of a Pod that was stopped because it didn't start: the recorded reason, whatever it looks like."""
    if not attempt.get("reason"):
        return outcome
    reason, message = str(attempt["reason"]), str(attempt.get("message") or "")
    return replace(outcome, verdict=states.FAILED, reason=reason, message=message, infrastructure=True)


def _alive(seen: Observed, pod: PodView, timer: Timer) -> Decision:
    attempt = newest(seen.task)
    if attempt.get("reason"):  # its stop was recorded, and then perhaps not carried out
        return Decision(delete_pods=(PodDeletion(pod.meta.name, pod.meta.uid),))
    problem = start_problem(pod, str(attempt.get("startTime") or ""), seen.policy, seen.now, timer)
    if problem is not None:
        edit = StatusEdit(seen.task, seen.now)
        edit.amend_attempt(seen.task.attempt, reason=problem.reason, message=problem.message, podUID=pod.meta.uid)
        return Decision(status=edit.patch(), delete_pods=(PodDeletion(pod.meta.name, pod.meta.uid),))
    if seen.task.state == states.ASSIGNED and _began(pod):
        age = _age(seen, pod)
        if 0 <= age < seen.policy.brief_seconds:  # below 0: the node's clock is ahead
            timer.within(seen.policy.brief_seconds - age)
            return Decision()
        return _running(seen, pod)
    return Decision()


def _began(pod: PodView) -> bool:
    """Whether the Pod's first container has started."""
    workspace = pod.container(names.CONTAINER_WORKSPACE)
    return pod.phase == "Running" or (workspace is not None and workspace.state != "Waiting")


def _age(seen: Observed, pod: PodView) -> float:
    """Seconds since the Pod's first container has started, by the node's clock."""
    workspace = pod.container(names.CONTAINER_WORKSPACE)
    return times.seconds_since(workspace.started if workspace is not None else pod.meta.created, seen.now)


def _running(seen: Observed, pod: PodView) -> Decision:
    number = seen.task.attempt
    edit = StatusEdit(seen.task, seen.now).to_state(states.RUNNING).drop(reasons.STALLED)
    edit.amend_attempt(number, podUID=pod.meta.uid)
    base = _base(pod)
    if base:
        edit.set(baseCommit=base).amend_attempt(number, base=base)
    return Decision(status=edit.patch(), notice=Notice.RUNS)


def _base(pod: PodView) -> str:
    workspace = pod.container(names.CONTAINER_WORKSPACE)
    if workspace is None or not workspace.message:
        return ""
    try:
        return WorkspaceReport.loads(workspace.message).base
    except WireError:
        return ""


def _expectation(seen: Observed) -> Expectation:
    engine = seen.agent_class.spec.get("engine") or {} if seen.agent_class is not None else {}
    return Expectation(
        task_ref=names.task_ref(seen.task.meta.uid),
        handoff_only=seen.task.role == PLANNER or seen.task.reviews is not None,
        script=engine.get("protocol") == "Script",
    )
