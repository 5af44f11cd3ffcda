"""The only code that moves a target branch: taking a lane, landing, and finding out what became of a push.

The Lease doesn't fence; the ledger does. Every landing moves it from the value that this holder last saw, in the same
atomic push as the branch, so that a push of an older holder can't land once a newer one has moved it.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass

from tidegate import names
from tidegate.api import reasons
from tidegate.clients.git import Git, GitError, GitTimeoutError
from tidegate.clients.git_objects import EMPTY_TREE, Objects
from tidegate.errors import PermanentError, TransientError
from tidegate.lane.candidate import COMMITTER
from tidegate.lane.ledger import ACCEPT, ACQUIRE, LAND, Entry, Landing, Ledger, parse_entry
from tidegate.lane.messages import clean_text
from tidegate.lane.mirror import HEADS, Mirror, RemoteError
from tidegate.telemetry import metrics

PUSH_TIMEOUT = 120.0
NOTES = "refs/notes/tidegate"
# A ref that moved between being looked at and being locked, in git's words at different steps of a push.
_OVERTAKEN = re.compile(r"stale info|reference already exists|but expected|File exists")
_MOVED = ("ok", "new", "forced")
_FLAGS = {" ": "ok", "+": "forced", "*": "new", "=": "same", "!": "refused", "-": "deleted"}


class LostRaceError(TransientError):
    """Another holder moved the ledger first: drop what is known of the lane and look again."""


@dataclass(frozen=True, slots=True)
class LaneRefs:
    """The refs of one lane at its remote."""

    lane_id: str
    branch: str
    prefix: str = names.REF_PREFIX

    @property
    def target(self) -> str:
        """The target branch, at the remote."""
        return f"refs/heads/{self.branch}"

    @property
    def head(self) -> str:
        """The target branch, in the mirror."""
        return f"{HEADS}{self.branch}"

    @property
    def ledger(self) -> str:
        """The ledger, here and there."""
        return names.lane_ref(self.lane_id, "ledger", prefix=self.prefix)

    @property
    def notes(self) -> str:
        """Notes on what landed: where git's own tools look for them, or below the prefix where that is no plain one."""
        return NOTES if self.prefix == names.REF_PREFIX else f"{self.prefix}/notes"

    def candidate(self, commit: str) -> str:
        """Where a candidate stands for the gates' Pods."""
        return names.lane_ref(self.lane_id, "candidates", commit, prefix=self.prefix)

    def source(self, job: str) -> str:
        """Where a queued source is pinned."""
        return names.lane_ref(self.lane_id, "sources", job, prefix=self.prefix)

    def probe(self, *path: str) -> str:
        """A ref to try the remote with."""
        return names.lane_ref(self.lane_id, "probe", *path, prefix=self.prefix)

    @property
    def fetched(self) -> str:
        """The refspec for all of the lane's refs."""
        everything = names.lane_ref(self.lane_id, "*", prefix=self.prefix)
        return f"+{everything}:{everything}"


@dataclass(frozen=True, slots=True)
class Landed:
    """The push landed: the ledger's value after it."""

    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Moved:
    """The push was refused cleanly, since the target or the ledger has moved. Form again."""

    head: str
    ledger_ours: bool


@dataclass(frozen=True, slots=True)
class Declined:
    """The remote refuses the push for reasons of its own; `text` is what it says, shortened."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say yet whether it landed. Take the lane again before reading anything."""

    text: str


LandResult = Landed | Moved | Declined | Unknown


@dataclass(frozen=True, slots=True)
class PushReport:
    """What `git push --porcelain` said: the exit code, and for each ref what happened and why."""

    code: int
    refs: dict[str, tuple[str, str]]
    text: str

    def moved(self, *wanted: str) -> bool:
        """Whether git ended well and every one of these refs has really moved."""
        return self.code == 0 and all(self.refs.get(ref, ("", ""))[0] in _MOVED for ref in wanted)

    def refused(self, *wanted: str) -> bool:
        """Whether git ended by itself and the remote or git refused every one of these refs, cleanly."""
        found = [self.refs.get(ref, ("", "")) for ref in wanted]
        return self.code == 1 and all(flag == "refused" and "[remote failure]" not in why for flag, why in found)


