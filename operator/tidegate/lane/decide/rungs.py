"""Rungs of the ladder: which job is next, which gates its candidate must pass, which of them run, and, where slots are
scarce, how many jobs share one candidate's gates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tidegate.api import reasons
from tidegate.lane.decide.draft import Draft
from tidegate.lane.decide.evidence import SUSPECT, Finding, Floor, floor_below, union, weigh, worst
from tidegate.lane.decide.head import is_red, red_until
from tidegate.lane.decide.model import FAILED, INFRA, PASSED, Formed, Gate, Job, Rung, Snapshot, Start

MOST_SHARING = {1: 4, 2: 4, 3: 2, 4: 2}  # jobs that share a candidate, by the candidates that the slots hold


def crowd(snapshot: Snapshot, queue: Sequence[Job], window: int) -> tuple[int, int]:
    """How many candidates may be gated at once, and how many jobs may share one: more than one where the slots hold
    fewer candidates than the window and only the head must be green. It falls with the window, thus in bad times."""
    needed = max((len(job.gates) for job in queue[:window]), default=1)
    at_once = max(-(-snapshot.slots // max(needed, 1)), 1)
    waiting = min(window, len(queue))
    if snapshot.every_commit or at_once >= waiting:
        return window, 1
    most = min(-(-waiting // at_once), MOST_SHARING.get(at_once, 1))
    return (at_once, most) if most > 1 else (window, 1)


def towards(snapshot: Snapshot) -> set[str]:
    """The commits on top of which a candidate stands that gates run on, or have passed."""
    spoken = {subject for (_, subject), runs in snapshot.runs.items() if not any(r.verdict == FAILED for r in runs)}
    below = {link.commit: link.base for link in snapshot.links.values() if isinstance(link, Formed)}
    found: set[str] = set()
    for link in snapshot.links.values():
        if isinstance(link, Formed) and (link.commit in spoken or link.tree in spoken):
            at = link.base
            while at in below and at not in found:
                found.add(at)
                at = below[at]
    return found


def pick(draft: Draft, tip: str, remaining: list[Job]) -> Job:
    """The next job for a tip: one that is being tested there already, so that newcomers throw no work away."""
    if draft.red or remaining[0].bypass:
        return remaining[0]
    formed = draft.formed.get(tip, ())
    for job in remaining if formed else ():
        link = draft.snapshot.links[tip, job.uid] if job.uid in formed else None
        if not isinstance(link, Formed):
            continue
        if link.commit in draft.towards:
            return job
        if _is_tested(draft, job, link):
            return job
    return remaining[0]


def is_under_way(draft: Draft, tip: str, job: Job) -> bool:
    """Whether gates run on the job's candidate, or on one that stands on it."""
    link = draft.snapshot.links.get((tip, job.uid))
    return isinstance(link, Formed) and (link.commit in draft.towards or _is_tested(draft, job, link))


def _is_tested(draft: Draft, job: Job, link: Formed) -> bool:
    gates = gates_with(draft, job)
    seen = any(draft.runs(gate, link.commit, link.tree) for gate in gates)
    return seen and worst(findings_of(draft, job, link, gates).values()) not in (FAILED, INFRA)


def gates_with(draft: Draft, job: Job) -> tuple[Gate, ...]:
    """What a candidate of the job on top of the ladder must pass."""
    return union(draft.ladder[-1].gates if draft.ladder else (), job.gates)


def findings_of(draft: Draft, job: Job, link: Formed, gates: tuple[Gate, ...]) -> dict[str, Finding]:
    """What each gate says of the candidate on top of the ladder."""
    limit = draft.snapshot.infra_limit * (1 + job.demotions)
    return {
        gate.key: weigh(
            draft.runs(gate, link.commit, link.tree), infra_limit=limit, void_before=red_until(draft, gate),
            floor=floor_for(draft, job, gate), final=gate.final,
        )
        for gate in gates
    }  # fmt: skip


def floor_for(draft: Draft, job: Job, gate: Gate) -> Floor:
    """What the next candidate's tests are compared with. A red head has no count."""
    if not gate.counts or job.fewer_tests:
        return Floor()
    head = draft.runs(gate, draft.snapshot.head, draft.snapshot.head_tree)
    return floor_below(gate, draft.ladder, draft.runs, head, red=is_red(draft, gate))


# -- one candidate for several jobs


def share_of(draft: Draft, tip: str, remaining: list[Job], most: int) -> int:
    """How many of the next jobs share one candidate's gates: none where they are known to fail together. To halve them
    would be a little faster, and let in more of what fails only most of its runs."""
    if most <= 1:
        return 1
    rest, gates, depth = list(remaining), gates_with(draft, remaining[0]), 0
    while rest and depth < most:
        job = pick(draft, tip, rest)
        rest.remove(job)
        link = draft.snapshot.links.get((tip, job.uid))
        if link is None:
            break  # formed first
        if not isinstance(link, Formed):
            continue
        together = union(gates, job.gates)
        state = worst(findings_of(draft, job, link, together).values())
        if depth and state in (FAILED, SUSPECT):
            return 1
        if state in (FAILED, INFRA):
            continue
        tip, gates, depth = link.commit, together, depth + 1
    return most


def add_rung(draft: Draft, rung: Rung, findings: dict[str, Finding]) -> None:
    """Put a candidate on the ladder. Its gates run now, or, where it is to share them, on one that is still to come;
    those that judge each change by itself run in any case."""
    draft.ladder.append(rung)
    draft.findings.append(findings)
    own = [gate for gate in rung.gates if _is_each_ones(gate)]
    seen = any(draft.runs(gate, rung.link.commit, rung.link.tree) for gate in rung.gates if gate not in own)
    if draft.batch + 1 < draft.share and rung.state != PASSED and not seen:
        draft.batch += 1
        _want(draft, own, rung.base)
    else:
        gate_top(draft)


def gate_top(draft: Draft) -> None:
    """Run all gates of the topmost rung, for itself and for those below that share them."""
    first = len(draft.ladder) - 1 - draft.batch
    top, base = draft.ladder[-1], draft.ladder[first].base
    ahead = tuple(one.job.name for one in draft.ladder[:first])
    for number in range(first, first + draft.batch):
        one = draft.ladder[number] = replace(draft.ladder[number], proof=top.link)
        words = f"gates run on the candidate of {top.job.name}, which holds its change"
        short = draft.notes[one.job.uid].short
        draft.note(one.job, reasons.GATING, words, ahead, one.link if short else top.link, short=short)
    draft.batch = 0
    _want(draft, top.gates, base)


def _is_each_ones(gate: Gate) -> bool:
    """Whether each job's own candidate must pass it: one that is shared, or stands on top, proves nothing."""
    return gate.final or gate.counts


def _want(draft: Draft, gates: Iterable[Gate], base: str) -> None:
    """Have gates run on the topmost rung. `base`: where the changes begin that the shared ones judge."""
    rung, findings = draft.ladder[-1], draft.findings[-1]
    link, now = rung.link, draft.snapshot.now
    for gate in gates:
        finding = findings[gate.key]
        if finding.state == PASSED:
            continue
        draft.wanted.add((gate.key, gate.subject(link.commit, link.tree)))
        if finding.start and finding.not_before > now:
            draft.again.append(finding.not_before - now)
        elif finding.start:
            since = rung.base if _is_each_ones(gate) else base
            start = Start(gate, link.commit, link.tree, since, finding.start, rung.job.uid)
            draft.starts.append((finding.state != SUSPECT, len(draft.ladder) - 1, start))
