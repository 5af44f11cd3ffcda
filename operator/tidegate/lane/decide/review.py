"""Reviews of changes: asked once for each change, wherever it is based, before it has a candidate. Pure."""

from __future__ import annotations

from dataclasses import replace

from tidegate.api import reasons
from tidegate.lane.decide.draft import Draft
from tidegate.lane.decide.evidence import Finding, weigh, worst
from tidegate.lane.decide.model import FAILED, INFRA, PASSED, Ending, Job, Run, Start

VOID = "Void"  # counts for nothing but its number


def approved(draft: Draft, job: Job) -> bool:
    """Whether every review approves of a job's change. Otherwise the draft says what follows: nothing lands by it."""
    if not job.reviews:
        return True
    if job.patch is None:
        draft.undecided = draft.unmeasured = True
        draft.again.append(0.0)
        draft.note(job, reasons.REVIEWING, "its change is about to be looked at")
        return False
    if not job.patch:
        message = "its history has too many merge bases for a review: rebase it on the target branch"
        draft.endings.append(Ending(job.uid, FAILED, reasons.REVIEW_MISSING, message))
        return False
    limit = draft.snapshot.infra_limit * (1 + job.demotions)
    findings = {
        gate: weigh(_said(job, draft.snapshot.runs.get((gate.key, job.patch), ())), infra_limit=limit, final=True)
        for gate in job.reviews
    }
    state = worst(findings.values())
    if state == PASSED:
        return True
    if state == FAILED:
        refused = ", ".join(gate.name for gate, finding in findings.items() if finding.state == FAILED)
        message = f"{refused} doesn't approve of the change: status.gates says why"
        draft.endings.append(Ending(job.uid, FAILED, reasons.NOT_APPROVED, message))
        return False
    draft.undecided = True  # it may yet land, and mend what the others fail by
    if state == INFRA:
        draft.demote.append(job.uid)
        draft.note(job, reasons.INFRA, "the cluster ended its reviews too often: to the end of the queue")
        return False
    names = ", ".join(gate.name for gate, finding in findings.items() if finding.state != PASSED)
    draft.note(job, reasons.REVIEWING, f"its change is being reviewed: {names}")
    for gate, finding in findings.items():
        if finding.state != PASSED:
            draft.wanted.add((gate.key, job.patch))
            _want(draft, Start(gate, job.source, "", "", finding.start, job.uid, job.patch), finding)
    return False


def _said(job: Job, runs: tuple[Run, ...]) -> list[Run]:
    """What reviews said of a job's change. One that had no verdict ends the job that waited for it, and is nothing to
    hold against the same change when it is queued again."""
    return [replace(run, verdict=VOID) if run.silent and run.ended <= job.queued else run for run in runs]


def _want(draft: Draft, start: Start, finding: Finding) -> None:
    """Start it where it is due. Two jobs that bring the same change share its review."""
    if not finding.start:
        return
    if finding.not_before > draft.snapshot.now:
        draft.again.append(finding.not_before - draft.snapshot.now)
    else:
        draft.reviews.setdefault((start.gate.key, start.patch), start)


def startable(draft: Draft) -> tuple[Start, ...]:
    """The reviews to start now, in order of the queue: so many are under way at once."""
    runs = draft.snapshot.runs
    keys = {gate.key for job in draft.snapshot.jobs for gate in job.reviews}
    active = sum(not run.verdict for (key, _), found in runs.items() if key in keys for run in found)
    return tuple(draft.reviews.values())[: max(draft.snapshot.review_slots - active, 0)]
