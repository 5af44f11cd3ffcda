"""The end of an attempt: a terminal state, or the next attempt after a wait."""

from __future__ import annotations

from dataclasses import replace

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import PodView
from tidegate.tasks import states, times
from tidegate.tasks.decide.pending import stall
from tidegate.tasks.model import INFRASTRUCTURE_LIMIT, Decision, Note, Observed, Policy, Problem, Timer
from tidegate.tasks.outcome import Outcome
from tidegate.tasks.status import StatusEdit, never_started

LOST = "Lost"  # the word for attempts that the cluster ended
PLANNER = "Planner"


def end(seen: Observed, outcome: Outcome, pod: PodView | None) -> Decision:
    """Record the outcome of the open attempt and what follows from it. A cancel that came before this wins."""
    edit = StatusEdit(seen.task, seen.now)
    if pod is not None:
        agent = pod.container(names.CONTAINER_AGENT)
        edit.amend_attempt(seen.task.attempt, podUID=pod.meta.uid, imageID=agent.image_id or None if agent else None)
    if seen.cancelled:
        return _cancelled(seen, edit, outcome)
    if outcome.verdict == states.FAILED:
        return _failed(seen, edit, outcome)
    return _finished(seen, edit, outcome)


def _cancelled(seen: Observed, edit: StatusEdit, outcome: Outcome) -> Decision:
    text = f"cancelled during attempt {seen.task.attempt}"
    if outcome.report.error:
        text += f"; its work is not on the remote ({outcome.report.error})"
    ended = replace(outcome, reason=reasons.CANCELLED, message=text, infrastructure=False)
    edit.close_attempt(seen.task.attempt, ended, states.CANCELLED)
    terminal(seen, edit, states.CANCELLED, reasons.CANCELLED, text)
    return Decision(status=edit.patch(), notes=(Note("Normal", reasons.CANCELLED, text),))


def _finished(seen: Observed, edit: StatusEdit, outcome: Outcome) -> Decision:
    """Complete, Partial or Blocked: neither of the two others is tried again or merged."""
    number, report = seen.task.attempt, outcome.report
    edit.close_attempt(number, outcome, outcome.verdict)
    if outcome.verdict == states.COMPLETE:
        if report.commit and seen.own_gates is not None:
            return _to_be_gated(seen, edit, report.commit, seen.own_gates.profile)
        return completed(seen, edit, report.commit, outcome.message)
    terminal(seen, edit, outcome.verdict, outcome.reason, outcome.message)
    text = f"attempt {number}: {outcome.message or outcome.reason}"
    return Decision(status=edit.patch(), notes=(Note("Warning", outcome.verdict, text),))


def completed(seen: Observed, edit: StatusEdit, commit: str, summary: str) -> Decision:
    """The task's good end: its commit, if there is one, goes to the lane."""
    number = seen.task.attempt
    terminal(seen, edit, states.COMPLETE, reasons.COMPLETED, summary)
    edit.set(commit=commit or None)
    if not commit or seen.task.role == PLANNER or seen.task.reviews is not None:
        edit.condition(reasons.MERGED, "True", reasons.EMPTY_DIFF, "there is nothing to merge")
    else:
        edit.set(mergeJob=names.merge_job_name(seen.task.meta.name, number))
        edit.condition(reasons.MERGED, "Unknown", reasons.QUEUED, "on its way into the target branch")
    text = f"attempt {number}: {summary or reasons.COMPLETED}"
    return Decision(status=edit.patch(), notes=(Note("Normal", states.COMPLETE, text),))


def _to_be_gated(seen: Observed, edit: StatusEdit, commit: str, profile: str) -> Decision:
    """A good end of the attempt, and not yet of the task: its own gates come first."""
    number = seen.task.attempt
    edit.to_state(states.GATING).drop(reasons.STALLED)
    edit.set(ownGates={"attempt": number, "commit": commit, "profileName": profile, "verdict": None, "gates": None})
    text = f"attempt {number} ended well: the gates of {profile} are to pass on its commit {commit[:12]}"
    edit.condition(reasons.SUCCEEDED, "Unknown", reasons.GATING, text)
    return Decision(status=edit.patch(), notes=(Note("Normal", reasons.GATING, text),))


