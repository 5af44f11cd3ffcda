"""How an attempt ended: from what the kubelet reports of its Pod, and from what our own containers say. Pure.

Nothing an agent can write decides whether an attempt failed: exit codes come from the container statuses. The
handoff's words count only where the agent ended well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import ContainerView, PodView
from tidegate.api.wire import PublisherReport, WireError, WorkspaceReport
from tidegate.tasks.states import BLOCKED, COMPLETE, FAILED, PARTIAL

EXIT_TIMED_OUT = 124  # of the entry script, when it ended the engine at timeoutSeconds
MAX_NAMED = 5  # files named in a message

# What the kubelet says where a Pod ran over its own ephemeral-storage or volume limit; all else is the node's need.
_OWN_STORAGE = ("ephemeral local storage usage", "local ephemeral storage limit", "EmptyDir volume")
_STOPPED = (143, 137)  # by SIGTERM, by SIGKILL
_LOST_NODE = ("DeletionByTaintManager", "DeletionByPodGC", "NodeLost")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on an attempt. `infrastructure`: the cluster ended it, and it doesn't count as the task's failure."""

    verdict: str  # Complete | Partial | Blocked | Failed
    reason: str
    message: str
    infrastructure: bool = False
    exit_code: int | None = None
    base: str = ""
    report: PublisherReport = field(default_factory=PublisherReport)
    unreported: bool = False  # the agent ran and the publisher said nothing: only the refs tell where its work is


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the task asked for, as far as it decides how its attempt is judged."""

    task_ref: str = ""  # where work stands that may be merged
    handoff_only: bool = False  # of planners and reviews: no work is merged
    script: bool = False  # a script has no model to ask: its own handoff is its proof of work


@dataclass(frozen=True, slots=True)
class FoundRefs:
    """What the remote holds of an attempt whose Pod is gone. Result, handoff and report were pushed in one step."""

    result: str = ""  # commit at the task's ref
    wip: str = ""  # commit at the attempt's work-in-progress ref
    wip_ref: str = ""
    report: PublisherReport | None = None  # as the publisher recorded it beside the handoff
    problem: str = ""  # why the remote could not be read, empty when it was


def judge(pod: PodView, expected: Expectation) -> Outcome | None:
    """The outcome of a Pod that has ended; None when only the refs on the remote can tell."""
    workspace = _workspace_report(pod.container(names.CONTAINER_WORKSPACE))
    report = _publisher_report(pod.container(names.CONTAINER_PUBLISHER))
    agent = pod.container(names.CONTAINER_AGENT)
    ended = agent if agent is not None and agent.state == "Terminated" else None
    known = report or PublisherReport()
    code = ended.exit_code if ended is not None else None
    base = known.base or workspace.base

    silent = report is None and _started(agent)

    def outcome(verdict: str, reason: str, message: str, infrastructure: bool = False) -> Outcome:
        text = message if verdict != FAILED else _with_lost_work(message, known)
        return Outcome(verdict, reason, text, infrastructure, code, base, known, silent)

    if workspace.error:
        return outcome(FAILED, _infrastructure_reason(workspace.error), workspace.message or workspace.error, True)
    if known.fenced:
        return outcome(FAILED, reasons.FENCED, "another Pod holds this attempt or a later one", True)
    if code == 0 and report is not None and not report.error:
        return _judge_report(outcome, report, expected)  # the work was done and published, whatever came then
    failure = _pod_failure(pod, ended) or _workspace_failure(pod) or _agent_failure(ended)
    if failure is not None:
        return outcome(FAILED, *failure)
    if report is None:
        return None
    return outcome(FAILED, reasons.PUBLISHER_FAILED, report.message or report.error, True)


def with_refs(outcome: Outcome, refs: FoundRefs) -> Outcome:
    """The outcome of a failed attempt whose publisher said nothing, with what the remote holds of its work."""
    report = refs.report or PublisherReport(commit=refs.wip, ref=refs.wip_ref if refs.wip else "")
    where = "a checkpoint of its work is on the remote" if report.commit else "nothing of its work is on the remote"
    if refs.problem:
        where = f"whether its work is on the remote is unknown: {refs.problem}"
    message = f"{outcome.message}; the publisher left no report: {where}"
    return replace(outcome, message=message, report=report, unreported=False)


def judge_refs(refs: FoundRefs, expected: Expectation) -> Outcome:
    """The outcome of an attempt that nobody saw end: good only when its result was published as such."""
    report = refs.report
    if report is not None and _accepted(report, refs, expected):

        def outcome(verdict: str, reason: str, message: str, infrastructure: bool = False) -> Outcome:
            return Outcome(verdict, reason, message, infrastructure, None, report.base, report)

        return _judge_report(outcome, report, expected)
    known = report or PublisherReport(commit=refs.wip, ref=refs.wip_ref if refs.wip else "")
    where = "its work so far is on the remote" if refs.wip else "nothing of it is on the remote"
    if refs.problem:
        where = f"the remote can't be read: {refs.problem}"
    return Outcome(FAILED, reasons.POD_LOST, f"the Pod is gone without a recorded outcome; {where}", True, report=known)


def _accepted(report: PublisherReport, refs: FoundRefs, expected: Expectation) -> bool:
    """Whether the publisher saw a good end: it puts work on the task's ref only then."""
    if report.error or report.fenced:
        return False
    if report.commit and not expected.handoff_only:
        return report.ref == expected.task_ref and refs.result == report.commit
    return report.handoff_valid