def push(git: Git, *arguments: str, timeout: float = PUSH_TIMEOUT) -> PushReport:
    """Push to the remote; never raises for what the remote says. A timeout reports the code of the signal."""
    try:
        command = ("push", "--porcelain", "--no-verify", "--no-follow-tags", *arguments)
        result = git.run(*command, ok=None, remote=True, timeout=timeout)
    except GitTimeoutError as error:
        return PushReport(error.code, {}, str(error))
    refs: dict[str, tuple[str, str]] = {}
    for line in result.text.splitlines():
        parts = line.split("\t")
        if len(parts) == 3 and len(parts[0]) == 1:
            refs[parts[1].partition(":")[2]] = (_FLAGS.get(parts[0], ""), parts[2])
    return PushReport(result.code, refs, _what_the_remote_said(result.err, refs))


def _what_the_remote_said(err: str, refs: dict[str, tuple[str, str]]) -> str:
    said = [line.removeprefix("remote:").strip() for line in err.splitlines() if line.startswith(("remote:", "fatal:"))]
    reasons_given = dict.fromkeys(why for flag, why in refs.values() if flag == "refused")
    return clean_text(" ".join(dict.fromkeys([*reasons_given, *said])))[:500]


def _write_entry(objects: Objects, ledger: Ledger, entry: Entry) -> Ledger:
    objects.write("tree", b"")
    parents = (ledger.value,) if ledger.value else ()
    written = objects.write_commit(EMPTY_TREE, parents, COMMITTER, COMMITTER, int(time.time()), entry.text())
    return ledger.moved(written, entry)


def _lease(ref: str, value: str) -> str:
    return f"--force-with-lease={ref}:{value}"


def read_ledger(mirror: Mirror, refs: LaneRefs) -> Ledger:
    """The ledger as the mirror has it."""
    with mirror.work() as git:
        found = git.text("for-each-ref", "--format=%(objectname)", refs.ledger)
        if not found:
            return Ledger("")
        out = git.text("log", "--first-parent", "--reverse", "--format=%H%n%B%x00", found)
    chain = []
    for record in out.split("\0"):
        oid, _, text = record.strip("\n").partition("\n")
        entry = parse_entry(text)
        if oid:
            chain.append((oid, entry or Entry(ACQUIRE, "unknown", oid)))
    return Ledger.of(tuple(chain))


def take(mirror: Mirror, refs: LaneRefs, holder: str, accept: str = "") -> Ledger:
    """Move the ledger in this holder's name, so that no push prepared before can land. Fetches first.

    With `accept`, record that the branch's present head is to be built on whatever landed before. Raises LostRaceError
    when somebody else moved it, RemoteError when the remote doesn't answer.
    """
    mirror.fetch(refs.fetched)
    ledger = read_ledger(mirror, refs)
    entry = Entry(ACCEPT if accept else ACQUIRE, holder, secrets.token_hex(16), head=accept)
    with mirror.work() as git, Objects(git) as objects:
        new = _write_entry(objects, ledger, entry)
        report = push(git, _lease(refs.ledger, ledger.value), "--", mirror.url, f"{new.value}:{refs.ledger}")
    if report.moved(refs.ledger):
        metrics.TAKES.labels("Taken").inc()
        return new
    if report.refused(refs.ledger) and not _OVERTAKEN.search(report.text):
        raise PermanentError(reasons.REFS_NOT_WRITABLE, f"the remote refuses to write {refs.ledger}: {report.text}")
    if report.refused(refs.ledger) or report.code == 0:
        metrics.TAKES.labels("Lost").inc()
        raise LostRaceError(f"{refs.ledger} was moved by another holder")
    raise RemoteError(f"taking the lane failed: {report.text or report.code}")


