"""What the planner is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PASSED = "Passed"
FAILED = "Failed"
INFRA = "Infra"


@dataclass(frozen=True, slots=True)
class Formed:
    """A candidate on `base`; `strategy` is the one that was used, `note` says why it isn't the one asked for."""

    commit: str
    tree: str
    base: str
    strategy: str
    note: str = ""
    protected: tuple[str, ...] = ()  # protected paths in which it differs from its base


@dataclass(frozen=True, slots=True)
class Conflict:
    """The change doesn't merge with the base; `files` are the paths, as text."""

    base: str
    files: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The base already holds all that the change brings. `contained`: the source itself is in the base's history."""

    base: str
    contained: bool = False


Outcome = Formed | Conflict | Nothing


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as the planner sees it: `key` stands for its whole definition."""

    name: str
    key: str
    tree_only: bool = False
    counts: bool = False  # its runs say how many tests ran
    final: bool = False  # a decision of somebody's: one failure decides, and the head is not asked about

    def subject(self, commit: str, tree: str) -> str:
        """What its evidence is about."""
        return tree if self.tree_only else commit


@dataclass(frozen=True, slots=True)
class Count:
    """How many tests ran, and how many were skipped instead."""

    ran: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Short:
    """A gate passed, but ran fewer tests than on the base, or skipped more."""

    key: str  # of the gate
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a gate. An empty verdict: it has none yet. `ended` in seconds since 1970."""

    name: str
    number: int
    verdict: str = ""
    ended: float = 0.0
    tests: Count | None = None
    silent: bool = False  # a review that ended without a verdict


@dataclass(frozen=True, slots=True)
class Job:
    """A MergeJob that has not ended."""

    uid: str
    name: str
    source: str
    gates: tuple[Gate, ...]  # of the lane and of the job, one for each key, without reviews
    priority: int = 5
    queued: float = 0.0  # seconds since 1970; moved when the job goes to the end of the queue
    conflict_heads: tuple[str, ...] = ()
    max_conflict_retries: int = 2
    demotions: int = 0  # how often Infra sent it to the end of the queue
    fixer: bool = False
    fewer_tests: bool = False  # a person allows it to bring fewer tests, or to skip more
    waits_on: tuple[str, ...] = ()  # UIDs of unlanded jobs whose source this one's contains
    broken_on: str = ""  # name of such a job that ended without landing
    touches: tuple[str, ...] = ()  # protected paths that its own change touches
    unapproved: tuple[str, ...] = ()  # of these: what no person's scope names and nobody has approved
    approved: bool = False  # a person approved its commit
    denied: str = ""  # a person's words, where one denied it
    bypass: str = ""  # a person's words, where one ordered to land it without gates; then it has none
    reviews: tuple[Gate, ...] = ()  # what must approve of its change before it has a candidate
    patch: str | None = None  # stands for its change, wherever it is based; empty where none can, None while unknown


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A lane at one moment. `links` holds what forming (parent commit, job UID) gave, as far as it was tried; `runs`
    the evidence by (gate key, commit, tree or patch), in order of number."""

    head: str
    head_tree: str
    jobs: tuple[Job, ...]
    links: Mapping[tuple[str, str], Outcome]
    runs: Mapping[tuple[str, str], tuple[Run, ...]]
    now: float
    slots: int = 4  # gate Pods that may exist
    busy: int = 0  # gate Pods that exist or are about to
    window: int = 1
    every_commit: bool = False  # greenness Commit
    frozen: bool = False
    infra_limit: int = 3
    base_retry_seconds: float = 60.0
    fruitless: int = 0  # candidates tried since the last landing or ending
    fruitless_limit: int = 50
    review_slots: int = 4  # reviews under way at once


@dataclass(frozen=True, slots=True)
class Rung:
    """One candidate of the ladder: the job that it adds, and all that its commit must pass."""

    job: Job
    base: str
    link: Formed
    gates: tuple[Gate, ...]
    state: str  # evidence.PASSED, RUNNING or SUSPECT
    alone: bool = True  # what no candidate on top of it can prove for it has passed: counts of tests, final gates
    proof: Formed | None = None  # the candidate above whose gates it shares, where slots are scarce

    @property
    def tested(self) -> Formed:
        """The candidate that the gates run on."""
        return self.link if self.proof is None else self.proof


@dataclass(frozen=True, slots=True)
class Start:
    """A gate run to create."""

    gate: Gate
    commit: str
    tree: str
    base: str
    number: int
    job: str = ""  # UID of the job that the candidate adds; none for the head
    patch: str = ""  # of a review: the change, which `commit` holds


@dataclass(frozen=True, slots=True)
class Ending:
    """A job leaves the queue: `outcome` is Merged (nothing was left to land) or Failed."""

    uid: str
    outcome: str
    reason: str
    message: str
    files: tuple[str, ...] = ()
    short: tuple[Short, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an unlanded job stands and why."""

    uid: str
    position: int
    reason: str
    message: str = ""
    waiting_on: tuple[str, ...] = ()  # names
    base: str = ""
    commit: str = ""
    tree: str = ""
    conflict: Conflict | None = None
    protected: tuple[str, ...] = ()  # paths that wait for a person's answer
    touches: bool = False  # protected paths, answered or not
    short: tuple[Short, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What should happen next. Landing comes first, then endings; both make a new snapshot."""

    ladder: tuple[Rung, ...] = ()
    form: tuple[tuple[str, str], ...] = ()  # (parent commit, job UID)
    land: tuple[Rung, ...] = ()
    start: tuple[Start, ...] = ()
    cancel: tuple[str, ...] = ()  # names of runs
    endings: tuple[Ending, ...] = ()
    demote: tuple[str, ...] = ()  # UIDs
    places: tuple[Place, ...] = ()
    red: tuple[str, ...] = ()  # names of gates that the head fails
    never_passed: tuple[str, ...] = ()  # those of them that nothing has ever passed
    runaway: bool = False
    again_after: float | None = field(default=None)  # seconds
