"""The plan of a lane: a ladder of cumulative candidates on the head, and what follows from their evidence. Pure.

Everything is keyed by commits: a candidate's evidence stays good as long as its commit stays in the ladder, and the
same commit is found again when what stood below it has landed. Planning twice from one snapshot gives the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.api import reasons
from tidegate.lane.decide.draft import Draft
from tidegate.lane.decide.evidence import SUSPECT, listed, named, union, worst
from tidegate.lane.decide.head import head_of, is_red, want_head, watch_base
from tidegate.lane.decide.model import (
    FAILED,
    INFRA,
    PASSED,
    Conflict,
    Ending,
    Formed,
    Gate,
    Job,
    Nothing,
    Place,
    Plan,
    Rung,
    Short,
    Snapshot,
)
from tidegate.lane.decide.order import ordered
from tidegate.lane.decide.review import approved, startable
from tidegate.lane.decide.rungs import (
    add_rung,
    crowd,
    findings_of,
    floor_for,
    gate_top,
    gates_with,
    is_under_way,
    pick,
    share_of,
    towards,
)

LOOKED_AT_PER_RUNG = 4  # jobs that may be passed over for each rung, conflicts and failures among them
LOOKED_AT_MORE = 16
NEVER_PASSED_RUNS = 3  # failures of a head by a gate that nothing has ever passed
DEEPEST = 2  # a ladder has fewer rungs than this many for each candidate that is gated at once
CLEARING_PASSES = 2  # of candidates on top of a change, where its own has no verdict yet
BASE_RED_SECONDS = 1800.0  # in which a head fails any other gate


def plan(snapshot: Snapshot) -> Plan:
    """What should happen next in a lane."""
    draft = Draft(snapshot)
    for (parent, uid), link in snapshot.links.items():
        if isinstance(link, Formed):
            draft.formed.setdefault(parent, set()).add(uid)
    asked = union(*(job.gates for job in snapshot.jobs if not job.unapproved))
    draft.red = {gate.key: gate for gate in asked if is_red(draft, gate)}
    queue = ordered(snapshot.jobs, fixers_first=bool(draft.red))
    runaway = snapshot.fruitless >= snapshot.fruitless_limit
    if not snapshot.frozen and not runaway and snapshot.head:
        _climb(draft, _admit(draft, queue))
        _settle_conflicts(draft)
        _settle_helpless(draft)
        for key in sorted(draft.red):
            watch_base(draft, draft.red[key])
    return _finish(draft, queue, runaway)


def _admit(draft: Draft, queue: list[Job]) -> list[Job]:
    """The jobs that may have a candidate now; the others wait for a named job."""
    by_uid = {job.uid: job for job in queue}
    first_of: dict[str, Job] = {}
    admitted = []
    for job in queue:
        twin = first_of.setdefault(job.source, job)
        waits = tuple(by_uid[uid].name for uid in job.waits_on if uid in by_uid)
        if job.broken_on:
            message = f"its commit contains that of {job.broken_on}, which ended without landing"
            draft.endings.append(Ending(job.uid, FAILED, reasons.STACKED_ON_UNMERGED, message))
        elif job.denied:
            draft.endings.append(Ending(job.uid, FAILED, reasons.APPROVAL_DENIED, f"denied {job.denied}"))
        elif twin is not job:
            draft.note(job, reasons.HELD, f"{twin.name} brings the same commit", (twin.name,))
        elif waits:
            draft.note(job, reasons.HELD, f"its commit contains that of {', '.join(waits[:5])}", waits)
        elif job.unapproved:
            draft.needs_approval(job, job.unapproved)
        elif approved(draft, job):
            admitted.append(job)
    return admitted


def _climb(draft: Draft, queue: list[Job]) -> None:
    """Build the ladder: each job on the commit of the one before it."""
    window = 1 if draft.red else max(draft.snapshot.window, 1)
    at_once, most = crowd(draft.snapshot, queue, window)
    draft.towards = towards(draft.snapshot) if most > 1 else set()
    remaining, tip = list(queue), draft.snapshot.head
    budget = window * LOOKED_AT_PER_RUNG + LOOKED_AT_MORE + len(queue) * bool(draft.red)
    while remaining and _room(draft, window) and budget:
        budget -= 1
        if not draft.batch:
            draft.share = share_of(draft, tip, remaining, most)
        job = pick(draft, tip, remaining)
        if _undecided(draft) >= at_once and not is_under_way(draft, tip, job):
            break
        remaining.remove(job)
        link = draft.snapshot.links.get((tip, job.uid))
        if link is None:
            draft.form.append((tip, job.uid))
            return  # what comes next depends on it
        if isinstance(link, Formed):
            tip = _try_rung(draft, job, link, tip)
        elif isinstance(link, Conflict):
            _meet_conflict(draft, job, link, tip)
        else:
            _meet_nothing(draft, job, link, tip)
    if draft.batch:  # fewer than were to share: the last one is gated for them
        draft.batch -= 1
        gate_top(draft)


def _undecided(draft: Draft) -> int:
    """How many candidates are gated: those that passed and wait for others take no slot, nor those that share one."""
    return sum(rung.state != PASSED and rung.proof is None for rung in draft.ladder) - draft.batch


def _room(draft: Draft, window: int) -> bool:
    """Whether one more candidate may be gated."""
    return _undecided(draft) < window and len(draft.ladder) < max(window * DEEPEST - 1, 1)


def _try_rung(draft: Draft, job: Job, link: Formed, tip: str) -> str:
    """Put a candidate on the ladder, or pass it over; returns the commit on which the next one stands."""
    if not job.approved and (more := tuple(path for path in link.protected if path not in job.touches)):
        draft.needs_approval(job, more)  # on this base it touches what its own commits don't: a folder was renamed
        return tip
    gates = gates_with(draft, job)
    findings = findings_of(draft, job, link, gates)
    state = worst(findings.values())
    short = tuple(Short(key, *finding.short) for key, finding in findings.items() if finding.short)
    if state == FAILED:
        failed = [gate for gate in gates if findings[gate.key].state == FAILED]
        _meet_failure(draft, job, link, failed, tip, short)
        return tip
    if state == INFRA:
        draft.demote.append(job.uid)
        draft.note(job, reasons.INFRA, "the cluster ended its gate runs too often: to the end of the queue", link=link)
        return tip
    for gate in gates:
        if findings[gate.key].state != PASSED and not floor_for(draft, job, gate).known:
            want_head(draft, gate)
    alone = all(findings[g.key].state == PASSED for g in gates if g.final or (g.counts and not job.fewer_tests))
    ahead = tuple(rung.job.name for rung in draft.ladder)
    draft.note(job, reasons.GATING, "gates run on its candidate", ahead, link, short=short)
    add_rung(draft, Rung(job, tip, link, gates, state, alone), findings)
    return link.commit


def _meet_failure(draft: Draft, job: Job, link: Formed, failed: list[Gate], tip: str,
                  short: tuple[Short, ...]) -> None:  # fmt: skip
    """Below it stands only the head: then the head itself decides whether the change is to blame."""
    snapshot = draft.snapshot
    words = named(failed, short)
    if tip != snapshot.head:
        ahead = tuple(rung.job.name for rung in draft.ladder)
        draft.note(
            job, reasons.WAITING, f"failed {words}; tried again when those ahead are decided", ahead, link, short=short
        )
        return
    green = [gate for gate in failed if gate.final or head_of(draft, gate).state == PASSED]
    if green:
        message = f"failed twice on its candidate: {named(green, short)}"
        draft.endings.append(Ending(job.uid, FAILED, reasons.GATES_FAILED, message, short=short))
        return
    red = [gate for gate in failed if gate.key in draft.red]
    if red:
        draft.note(job, reasons.BASE_RED, f"the head itself fails {words}", link=link)
        draft.helpless[job.uid] = red
        return
    draft.undecided = True
    draft.note(
        job, reasons.GATING, f"failed {words}; the same gates run on the head to tell whose fault it is", link=link
    )
    for gate in failed:
        want_head(draft, gate)


def _settle_helpless(draft: Draft) -> None:
    """A red head ends nobody as long as hope is left. None is left when every job was tried on it in vain, and a gate
    that nothing ever passed fails it once more, or any gate fails it for half an hour."""
    if draft.ladder or draft.form or draft.undecided:
        return
    snapshot = draft.snapshot
    passed = {key for (key, _), runs in snapshot.runs.items() if any(run.verdict == PASSED for run in runs)}
    for uid, gates in draft.helpless.items():
        for gate in gates:
            runs = draft.runs(gate, snapshot.head, snapshot.head_tree)
            failures = [run.ended for run in runs if run.verdict == FAILED]
            times, never = len(failures), gate.key not in passed
            lasted = times >= NEVER_PASSED_RUNS and max(failures) - min(failures) >= BASE_RED_SECONDS
            if lasted or (never and times >= NEVER_PASSED_RUNS):
                reason = reasons.GATE_NEVER_PASSED if never else reasons.BASE_RED
                message = f"the head itself failed {gate.name} {times} times; the change can't be judged by it"
                if never:
                    message = f"nothing has ever passed {gate.name}, the head failed it {times} times: look at the gate"
                draft.endings.append(Ending(uid, FAILED, reason, message))
                break


def _meet_nothing(draft: Draft, job: Job, link: Nothing, tip: str) -> None:
    if tip != draft.snapshot.head:
        ahead = tuple(rung.job.name for rung in draft.ladder)
        draft.note(job, reasons.WAITING, "those ahead bring the same change", ahead)
    elif link.contained:
        message = "the target branch already contains the commit"
        draft.endings.append(Ending(job.uid, "Merged", reasons.MERGED_ELSEWHERE, message))
    else:
        message = "the target branch already has everything that the commit changes"
        draft.endings.append(Ending(job.uid, "Merged", reasons.NOTHING_TO_LAND, message))


def _meet_conflict(draft: Draft, job: Job, link: Conflict, tip: str) -> None:
    """With the head it counts; with a candidate ahead the job is held behind the one that it conflicts with."""
    if tip == draft.snapshot.head:
        draft.conflicted[job.uid] = link
        return
    for commit, name in [(draft.snapshot.head, ""), *((rung.link.commit, rung.job.name) for rung in draft.ladder)]:
        known = draft.snapshot.links.get((commit, job.uid))
        if known is None:
            draft.form.append((commit, job.uid))
            return
        if isinstance(known, Conflict):
            if not name:
                draft.conflicted[job.uid] = known
            else:
                draft.note(job, reasons.HELD, f"conflicts with {name}, which is ahead", (name,), conflict=known)
            return


def _settle_conflicts(draft: Draft) -> None:
    """A conflict is tried again on another head, as often as the job says and as long as one may come."""
    snapshot = draft.snapshot
    head_may_move = bool(draft.ladder or draft.form or draft.undecided or draft.red or draft.demote)
    for job in snapshot.jobs:
        conflict = draft.conflicted.get(job.uid)
        if conflict is None:
            continue
        met = {*job.conflict_heads, snapshot.head}
        message = conflict.note or f"conflicts with the target branch in {listed(conflict.files)}"
        spent = len(met) > job.max_conflict_retries
        if spent or conflict.note or not head_may_move:
            draft.endings.append(Ending(job.uid, FAILED, reasons.MERGE_CONFLICT, message, conflict.files))
        else:
            draft.note(job, reasons.MERGE_CONFLICT, f"{message}; tried again on the next head", conflict=conflict)


def _landable(draft: Draft) -> tuple[Rung, ...]:
    """The deepest rung that passed, with nothing suspect below it and each change below it cleared: its own candidate
    passed, or the one that it shares, or two that hold it did. One pass above isn't enough: a change that fails most of
    its runs would slip in by the luckiest of the candidates on top of it. Where every commit must be green, all rungs
    below have passed."""
    passes, cleared, every_commit = 0, [], draft.snapshot.every_commit
    passed = {rung.link.commit for rung in draft.ladder if rung.state == PASSED}
    for rung in reversed(draft.ladder):
        passes += rung.state == PASSED
        enough = passes >= CLEARING_PASSES or rung.tested.commit in passed
        cleared.append(rung.state == PASSED or (enough and rung.alone and not every_commit))
    depth = 0
    for number, (rung, clear) in enumerate(zip(draft.ladder, reversed(cleared), strict=True), 1):
        if rung.state == SUSPECT or not clear:
            break
        if rung.state == PASSED:
            depth = number
    return tuple(draft.ladder[:depth])


def _finish(draft: Draft, queue: list[Job], runaway: bool) -> Plan:
    snapshot = draft.snapshot
    free = max(snapshot.slots - snapshot.busy, 0)
    # several jobs may ask for the same run of the head: it takes one slot
    starts = list(dict.fromkeys(start for _, _, start in sorted(draft.starts, key=lambda one: one[:2])))
    active = [(key, run) for key, runs in snapshot.runs.items() for run in runs if not run.verdict]
    keep_all = bool(draft.form or draft.unmeasured)  # the ladder isn't known to its end yet
    keep_all |= snapshot.frozen or runaway
    cancel = [] if keep_all else sorted(run.name for key, run in active if key not in draft.wanted)
    passed_ever = {key for (key, _), runs in snapshot.runs.items() if any(run.verdict == PASSED for run in runs)}
    waiting = (reasons.WAITING, "waits for its turn")
    if snapshot.frozen or runaway:
        waiting = (reasons.FROZEN, "the lane is frozen: its condition Frozen says why")
    gone = {ending.uid for ending in draft.endings}
    places = []
    for position, job in enumerate((job for job in queue if job.uid not in gone), 1):
        note = draft.notes.get(job.uid)
        if note is None:
            note = Place(job.uid, position, *waiting)
        places.append(replace(note, position=position, touches=bool(job.touches)))
    return Plan(
        ladder=tuple(draft.ladder),
        form=tuple(draft.form),
        land=_landable(draft),
        start=() if keep_all else (*starts[:free], *startable(draft)),
        cancel=tuple(cancel),
        endings=tuple(draft.endings),
        demote=tuple(draft.demote),
        places=tuple(places),
        red=tuple(sorted(gate.name for gate in draft.red.values())),
        never_passed=tuple(sorted(gate.name for key, gate in draft.red.items() if key not in passed_ever)),
        runaway=runaway,
        again_after=min(draft.again, default=None),
    )
