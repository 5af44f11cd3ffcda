"""A task without an open attempt: what holds it, or its next attempt."""

from __future__ import annotations

import re
from dataclasses import replace

from tidegate.api import reasons
from tidegate.tasks import states, times
from tidegate.tasks.decide.pods import deletions, leftovers, newest_pod, unwanted_runs
from tidegate.tasks.model import Decision, Note, Notice, Observed, Problem, Timer
from tidegate.tasks.status import StatusEdit, newest

FULL_AGAIN = 5.0
_CHECKED_FROM_CACHE = frozenset(
    {
        reasons.CLASS_MISSING,
        reasons.NAMESPACE_NOT_ALLOWED,
        reasons.BUILD_MISSING,
        reasons.PROFILE_MISSING,
        reasons.NO_GATE_TO_RUN,
    }
)


def pending(seen: Observed) -> Decision:
    """Cancel it, hold it with the reason, or assign an attempt."""
    timer = Timer()
    gone = deletions(seen, timer)
    decision = _cancelled(seen) if seen.cancelled else _wait_or_start(seen, timer)
    again = decision.again_after
    if again is not None:
        timer.within(again)
    return replace(decision, delete_pods=gone, delete_runs=unwanted_runs(seen), again_after=timer.seconds)


def _cancelled(seen: Observed) -> Decision:
    edit = StatusEdit(seen.task, seen.now).to_state(states.CANCELLED)
    text = "cancelled before an attempt was under way"
    edit.condition(reasons.SUCCEEDED, "False", reasons.CANCELLED, text)
    edit.condition(reasons.MERGED, "False", reasons.CANCELLED, text)
    edit.drop(reasons.STALLED).set(nextAttemptTime=None, completionTime=times.written(seen.now))
    return Decision(status=edit.patch(), notes=(Note("Normal", reasons.CANCELLED, text),))


def _wait_or_start(seen: Observed, timer: Timer) -> Decision:
    known = known_problem(seen)
    wait = times.seconds_until(seen.task.next_attempt_time, seen.now)
    if wait > 0:
        if _stalled_reason(seen) and _lifted(seen, known):
            return _lift(seen)
        timer.within(wait)
        return Decision()
    held = _hold_reason(seen)
    if held is not None:
        return _hold(seen, timer, *held)
    lane = _lane(seen, timer)
    if lane is not None:
        return lane
    if known is not None:
        return stall(seen, known, timer)
    return _check_and_assign(seen, timer)


def _check_and_assign(seen: Observed, timer: Timer) -> Decision:
    if seen.full:
        timer.within(FULL_AGAIN)
        return _hold(seen, timer, reasons.WAITING_FOR_SLOT, "waits: the namespace has as many Pods as it may have")
    if _stalled_reason(seen) == reasons.NAME_TAKEN:
        if seen.foreign_pod:
            return stall(seen, Problem(reasons.NAME_TAKEN, _stalled_message(seen)), timer)
        if not seen.newest_pod_gone and newest_pod(seen) is None:
            return Decision(needs=frozenset({"pod"}))
    if seen.preflight is None:
        return Decision(needs=frozenset({"preflight"}))
    if seen.preflight.reason:
        return stall(seen, seen.preflight, timer)
    if leftovers(seen):
        return Decision()  # never two Pods: its end comes as an event
    return _assign(seen)


def known_problem(seen: Observed) -> Problem | None:
    """Why the task's AgentClass or its own gates can't be used, as far as the cache tells."""
    if seen.task.build and seen.build is None:
        text = f"BuildRequest {seen.task.build!r} (buildRef) is not in this namespace: create it, or delete the task"
        return Problem(reasons.BUILD_MISSING, text)
    name = seen.agent_class_name
    if seen.agent_class is None:
        return Problem(reasons.CLASS_MISSING, f"AgentClass {name!r} does not exist: create it, or name another class")
    allowed = seen.agent_class.spec.get("allowedNamespaces") or []
    if allowed and seen.task.meta.namespace not in allowed:
        text = f"AgentClass {name!r} may not be used in this namespace (allowedNamespaces)"
        return Problem(reasons.NAMESPACE_NOT_ALLOWED, text)
    return seen.own_gates.problem if seen.own_gates is not None else None


def _hold_reason(seen: Observed) -> tuple[str, str] | None:
    """Reason and message of what the task waits for, None when it may start."""
    if seen.task.build:
        if seen.build is None:
            return None  # told by known_problem
        if seen.task.meta.owner_uid != seen.build.meta.uid:
            return reasons.PENDING, f"waits to be adopted by build {seen.task.build}, which takes tasks while active"
    unmet = [dependency for dependency in seen.dependencies if not dependency.met]
    if unmet:
        words = [f"{d.name} ({d.dead})" if d.dead else d.name for d in sorted(unmet, key=lambda d: not d.dead)]
        return reasons.WAITING_FOR_DEPENDENCIES, f"waits for {', '.join(words)}"
    if seen.build is not None and seen.task.meta.name not in seen.build.slots:
        return reasons.WAITING_FOR_SLOT, f"waits for one of {seen.build.max_parallel} slots of build {seen.task.build}"
    return None