def land(mirror: Mirror, refs: LaneRefs, ledger: Ledger, holder: str, landings: tuple[Landing, ...]) -> LandResult:
    """Push the last landing's candidate to the target and the record to the ledger: both or none.

    The candidate must descend from the base, since a lease lets git overwrite.
    """
    base, candidate = landings[0].base, landings[-1].candidate
    with mirror.work() as git, Objects(git) as objects:
        if git.run("merge-base", "--is-ancestor", base, candidate, ok=(0, 1)).code != 0:
            raise AssertionError(f"candidate {candidate} doesn't descend from {base}")
        new = _write_entry(objects, ledger, Entry(LAND, holder, secrets.token_hex(16), landings))
        report = push(
            git, "--atomic", _lease(refs.target, base), _lease(refs.ledger, ledger.value), "--", mirror.url,
            f"{candidate}:{refs.target}", f"{new.value}:{refs.ledger}",
        )  # fmt: skip
    if report.moved(refs.target, refs.ledger):
        return Landed(new)
    if not report.refused(refs.target, refs.ledger):
        return Unknown(report.text or f"git ended with {report.code}")
    return _why_refused(mirror, refs, ledger, base, report)


def _why_refused(mirror: Mirror, refs: LaneRefs, ledger: Ledger, base: str, report: PushReport) -> LandResult:
    """Only a moved target or ledger means: form again. Anything else is the remote's own will."""
    now = mirror.git.ls_remote(refs.target, refs.ledger)
    if now.get(refs.ledger, "") != ledger.value or now.get(refs.target, "") != base:
        return Moved(now.get(refs.target, ""), now.get(refs.ledger, "") == ledger.value)
    if re.search(r"stale info|cannot lock ref|atomic transaction failed|failed to update ref", report.text):
        raise TransientError(f"the remote was busy: {report.text}")
    return Declined(report.text)


def publish(mirror: Mirror, wanted: dict[str, str], timeout: float = PUSH_TIMEOUT) -> None:
    """Have refs of the lane at the remote: ref to commit. Raises PermanentError(RefsNotWritable), RemoteError."""
    with mirror.work() as git:
        report = push(git, "--", mirror.url, *(f"+{oid}:{ref}" for ref, oid in wanted.items()), timeout=timeout)
    if report.code == 0:
        return
    if any(flag == "refused" for flag, _ in report.refs.values()):
        raise PermanentError(reasons.REFS_NOT_WRITABLE, f"the remote refuses refs of the lane: {report.text}")
    raise RemoteError(f"push to the repository failed: {report.text or report.code}")


def remove(mirror: Mirror, refs: list[str]) -> None:
    """Delete refs of the lane at the remote, as far as it lets us; what is gone already is no error."""
    for start in range(0, len(refs), 200):
        with mirror.work() as git:
            there = git.ls_remote(*refs[start : start + 200])
            if there:
                push(git, "--", mirror.url, *(f":{ref}" for ref in there))


def probe(mirror: Mirror, refs: LaneRefs, commit: str) -> None:
    """Find out before any work whether the remote takes the lane's refs and pushes all or nothing.

    Raises PermanentError(RefsNotWritable | RemoteNotAtomic), RemoteError.
    """
    nonce = secrets.token_hex(8)
    good, below, other = refs.probe(nonce, "x"), refs.probe(nonce, "x", "y"), refs.probe(nonce, "z")
    publish(mirror, {good: commit})
    try:
        with mirror.work() as git:
            report = push(git, "--atomic", "--", mirror.url, f"{commit}:{other}", f"{commit}:{below}")
        there = mirror.git.ls_remote(other, below)
        if there or report.code == 0 or "support --atomic" in report.text:
            raise PermanentError(
                reasons.REMOTE_NOT_ATOMIC,
                "the remote doesn't push several refs all or nothing (git push --atomic): a lane can't be fenced there",
            )
        if not report.refused(other, below):
            raise RemoteError(f"push to the repository failed: {report.text or report.code}")
    except GitError as error:
        raise RemoteError(str(error)) from error
    finally:
        remove(mirror, [good, other])
    if mirror.git.ls_remote(good):
        raise PermanentError(reasons.REFS_NOT_WRITABLE, f"the remote doesn't let refs below {refs.probe()} be deleted")
