"""What is known of the head itself. Pure."""

from __future__ import annotations

from tidegate.lane.decide.draft import Draft
from tidegate.lane.decide.evidence import Finding, weigh
from tidegate.lane.decide.model import FAILED, PASSED, Gate, Start


def head_of(draft: Draft, gate: Gate) -> Finding:
    """What is known of the head. Its failures count each on their own: it is red after two until it passes."""
    return weigh(draft.runs(gate, draft.snapshot.head, draft.snapshot.head_tree), infra_limit=10**6)


def is_red(draft: Draft, gate: Gate) -> bool:
    """Whether the head fails a gate."""
    return head_of(draft, gate).state == FAILED


def red_until(draft: Draft, gate: Gate) -> float:
    """When the head was last seen to fail a gate twice; what failed before that proves nothing."""
    runs = draft.runs(gate, draft.snapshot.head, draft.snapshot.head_tree)
    failures = [run.ended for run in runs if run.verdict == FAILED]
    passed = any(run.verdict == PASSED for run in runs)
    return max(failures) if passed and len(failures) >= 2 else 0.0


def want_head(draft: Draft, gate: Gate) -> None:
    """Have a gate run on the head."""
    snapshot = draft.snapshot
    draft.wanted.add((gate.key, gate.subject(snapshot.head, snapshot.head_tree)))
    finding = head_of(draft, gate)
    if finding.start and finding.not_before > snapshot.now:
        draft.again.append(finding.not_before - snapshot.now)
    elif finding.start:
        draft.starts.append((False, 0, Start(gate, snapshot.head, snapshot.head_tree, "", finding.start)))


def watch_base(draft: Draft, gate: Gate) -> None:
    """Run a red gate on the head again from time to time."""
    snapshot = draft.snapshot
    runs = draft.runs(gate, snapshot.head, snapshot.head_tree)
    draft.wanted.add((gate.key, gate.subject(snapshot.head, snapshot.head_tree)))
    if any(not run.verdict for run in runs):
        return
    due = max(run.ended for run in runs) + snapshot.base_retry_seconds - snapshot.now
    if due > 0:
        draft.again.append(due)
        return
    start = Start(gate, snapshot.head, snapshot.head_tree, "", max(run.number for run in runs) + 1)
    draft.starts.append((True, 0, start))
