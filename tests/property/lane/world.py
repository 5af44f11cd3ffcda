"""The world of the protocol model: a repository, job objects, a network, and a checker that sees all of it.

A commit is a number with the set of its ancestors and the set of changes in its files, both as bits of an integer.
Each `Variant` but the first leaves one part of the protocol out.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from dataclasses import dataclass, field

QUEUED, LANDING, MERGED, CANCELLED, FAILED = "Queued", "Landing", "Merged", "Cancelled", "Failed"
LANDED, ELSEWHERE, NOTHING = "Landed", "MergedElsewhere", "NothingToLand"
DONE, REFUSED, UNKNOWN, DROPPED = "done", "refused", "unknown", "dropped"
PASSED, GATE_FAILED, INFRA = "Passed", "Failed", "Infra"
KEEPS_SOURCE, NEW_COMMIT, FAST_FORWARD = "MergeCommit", "Squash", "FastForward"


class Variant(enum.Enum):
    """The protocol, and the protocol with one mistake."""

    FULL = "the protocol as it is"
    NO_CAS = "the target is pushed without a lease"
    NO_RESOURCE_VERSION = "job status is written without a resourceVersion"
    NO_INTENT = "nothing is written before the push"
    EVIDENCE_PER_JOB = "a gate that passed for a job counts for each of its candidates"
    ACK_BEFORE_PUSH = "Merged is written before the push"
    RE_MERGE = "a moved target is merged with again at landing, without gates"
    NO_LEDGER = "no ledger: neither taken nor pushed"
    LEDGER_NOT_MOVED = "the ledger is verified by a landing, not moved"
    SAME_OBJECT = "a ledger entry has no nonce: two leaders may write the same object"
    SETTLE_ANY = "an intent is settled without asking whether its ledger value lies behind us"
    RE_READ = "after an unknown push the ledger is read, not moved"
    CONTAINMENT = "what landed is told by the source's being in the target's history"


class Violation(AssertionError):  # noqa: N818 - the thing found, not a failure of the program
    """An invariant doesn't hold."""


@dataclass(slots=True)
class Job:
    """A MergeJob as the API server has it."""

    uid: int
    source: int
    change: int  # its bit
    strategy: str
    phase: str = QUEUED
    version: int = 1
    cancel: bool = False
    off: bool = False  # cancelled while no intent was written: must never land
    intent: tuple[int, int, int] = (0, 0, 0)  # candidate, base, ledger
    reason: str = ""


@dataclass(slots=True)
class Push:
    """What a git client sent. It may arrive when the client is long gone."""

    ledger: tuple[int, int] | None
    target: tuple[int, int] | None = None
    jobs: tuple[Job, ...] = ()
    base: int = 0
    generation: int = 0
    forced: bool = False
    state: str = ""


@dataclass(slots=True)
class Held:
    """A lane in a leader's hand: the ledger's value, and what the chain up to there says."""

    value: int
    generation: int
    chain: frozenset[int]
    landed: frozenset[int]
    sources: frozenset[int]
    group: int = 2


Group = list[tuple[Job, int]]  # with the version that each job was read at


@dataclass(slots=True)
class Entry:
    """A ledger commit with what its history says."""

    chain: frozenset[int]
    landed: frozenset[int] = frozenset()
    sources: frozenset[int] = frozenset()