def _failed(seen: Observed, edit: StatusEdit, outcome: Outcome) -> Decision:
    number = seen.task.attempt
    edit.close_attempt(number, outcome, LOST if outcome.infrastructure else states.FAILED)
    count = edit.count_failure(infrastructure=outcome.infrastructure)
    limit = INFRASTRUCTURE_LIMIT if outcome.infrastructure else seen.policy.retry_limit
    what = f"attempt {number}: {outcome.reason}: {outcome.message}"
    if count > limit:
        reason = reasons.INFRASTRUCTURE_EXHAUSTED if outcome.infrastructure else reasons.ESCALATED
        text = f"no attempt is left after {count} of {limit + 1}; {what}"
        terminal(seen, edit, states.FAILED, reason, text)
        return Decision(status=edit.patch(), notes=(Note("Warning", reason, text),))
    wait = backoff(count, seen.policy)
    text = f"{what}; tried again in {wait} s ({limit - count + 1} left)"
    edit.to_state(states.PENDING).condition(reasons.SUCCEEDED, "Unknown", reasons.RETRYING, text)
    edit.drop(reasons.STALLED).set(nextAttemptTime=times.written_after(seen.now, wait))
    return Decision(status=edit.patch(), notes=(Note("Warning", outcome.reason, text),), again_after=wait)


def backoff(failures: int, policy: Policy) -> int:
    """Seconds before the next attempt after so many failures."""
    doublings = min(failures - 1, 30)
    return min(policy.backoff_seconds * (1 << doublings), policy.max_backoff_seconds)


def never_had_pod(seen: Observed, problem: Problem, timer: Timer) -> Decision:
    """End an attempt whose Pod the API server refused: it counts for nothing."""
    edit = StatusEdit(seen.task, seen.now)
    ended = Outcome(states.FAILED, problem.reason, problem.message, infrastructure=True)
    edit.close_attempt(seen.task.attempt, ended, LOST)
    if seen.cancelled:
        return _cancelled(seen, StatusEdit(seen.task, seen.now), ended)
    edit.to_state(states.PENDING)
    if problem.reason != reasons.QUOTA_EXCEEDED:
        return stall(seen, problem, timer, edit)
    wait = backoff(_refused_in_a_row(seen) + 1, replace(seen.policy, backoff_seconds=10, max_backoff_seconds=300))
    edit.condition(reasons.SUCCEEDED, "Unknown", reasons.QUOTA_EXCEEDED, f"{problem.message}; asked again in {wait} s")
    edit.set(nextAttemptTime=times.written_after(seen.now, wait))
    note = Note("Warning", problem.reason, problem.message)
    return Decision(status=edit.patch(), notes=(note,), again_after=wait)


def _refused_in_a_row(seen: Observed) -> int:
    """How many attempts before this one never had a Pod: their records make room, their numbers tell."""
    ended = [a for a in seen.task.status().get("attempts") or () if a.get("endTime") and not never_started(a)]
    return max(seen.task.attempt - 1 - max((int(a["number"]) for a in ended), default=0), 0)


def terminal(seen: Observed, edit: StatusEdit, state: str, reason: str, message: str) -> None:
    """Record the end of the task."""
    edit.to_state(state).drop(reasons.STALLED)
    done = state == states.COMPLETE
    edit.condition(reasons.SUCCEEDED, "True" if done else "False", reason, message)
    if not done:
        edit.condition(reasons.MERGED, "False", reason, f"a task that ends {state} is not merged")
    edit.set(nextAttemptTime=None, completionTime=times.written(seen.now))