def _lane(seen: Observed, timer: Timer) -> Decision | None:
    """A task that stands alone starts when its lane is there and its remote was probed."""
    lane = seen.lane
    if lane is None or lane.ready:
        return None
    if not lane.exists:
        return Decision(ensure_lane=True)
    message = f"waits for lane {lane.name} to be ready" + (f": {lane.message}" if lane.message else "")
    return _hold(seen, timer, reasons.WAITING_FOR_LANE, message)


def _hold(seen: Observed, timer: Timer, reason: str, message: str) -> Decision:
    """Say why the task waits: once a wait has lasted, and again only when what is said is no longer true."""
    since = max(times.seconds_since(seen.task.meta.created, seen.now), 0.0)
    if seen.task.next_attempt_time:
        since = min(since, times.seconds_since(seen.task.next_attempt_time, seen.now))
    if reason != reasons.WAITING_FOR_DEPENDENCIES and since < seen.policy.quiet_seconds:
        timer.within(seen.policy.quiet_seconds - since)
        return Decision()
    edit = StatusEdit(seen.task, seen.now)
    found = edit.found_condition(reasons.SUCCEEDED)
    if found.get("reason") == reason and _still_true(seen, reason, str(found.get("message") or ""), message):
        return Decision()
    in_vain = any(dependency.dead for dependency in seen.dependencies)
    edit.to_state(states.PENDING).condition(reasons.SUCCEEDED, "Unknown", reason, message).drop(reasons.STALLED)
    return Decision(status=edit.patch(), notice=None if in_vain else Notice.WAITS)


def _still_true(seen: Observed, reason: str, old: str, new: str) -> bool:
    """Whether an older message may stay. Of dependencies: while it names one that is unmet, and every dead one."""
    if reason != reasons.WAITING_FOR_DEPENDENCIES:
        return old == new
    named = set(re.findall(r"[a-z0-9][-a-z0-9.]*", old))
    unmet = [d for d in seen.dependencies if not d.met]
    told = all(f"{d.name} ({d.dead})" in old for d in unmet if d.dead)
    return told and any(d.name in named for d in unmet)


def stall(seen: Observed, problem: Problem, timer: Timer, edit: StatusEdit | None = None) -> Decision:
    """Say what somebody must change. The next look is by the clock, or when a watched object changes."""
    edit = edit or StatusEdit(seen.task, seen.now).to_state(states.PENDING)
    news = edit.found_condition(reasons.STALLED).get("reason") != problem.reason
    edit.condition(reasons.SUCCEEDED, "Unknown", problem.reason, problem.message)
    edit.condition(reasons.STALLED, "True", problem.reason, problem.message)
    refused = problem.reason == reasons.POD_REFUSED
    wait = seen.policy.refused_recheck_seconds if refused else seen.policy.stall_recheck_seconds
    if seen.task.build or refused:  # a time ahead also gives the slot back to the build
        edit.set(nextAttemptTime=times.written_after(seen.now, wait))
    timer.within(wait)
    notes = (Note("Warning", problem.reason, problem.message),) if news else ()
    return Decision(status=edit.patch(), notes=notes, again_after=timer.seconds)


def _stalled_reason(seen: Observed) -> str:
    found = StatusEdit(seen.task, seen.now).found_condition(reasons.STALLED)
    return str(found.get("reason") or "") if found.get("status") == "True" else ""


def _stalled_message(seen: Observed) -> str:
    return str(StatusEdit(seen.task, seen.now).found_condition(reasons.STALLED).get("message") or "")


def _lifted(seen: Observed, known: Problem | None) -> bool:
    """Whether what stalled the task has changed, as far as watched objects tell."""
    if known is not None:
        return False
    reason = _stalled_reason(seen)
    if reason in _CHECKED_FROM_CACHE:
        return True
    if reason != reasons.POD_REFUSED or seen.agent_class is None:
        return False
    stalled = StatusEdit(seen.task, seen.now).found_condition(reasons.STALLED)
    same_class = newest(seen.task).get("classGeneration") in (None, seen.agent_class.meta.generation)
    return not same_class or stalled.get("observedGeneration") != seen.task.meta.generation


def _lift(seen: Observed) -> Decision:
    edit = StatusEdit(seen.task, seen.now).drop(reasons.STALLED).set(nextAttemptTime=None)
    edit.condition(reasons.SUCCEEDED, "Unknown", reasons.PENDING, "what held it has changed")
    return Decision(status=edit.patch())


def _assign(seen: Observed) -> Decision:
    number = seen.task.attempt + 1
    generation = seen.agent_class.meta.generation if seen.agent_class is not None else None
    edit = StatusEdit(seen.task, seen.now).to_state(states.ASSIGNED)
    edit.open_attempt(number, seen.agent_class_name, generation).set(nextAttemptTime=None)
    edit.condition(reasons.SUCCEEDED, "Unknown", reasons.PROGRESSING, f"attempt {number} is under way")
    return Decision(status=edit.patch())
