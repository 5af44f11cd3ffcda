"""A task whose newest attempt ended well: its own gates decide whether it is complete or the agent goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tidegate.api import reasons
from tidegate.api.gates import Definition, gate_key
from tidegate.api.views import GateRunView
from tidegate.tasks import states, times
from tidegate.tasks.continuation import own_run_name
from tidegate.tasks.decide.end import backoff, completed, terminal
from tidegate.tasks.decide.pods import deletions, unwanted_runs
from tidegate.tasks.model import (
    INFRASTRUCTURE_LIMIT,
    Decision,
    Note,
    Observed,
    OwnGates,
    Problem,
    RunStart,
    Timer,
)
from tidegate.tasks.status import StatusEdit, newest

# Seconds before the agent goes on: more than the time within which a build doesn't take a slot from a task that starts.
CONTINUATION_WAIT = 3
PASSED, FAILED, INFRA = "Passed", "Failed", "Infra"
NAMED = 5  # gates, or GateRuns, in one message


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one gate: its newest run, and the next one where that is to be made or waited for."""

    gate: str
    run: str = ""
    verdict: str = ""
    start: RunStart | None = None
    exhausted: bool = False  # the cluster ended it too often

    @property
    def open(self) -> bool:
        """Whether a verdict is still to come."""
        return not (self.exhausted or self.verdict in (PASSED, FAILED))


def gating(seen: Observed) -> Decision:
    """Start the gates, wait for them, and end the task or send its agent on."""
    timer = Timer()
    gone = deletions(seen, timer)
    own = seen.own_gates
    if seen.cancelled:
        decision = _cancelled(seen)
    elif own is None or own.problem is not None:
        decision = _stalled(seen, timer, own.problem if own is not None else None)
    elif seen.foreign_run:
        text = f"GateRun {seen.foreign_run!r} exists and isn't this task's: delete it"
        decision = _stalled(seen, timer, Problem(reasons.NAME_TAKEN, text))
    else:
        decision = _by_results(seen, own, timer)
    if decision.again_after is not None:
        timer.within(decision.again_after)
    return replace(decision, delete_pods=gone, again_after=timer.seconds)


def _by_results(seen: Observed, own: OwnGates, timer: Timer) -> Decision:
    commit = _commit(seen)
    results = tuple(_result(seen, gate, commit, timer) for gate in own.gates)
    edit = StatusEdit(seen.task, seen.now).drop(reasons.STALLED)
    if any(result.open for result in results):
        wanted = frozenset(result.run for result in results)
        return replace(_wait(seen, edit, results), delete_runs=unwanted_runs(seen, wanted))
    if failed := [result.gate for result in results if result.verdict == FAILED]:
        return _go_on(seen, own, _record(seen, edit, results, FAILED), failed)
    if exhausted := [result.gate for result in results if result.exhausted]:
        return _give_up(seen, _record(seen, edit, results, INFRA), exhausted)
    return completed(seen, _record(seen, edit, results, PASSED), commit, str(newest(seen.task).get("message") or ""))


def _commit(seen: Observed) -> str:
    return str((seen.task.status().get("ownGates") or {}).get("commit") or "")


# -- one gate


def _result(seen: Observed, gate: Definition, commit: str, timer: Timer) -> Result:
    """The newest run decides; one that the cluster ended is made again after a while. Lost ones are made anew."""
    name, key = str(gate["name"]), gate_key(gate)
    found = max(_evidence(seen.runs, commit, key), key=_number, default=None)
    if found is None:
        return _next(seen, gate, commit, 1, "")
    number, verdict = _number(found), str(found.status.get("verdict") or "")
    if verdict != INFRA:
        return Result(name, found.meta.name, verdict)
    if number > INFRASTRUCTURE_LIMIT:
        return Result(name, found.meta.name, verdict, exhausted=True)
    left = backoff(number, seen.policy) - times.seconds_since(str(found.status.get("endTime") or ""), seen.now)
    if left > 0:
        timer.within(left)
        return Result(name, found.meta.name, verdict)
    return _next(seen, gate, commit, number + 1, verdict)


def _next(seen: Observed, gate: Definition, commit: str, number: int, verdict: str) -> Result:
    name = str(gate["name"])
    run = own_run_name(seen.task.meta.uid, name, gate_key(gate), commit, number)
    return Result(name, run, verdict, RunStart(run, gate, number))


def _evidence(runs: Iterable[GateRunView], commit: str, key: str) -> Iterable[GateRunView]:
    """Runs of exactly this gate on exactly this commit, whatever their names."""
    for run in runs:
        if not run.meta.deleting and run.spec.get("commit") == commit and gate_key(run.spec["gate"]) == key:
            yield run