class _Build(Protocol):
    """Makes an Outcome with what is known of the attempt."""

    def __call__(self, verdict: str, reason: str, message: str, infrastructure: bool = False, /) -> Outcome: ...


def _judge_report(outcome: _Build, report: PublisherReport, expected: Expectation) -> Outcome:
    """The outcome of an agent that ended with exit code 0 and whose work was published."""
    if report.held_back:
        return outcome(FAILED, reasons.SECRET_FOUND, _held_back(report))
    written = report.handoff_valid and not report.handoff_made
    if not report.handoff_valid and not report.handoff_made:
        none = "none was written" in report.message or not report.message
        missing = reasons.NO_HANDOFF if none else reasons.BAD_HANDOFF
        return outcome(FAILED, missing, f"no valid handoff: {report.message or 'none was written'}")
    if expected.handoff_only and not written:
        return outcome(FAILED, reasons.NO_HANDOFF, "the agent wrote no handoff, which is its result")
    if report.handoff_status == "Failed":
        return outcome(FAILED, reasons.AGENT_FAILED, f"the agent reports that it failed: {report.summary}")
    if report.handoff_status == "Blocked":
        return outcome(BLOCKED, reasons.BLOCKED, f"the agent reports that it can't go on: {report.summary}")
    if report.handoff_status == "Partial":
        return outcome(PARTIAL, reasons.PARTIAL, f"the agent reports a part of the work: {report.summary}")
    if report.markers:
        return outcome(
            FAILED, reasons.MARKERS_LEFT, f"conflict markers are left in {_marked(report)}: resolve them all"
        )
    if report.out_of_scope and not expected.handoff_only:
        paths = _listed(report.out_of_scope)
        return outcome(PARTIAL, reasons.OUT_OF_SCOPE, f"changed paths outside the task's scope: {paths}")
    idle = not (report.tokens_in or report.tokens_out or report.model_calls or report.tool_calls)
    if idle and not report.commit and not (written and (expected.script or expected.handoff_only)):
        return outcome(FAILED, reasons.NO_RESULT, "no tokens, no tool calls and no diff: the agent did nothing")
    if report.commit and report.ref != expected.task_ref and not expected.handoff_only:
        return outcome(FAILED, reasons.WORK_REFUSED, f"the work can't be merged: {_refusals(report)}")
    return outcome(COMPLETE, reasons.COMPLETED, report.summary)


def _refusals(report: PublisherReport) -> str:
    listed = [f"{item.get('path', '?')} ({item.get('why', 'refused')})" for item in report.refused]
    return _listed(listed) if listed else report.message or f"it was put on {report.ref}"