@dataclass
class World:
    """Repository, API server, gates, network, and the checker that sees all of it."""

    rng: random.Random
    variant: Variant
    ancestors: list[int] = field(default_factory=list)
    content: list[int] = field(default_factory=list)
    candidates: dict[tuple[int, int, str], int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=lambda: [Entry(frozenset({0}))])
    written: dict[object, int] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)  # sets of changes that fail together
    evidence: dict[object, list[str]] = field(default_factory=dict)
    flying: list[Push] = field(default_factory=list)
    target: int = 0
    ledger: int = 0
    lease: int = 0
    generation: int = 0
    was_target: int = 0  # every value so far
    landed_jobs: dict[int, int] = field(default_factory=dict)  # uid to candidate
    landed_sources: set[int] = field(default_factory=set)
    flake: float = 0.15
    calm: bool = False  # no more accidents
    blind: bool = False  # the checker doesn't look at who lands (I8), only at the harm done
    seen: Counter[str] = field(default_factory=Counter)  # what happened, for a test that enough did

    # --- the repository

    def commit(self, ancestors: int, content: int) -> int:
        """A new commit; its own bit is added to its ancestors."""
        number = len(self.content)
        self.ancestors.append(ancestors | 1 << number)
        self.content.append(content)
        return number

    def contains(self, descendant: int, ancestor: int) -> bool:
        """Whether one commit is in the history of another."""
        return bool(self.ancestors[descendant] >> ancestor & 1)

    def red(self, commit: int) -> bool:
        """Whether the gates fail on a commit, flakes apart."""
        content = self.content[commit]
        return any(content & group == group for group in self.bad)

    def form(self, base: int, job: Job) -> int | str:
        """The candidate of a job on a base: the same one each time."""
        if self.contains(base, job.source):
            return ELSEWHERE
        if self.content[base] & job.change:
            return NOTHING
        if job.strategy == FAST_FORWARD and self.contains(job.source, base):
            return job.source
        key = (base, job.source, job.strategy)
        if key not in self.candidates:
            ancestors = self.ancestors[base] | (self.ancestors[job.source] if job.strategy != NEW_COMMIT else 0)
            self.candidates[key] = self.commit(ancestors, self.content[base] | job.change)
        return self.candidates[key]

    def entry(self, parent: int, jobs: tuple[Job, ...] = ()) -> int:
        """A new ledger commit on `parent`. Without a nonce, the same words make the same commit."""
        before, uids = self.entries[parent], tuple(job.uid for job in jobs)
        if self.variant is Variant.SAME_OBJECT and (parent, uids) in self.written:
            return self.written[parent, uids]
        number = len(self.entries)
        sources = before.sources.union(job.source for job in jobs)
        self.entries.append(Entry(before.chain | {number}, before.landed.union(uids), sources))
        self.written[parent, uids] = number
        return number

    def deliver(self, push: Push) -> None:
        """A push arrives: all of it or nothing."""
        if push.state:
            return
        if push.ledger is not None and push.target is None and push.ledger[1] == self.ledger:
            push.state = DONE  # up to date, says git
            return
        if push.ledger is not None and push.ledger[0] != self.ledger:
            push.state = REFUSED
            self.seen["older holder refused"] += push.target is not None
            return
        if push.target is not None:
            if push.target[0] != self.target and not push.forced:
                push.state = REFUSED
                self.seen["moved target refused"] += 1
                return
            self._land(push, push.target[1])
        elif push.ledger is not None:
            self.generation += 1
            push.generation = self.generation
        if push.ledger is not None:
            self.ledger = push.ledger[1]
        push.state = DONE

    def external(self, content: int, source: int | None = None) -> None:
        """Somebody else moves the target forward."""
        old = self.target
        ancestors = self.ancestors[old] | (self.ancestors[source] if source is not None else 0)
        self.target = self.commit(ancestors, content)
        self.was_target |= 1 << self.target

    # --- the API server

    def patch(self, job: Job, version: int, phase: str, *, intent: tuple[int, int, int] = (0, 0, 0),
              reason: str = "") -> int:  # fmt: skip
        """Write a job's status; the new version, 0 when the job has changed since `version`."""
        if job.version != version and self.variant is not Variant.NO_RESOURCE_VERSION:
            self.seen[f"refused to write {phase}"] += 1
            return 0
        if job.phase in (MERGED, CANCELLED, FAILED) and phase != job.phase:
            raise Violation(f"I5: job {job.uid} went from {job.phase} to {phase}")
        job.phase, job.intent, job.reason, job.version = phase, intent, reason, job.version + 1
        self.seen[reason or phase] += 1
        self._check_status(job)
        return job.version

    def cancel(self, job: Job) -> None:
        """A person takes a job back. Before an intent that holds; after it the ledger decides."""
        if job.phase in (QUEUED, LANDING) and not job.cancel:
            job.cancel, job.version = True, job.version + 1
            job.off = job.phase == QUEUED
            self.seen[f"cancelled while {job.phase}"] += 1

    # --- the checker

    def _land(self, push: Push, new: int) -> None:
        old = self.target
        if self.ancestors[old] & ~self.ancestors[new]:
            raise Violation("I2: commits of the target were dropped")
        if PASSED not in self.evidence.get(new, ()) or self.red(new) or push.base != old:
            raise Violation("I1: a head without evidence of its own")
        if self.content[new] == self.content[old]:
            raise Violation("I4: an empty landing")
        if push.generation != self.generation and not self.blind:
            raise Violation("I8: an older holder landed")
        for job in push.jobs:
            if job.uid in self.landed_jobs or job.source in self.landed_sources:
                raise Violation(f"I4: job {job.uid} landed twice")
            if job.phase in (CANCELLED, FAILED) or job.off:
                raise Violation(f"I5: job {job.uid} landed, {job.phase}, cancelled: {job.cancel}")
            self.landed_jobs[job.uid] = new
            self.landed_sources.add(job.source)
        self.target = new
        self.was_target |= 1 << new
        self.seen["landed a group"] += len(push.jobs) > 1

    def _check_status(self, job: Job) -> None:
        if job.phase == MERGED:
            if job.reason == LANDED:
                there = job.uid in self.landed_jobs and self.contains(self.target, self.landed_jobs[job.uid])
                there = there or (job.source in self.landed_sources and job.uid not in self.landed_jobs)
            else:
                there = job.reason == NOTHING or self.contains(self.target, job.source)
            if not there:
                raise Violation(f"I3: job {job.uid} is {job.reason} and not on the target")
        elif job.phase in (CANCELLED, FAILED) and job.uid in self.landed_jobs:
            raise Violation(f"I5: job {job.uid} landed and became {job.phase}")
        elif job.phase == FAILED:
            candidate, base, _ = job.intent
            tried = self.evidence.get(candidate, []).count(GATE_FAILED)
            if tried < 2 or not self.was_target >> base & 1 or self.red(base):
                raise Violation(f"I5: job {job.uid} failed without proof against it")

    def check_end(self) -> None:
        """After recovery in peace: every job has ended, and its status is what the target says (I12)."""
        for job in self.jobs:
            landed = job.uid in self.landed_jobs
            if job.phase == LANDING or (job.phase == QUEUED and not self.red(self.target)):
                raise Violation(f"I12: job {job.uid} is still {job.phase}")
            if landed and (job.phase != MERGED or job.reason != LANDED):
                raise Violation(f"I12: job {job.uid} landed and is {job.phase} {job.reason}")