def _number(run: GateRunView) -> int:
    return int(run.spec.get("number") or 1)


# -- all of them


def _wait(seen: Observed, edit: StatusEdit, results: tuple[Result, ...]) -> Decision:
    waits = [result for result in results if result.open]
    words = [f"{result.gate} (GateRun {result.run})" for result in waits]
    text = f"attempt {seen.task.attempt} ended well, its own gates are to pass: waits for {_listed(words)}"
    edit.condition(reasons.SUCCEEDED, "Unknown", reasons.GATING, text)
    starts = tuple(result.start for result in results if result.start is not None)
    return Decision(status=_record(seen, edit, results, None).patch(), create_runs=starts)


def _record(seen: Observed, edit: StatusEdit, results: tuple[Result, ...], verdict: str | None) -> StatusEdit:
    before = seen.task.status().get("ownGates") or {}
    gates = [_row(result) for result in results]
    made = {**before, "gates": gates, **({"verdict": verdict} if verdict else {})}
    return edit.set(ownGates=made)


def _row(result: Result) -> dict[str, str]:
    return {"name": result.gate, "run": result.run, "verdict": "" if result.start is not None else result.verdict}


def _go_on(seen: Observed, own: OwnGates, edit: StatusEdit, failed: list[str]) -> Decision:
    """The agent goes on from its work with what failed, or the task fails and its work stays where it is."""
    number, done = seen.task.attempt, int(seen.task.status().get("continuations") or 0)
    what = f"attempt {number}: its own gates failed: {_listed(failed)}"
    edit.amend_attempt(number, outcome=states.FAILED, reason=reasons.OWN_GATES_FAILED, message=what)
    if done >= own.max_continuations:
        text = f"{what}; no continuation is left after {done} of {own.max_continuations}; {_kept(seen)}"
        terminal(seen, edit, states.FAILED, reasons.OWN_GATES_FAILED, text)
        return Decision(status=edit.patch(), notes=(Note("Warning", reasons.OWN_GATES_FAILED, text),))
    text = f"{what}; the agent goes on from its work: continuation {done + 1} of {own.max_continuations}"
    edit.to_state(states.PENDING).condition(reasons.SUCCEEDED, "Unknown", reasons.CONTINUING, text)
    edit.set(continuations=done + 1, nextAttemptTime=times.written_after(seen.now, CONTINUATION_WAIT))
    note = Note("Warning", reasons.OWN_GATES_FAILED, text)
    return Decision(status=edit.patch(), notes=(note,), again_after=CONTINUATION_WAIT)


def _give_up(seen: Observed, edit: StatusEdit, gates: list[str]) -> Decision:
    number, reason = seen.task.attempt, reasons.INFRASTRUCTURE_EXHAUSTED
    text = (
        f"attempt {number} ended well, but the cluster ended its own gates {_listed(gates)} "
        f"{INFRASTRUCTURE_LIMIT + 1} times: see their GateRuns; {_kept(seen)}"
    )
    edit.amend_attempt(number, outcome=states.FAILED, reason=reason, message=text)
    terminal(seen, edit, states.FAILED, reason, text)
    return Decision(status=edit.patch(), notes=(Note("Warning", reason, text),))


def _cancelled(seen: Observed) -> Decision:
    text = f"cancelled while its own gates ran; {_kept(seen)}"
    edit = StatusEdit(seen.task, seen.now)
    edit.amend_attempt(seen.task.attempt, outcome=states.CANCELLED, reason=reasons.CANCELLED, message=text)
    terminal(seen, edit, states.CANCELLED, reasons.CANCELLED, text)
    note = Note("Normal", reasons.CANCELLED, text)
    return Decision(status=edit.patch(), delete_runs=unwanted_runs(seen), notes=(note,))


def _stalled(seen: Observed, timer: Timer, problem: Problem | None) -> Decision:
    """Say what somebody must change; the work waits where it is."""
    found = problem or Problem(reasons.PROFILE_MISSING, "nothing names the gates any more: cancel the task")
    edit = StatusEdit(seen.task, seen.now)
    news = edit.found_condition(reasons.STALLED).get("reason") != found.reason
    edit.condition(reasons.SUCCEEDED, "Unknown", found.reason, found.message)
    edit.condition(reasons.STALLED, "True", found.reason, found.message)
    timer.within(seen.policy.stall_recheck_seconds)
    notes = (Note("Warning", found.reason, found.message),) if news else ()
    return Decision(status=edit.patch(), notes=notes)


def _kept(seen: Observed) -> str:
    return f"its work is kept at {seen.task.ref}"


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more
