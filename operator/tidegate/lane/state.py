"""What a leader knows of one lane's remote, and the git work on it. Everything here blocks: it is called in threads.

It is a cache for one term of leadership: dropped and built anew whenever the ledger turns out not to be ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tidegate.api import reasons
from tidegate.clients.git import GitError
from tidegate.clients.git_objects import Objects
from tidegate.clients.signing import SigningKey
from tidegate.errors import PermanentError
from tidegate.lane.candidate import Change, form
from tidegate.lane.decide.model import Outcome, Plan, Snapshot
from tidegate.lane.decide.plan import plan
from tidegate.lane.decide.protect import Protection
from tidegate.lane.guard import Guard
from tidegate.lane.landing import LaneRefs, LostRaceError, publish, remove
from tidegate.lane.ledger import Ledger
from tidegate.lane.mirror import Mirror, RemoteError
from tidegate.lane.patches import MAX_RANGE, Patches
from tidegate.telemetry import metrics

MAX_FORMS = 400  # candidates formed in one round
MAX_LINKS = 20_000  # what is known of pairs of a commit and a job; beyond that only pairs with the head are kept


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job as the remote sees it."""

    uid: str
    source_ref: str
    change: Change


@dataclass
class LaneState:
    """One lane at its remote."""

    term: int
    mirror: Mirror
    refs: LaneRefs
    ledger: Ledger | None = None
    head: str = ""
    head_tree: str = ""
    fetched: float = -1e9  # monotonic
    rewound: bool = False
    guard: Guard = field(default_factory=Guard)
    reviews: Patches = field(default_factory=Patches)
    signer: SigningKey | None = None
    links: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)  # job UID to commit
    published: set[str] = field(default_factory=set)  # candidates with a ref
    ranges: dict[str, frozenset[str]] = field(default_factory=dict)  # job UID to the commits that its source brings
    tried: set[str] = field(default_factory=set)  # candidates gated since the last landing or ending, in this term
    tried_before: int = 0  # how many the terms before this one had gated since then
    window: int = 1  # candidates gated at once now
    reforms: int = 0  # in a row, because others moved the branch
    _changes: Mapping[str, Change] = field(default_factory=dict)  # that `links` were formed of, by job UID
    _compared: tuple[str, str] = ("", "")  # head and baseline for which `rewound` was found out
    declined: tuple[str, int, float] | None = None  # the remote's text, lane generation, monotonic time

    @property
    def fruitless(self) -> int:
        """Candidates gated since the last landing or ending, by whomever."""
        return self.tried_before + len(self.tried)

    def bore_fruit(self) -> None:
        """Something landed, or ended by its own fault: the count begins anew."""
        self.tried.clear()
        self.tried_before = 0

    def drop(self) -> None:
        """Forget what hangs on the ledger: the lane must be taken again."""
        self.ledger = None
        self.fetched = -1e9

    def widen(self, most: int) -> None:
        """After a landing: one more candidate at once."""
        self.window = min(self.window + 1, most)

    def narrow(self, most: int) -> None:
        """After a change failed its gates: half as many, so that less work is thrown away in bad times."""
        self.window = max(self.window // 2, min(2, most))

    def refresh(self) -> None:
        """Fetch, and look where branch and ledger stand. Raises LostRaceError when the ledger isn't ours any more,
        PermanentError(TargetMissing), RemoteError."""
        self.mirror.fetch(self.refs.fetched)
        found = self.mirror.refs(self.refs.head, self.refs.ledger.rpartition("/")[0] + "/")
        head = found.get(self.refs.head, "")
        if not head:
            message = f"the repository has no branch {self.refs.branch}: push a first commit to it"
            raise PermanentError(reasons.TARGET_MISSING, message)
        if self.ledger is not None and found.get(self.refs.ledger, "") != self.ledger.value:
            self.drop()
            raise LostRaceError("the ledger was moved by another holder")
        sources, candidates = self.refs.source(""), self.refs.candidate("")
        self.pinned = {ref.removeprefix(sources): oid for ref, oid in found.items() if ref.startswith(sources)}
        self.published = {ref.removeprefix(candidates) for ref in found if ref.startswith(candidates)}
        self.fetched = time.monotonic()
        self._see_head(head)

    def _see_head(self, head: str) -> None:
        if head != self.head:
            # where the ledger isn't known, the head may be our own landing
            if self.head and self.fruitless and self.ledger is not None and head != self.ledger.baseline:
                self.reforms += 1
                metrics.RESETS.labels("TargetMoved").inc()
            self.moved(head)
        baseline = self.ledger.baseline if self.ledger is not None else ""
        if self._compared != (head, baseline):
            self.rewound = bool(baseline) and not (self.mirror.has(baseline) and self.mirror.contains(head, baseline))
            self._compared = (head, baseline)

    def moved(self, head: str) -> None:
        """The branch stands at another commit: links from commits that can't be its future are of no use."""
        self.head = head
        with self.mirror.work() as git:
            self.head_tree = git.text("rev-parse", f"{head}^{{tree}}")
        reachable = {head}
        while more := {out.commit for (parent, _), out in self.links.items() if parent in reachable
                       and hasattr(out, "commit")} - reachable:  # fmt: skip
            reachable |= more
        self.links = {key: out for key, out in self.links.items() if key[0] in reachable}

    def admit(self, jobs: Iterable[Wanted]) -> tuple[set[str], set[str]]:
        """Bring new sources here and pin them at the remote. Returns the UIDs of those that are nowhere, and of those
        that could not be fetched now; neither keeps the others back."""
        new = [job for job in jobs if self.pinned.get(job.uid) != job.change.source]
        if not new:
            return set(), set()
        try:
            there = self.mirror.git.ls_remote(*{job.source_ref for job in new})
        except GitError as error:
            raise RemoteError(f"reading refs of the repository failed: {error}") from error
        unreachable = self._fetch_each(sorted({job.source_ref for job in new} & there.keys()))
        missing, later = set(), set()
        for job in new:
            if self.mirror.has(job.change.source):
                continue
            if job.source_ref in unreachable:
                later.add(job.uid)
            elif not self._fetch_by_name(job.change.source):
                missing.add(job.uid)
        here = {job.uid: job.change.source for job in new if job.uid not in missing | later}
        if here:
            publish(self.mirror, {self.refs.source(uid): commit for uid, commit in here.items()})
            self.pinned.update(here)
        return missing, later

    def _fetch_each(self, refs: list[str]) -> set[str]:
        """Fetch refs together, or one by one where that fails; returns those that can't be had."""
        if not refs:
            return set()
        try:
            self.mirror.fetch(*(f"+{ref}:refs/sources/{n}" for n, ref in enumerate(refs)), prune=False)
        except RemoteError:
            if len(refs) == 1:
                return set(refs)
            return {ref for ref in refs if self._fetch_each([ref])}
        return set()

    def _fetch_by_name(self, commit: str) -> bool:
        """Some remotes give any commit that is asked for by name."""
        try:
            self.mirror.fetch(f"+{commit}:refs/sources/named", prune=False)
        except RemoteError:
            return False
        return self.mirror.has(commit)

    def measure(self, jobs: Iterable[Wanted]) -> None:
        """Know which commits each source brings, to find sources inside of sources, and which protected paths."""
        for job in jobs:
            if job.uid not in self.ranges:
                with self.mirror.work() as git:
                    out = git.text("rev-list", f"--max-count={MAX_RANGE}", job.change.source, f"^{self.head}")
                self.ranges[job.uid] = frozenset(out.split())
            if job.uid not in self.guard.touched:
                with self.mirror.work() as git, Objects(git) as objects:
                    self.guard.measure(objects, job.uid, self.head, job.change.source)

    def measure_changes(self, sources: Mapping[str, str]) -> None:
        """Know what stands for the changes that are to be reviewed, by job UID."""
        if sources:
            with self.mirror.work() as git:
                self.reviews.measure(git, self.head, sources, self.ranges)

    def protect(self, protection: Protection) -> None:
        """Obey the lane's protected paths; what was measured by others is of no use."""
        if protection != self.guard.protection:
            self.guard = Guard(protection)
            self.links = {}

    def plan(self, snapshot: Snapshot, changes: Mapping[str, Change]) -> Plan:
        """Plan, form what the plan needs to know, plan again, until nothing is missing."""
        changes = {uid: replace(change, signer=self.signer) for uid, change in changes.items()}
        if self._changes != changes:  # what a job's candidates are to say may change: a bypass, another key
            stale = {uid for uid in {*changes, *self._changes} if self._changes.get(uid) != changes.get(uid)}
            self.links = {key: out for key, out in self.links.items() if key[1] not in stale}
            self._changes = changes
        if len(self.links) > MAX_LINKS:
            self.links = {key: out for key, out in self.links.items() if key[0] == self.head}
        with self.mirror.work() as git, Objects(git) as objects:
            for _ in range(MAX_FORMS):
                made = plan(replace(snapshot, links=self.links))
                if not made.form:
                    return made
                for parent, uid in made.form:
                    started = time.perf_counter()
                    self.links[parent, uid] = self.guard.checked(objects, form(objects, parent, changes[uid]))
                    metrics.CANDIDATE_SECONDS.observe(time.perf_counter() - started)
        return plan(replace(snapshot, links=self.links))

    def publish_candidates(self, commits: Iterable[str]) -> None:
        """Have candidates where the gates' Pods can fetch them."""
        new = set(commits) - self.published
        if new:
            publish(self.mirror, {self.refs.candidate(commit): commit for commit in sorted(new)})
            self.published |= new

    def changed_paths(self, base: str, commit: str) -> int:
        """In how many paths two commits differ."""
        with self.mirror.work() as git:
            words = ("diff-tree", "-r", "-z", "--no-renames", "--name-only", base, commit)
            return git.run(*words).out.count(b"\0")

    def tidy(self, jobs: set[str], commits: set[str], *, at_least: int) -> None:
        """Delete refs of the lane that nothing needs any more, once there are enough of them."""
        old_pins, old_candidates = self.pinned.keys() - jobs, self.published - commits
        if len(old_pins) + len(old_candidates) < max(at_least, 1):
            return
        remove(
            self.mirror, [*map(self.refs.source, sorted(old_pins)), *map(self.refs.candidate, sorted(old_candidates))]
        )
        self.pinned = {uid: oid for uid, oid in self.pinned.items() if uid in jobs}
        self.published &= commits
        self.ranges = {uid: found for uid, found in self.ranges.items() if uid in jobs}
        self.guard.forget(jobs)
        self.reviews.forget(jobs)