def _pod_failure(pod: PodView, agent: ContainerView | None) -> tuple[str, str, bool] | None:
    """What ended the Pod as a whole, from outside its containers."""
    text = pod.message or pod.reason
    if pod.reason == "Evicted":
        if any(words in pod.message for words in _OWN_STORAGE):
            return reasons.EPHEMERAL_STORAGE_EXCEEDED, text, False
        return reasons.EVICTED, text, True
    if pod.disrupted in _LOST_NODE or pod.reason == "NodeLost":
        return reasons.NODE_LOST, text or f"node {pod.node} was lost", True
    if pod.disrupted:
        return reasons.DISRUPTED, text or f"the Pod was ended by {pod.disrupted}", True
    if pod.reason == "DeadlineExceeded":
        if agent is None and not _started(pod.container(names.CONTAINER_AGENT)):
            return reasons.START_TIMED_OUT, "the agent had not started by the Pod's deadline", True
        return reasons.TIMED_OUT, "the Pod ran past its deadline", False
    if pod.meta.deleting and agent is not None and agent.exit_code in _STOPPED and agent.reason != "OOMKilled":
        return reasons.DISRUPTED, "the Pod was deleted", True
    if pod.reason in ("Shutdown", "Terminated", "NodeShutdown", "Preempting"):
        return reasons.DISRUPTED, text, True
    if pod.reason in ("UnexpectedAdmissionError", "NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods"):
        return reasons.DISRUPTED, text, True
    return None


def _workspace_failure(pod: PodView) -> tuple[str, str, bool] | None:
    workspace = pod.container(names.CONTAINER_WORKSPACE)
    if workspace is None or workspace.state != "Terminated" or workspace.exit_code == 0:
        return None
    how = workspace.reason if workspace.reason not in ("", "Error") else f"exit code {workspace.exit_code}"
    return reasons.WORKSPACE_FAILED, f"container workspace ended with {how}: {workspace.message[:200]}", True


def _agent_failure(agent: ContainerView | None) -> tuple[str, str, bool] | None:
    if agent is None or agent.exit_code == 0:
        return None
    if agent.reason == "OOMKilled":
        return reasons.OUT_OF_MEMORY, "the agent ran out of memory: raise the class's memory limit", False
    if agent.reason in ("ContainerCannotRun", "StartError", "CreateContainerError"):
        return reasons.AGENT_FAILED, f"the agent's container could not start: {agent.message[:200]}", False
    if agent.exit_code == EXIT_TIMED_OUT:
        return reasons.TIMED_OUT, "the agent ran past timeoutSeconds", False
    return reasons.AGENT_FAILED, f"the agent ended with exit code {agent.exit_code}", False


def _started(container: ContainerView | None) -> bool:
    return container is not None and container.state != "Waiting"


def _infrastructure_reason(error: str) -> str:
    """Fencing keeps its name; whatever else keeps the workspace from being made is one thing to a task."""
    return reasons.FENCED if error == reasons.FENCED else reasons.WORKSPACE_FAILED


def _with_lost_work(message: str, report: PublisherReport) -> str:
    """A failed attempt's message also says when its work is not on the remote, or which file was held back."""
    parts = [message]
    if report.held_back:
        parts.append(_held_back(report))
    if report.error:
        parts.append(f"its work is not on the remote ({report.error}: {report.message})")
    return "; ".join(dict.fromkeys(parts))


def _held_back(report: PublisherReport) -> str:
    places = [
        f"{hit.get('file', '?')}:{hit.get('line', '?')} ({hit.get('rule', 'secret')})" for hit in report.held_back
    ]
    return f"a secret was found and the file held back: {_listed(places)}; remove it and run the task again"


def _marked(report: PublisherReport) -> str:
    return _listed([f"{place.get('file', '?')}:{place.get('line', '?')}" for place in report.markers])


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return ", ".join(items[:MAX_NAMED]) + more


def _workspace_report(container: ContainerView | None) -> WorkspaceReport:
    if container is None or container.state != "Terminated":
        return WorkspaceReport()
    try:
        return WorkspaceReport.loads(container.message)
    except WireError:
        return WorkspaceReport()


def _publisher_report(container: ContainerView | None) -> PublisherReport | None:
    if container is None or container.state != "Terminated":
        return None
    try:
        return PublisherReport.loads(container.message)
    except WireError:
        return None
