"""The invariants of a lane, told from git, job objects and gate verdicts alone; nothing of the lane's code is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.property.lane.content import MergeClash, Store
from tests.property.lane.remote import Remote

Json = dict[str, Any]
ENDED = ("Merged", "Failed", "Cancelled")


class Violation(AssertionError):  # noqa: N818 - the thing found, not a failure of the program
    """An invariant doesn't hold."""


@dataclass(frozen=True)
class Verdict:
    """A gate run that ended."""

    gate: str
    tree_only: bool
    commit: str
    tree: str
    base: str
    verdict: str


@dataclass(frozen=True)
class Record:
    """A landing as the ledger tells it."""

    holder: str
    taken_by: str
    rows: tuple[tuple[str, str, str, str], ...]  # job, source, base, candidate


@dataclass
class Checker:
    """Looks at everything after each step, and at each status when it is written."""

    remote: Remote
    store: Store
    gates: tuple[str, ...]
    external: set[tuple[str, str]] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)
    off: set[str] = field(default_factory=set)  # jobs cancelled while they had no intent
    jobs: dict[str, Json] = field(default_factory=dict)  # by UID, newest
    seen: Counter[str] = field(default_factory=Counter)
    _moves: int = 0
    _records: int = 0

    # --- what git says

    def head(self) -> str:
        """The branch's value."""
        return self.remote.values()[-1][1]

    def heads(self) -> list[str]:
        """Every value that the branch ever had."""
        return [new for _, new in self.remote.values()]

    def records(self) -> list[Record]:
        """The ledger, read anew."""
        refs = [value for ref, value in self.remote.repo.refs("refs/tidegate/").items() if ref.endswith("/ledger")]
        if not refs:
            return []
        chain, at = list[str](), refs[0]
        while at:
            chain.append(self.store.commit_object(at).message.decode())
            at = next(iter(self.store.parents(at)), "")
        found, taken_by = list[Record](), ""
        for text in reversed(chain):
            kind, holder = text.split()[:2]
            rows = tuple(_row(line) for line in text.splitlines()[1:] if line.startswith("land "))
            if kind == "land":
                found.append(Record(holder, taken_by, rows))
            else:
                taken_by = holder
        return found

    # --- after each step

    def check(self) -> None:
        """Raise Violation for what is wrong with the repository now."""
        moves, records = self.remote.values(), self.records()
        ours = [move for move in moves if move not in self.external]
        told = [(record.rows[0][2], record.rows[-1][3]) for record in records]
        if ours != told:
            raise Violation(f"I8: the branch was moved as the ledger doesn't tell: {ours} and {told}")
        for old, new in moves[max(self._moves, 1) :]:
            if not self.store.contains(new, old):
                raise Violation(f"I2: {new} drops what {old} holds")
            if self.store.tree(new) == self.store.tree(old) and (old, new) not in self.external:
                raise Violation(f"I4: {new} lands nothing")
        for record in records[self._records :]:
            self._check_record(record)
        rows = [row for record in records for row in record.rows]
        for column, what in ((0, "job"), (1, "source")):
            twice = [value for value, times in Counter(row[column] for row in rows).items() if times > 1]
            if twice:
                raise Violation(f"I4: {what} landed twice: {twice}")
        self._moves, self._records = len(moves), len(records)

    def _check_record(self, record: Record) -> None:
        if record.holder != record.taken_by:
            raise Violation(f"I8: {record.holder} landed, {record.taken_by} holds the lane")
        self.seen["landed"] += len(record.rows)
        self.seen["landed a group"] += len(record.rows) > 1
        for job, source, base, candidate in record.rows:
            if job in self.off or self.jobs[job]["status"].get("state") in ("Failed", "Cancelled"):
                raise Violation(f"I5: {job} landed after it was cancelled or failed")
            try:
                expected = self.store.merged(base, source)
            except MergeClash as clash:
                raise Violation(f"I6: {candidate} merges {source} into {base}, which clash in {clash}") from None
            if self.store.files(candidate) != expected:
                raise Violation(f"I6: {candidate} isn't the merge of {source} into {base}")
        tip = record.rows[-1][3]
        for gate in self.gates:
            if not any(one.verdict == "Passed" for one in self._about(gate, tip)):
                raise Violation(f"I1: {tip} landed without {gate}")
        if self.red(tip):
            raise Violation(f"I1: {tip} landed and is broken")

    def _about(self, gate: str, commit: str) -> Iterator[Verdict]:
        tree = self.store.tree(commit)
        for one in self.verdicts:
            if one.gate == gate and (one.commit == commit or (one.tree_only and one.tree == tree)):
                yield one

    def red(self, commit: str) -> bool:
        """Whether the gates fail on a commit, flakes apart."""
        files = self.store.files(commit)
        return any(b"BAD" in content for _, content in files.values()) or {b"pair-a", b"pair-b"} <= files.keys()

    # --- when a job's status is written

    def on_job(self, old: Json, new: Json) -> None:
        """Raise Violation for a status that isn't true."""
        uid = new["metadata"]["uid"]
        self.jobs[uid] = new
        new.setdefault("status", {})
        before, state = (old.get("status") or {}).get("state"), new["status"].get("state")
        if before in ENDED and state != before:
            raise Violation(f"I5: {uid} went from {before} to {state}")
        cancelled = new["spec"]["desiredState"] == "Cancelled" and old.get("spec", {}).get("desiredState") == "Run"
        if cancelled and state not in ENDED:
            pending = bool(new["status"].get("landing"))
            self.seen["cancelled in the middle of landing" if pending else "cancelled in the queue"] += 1
            if not pending:
                self.off.add(uid)
        if state in ENDED and before != state:
            self.seen[state] += 1
            self._check_end(new)

    def _check_end(self, job: Json) -> None:
        uid, source, state = job["metadata"]["uid"], job["spec"]["sourceCommit"], job["status"]["state"]
        reason = next(c["reason"] for c in job["status"]["conditions"] if c["type"] == "Succeeded")
        rows = [row for record in self.records() for row in record.rows]
        landed = [row for row in rows if row[0] == uid or row[1] == source]
        if state != "Merged":
            if any(row[0] == uid for row in landed):
                raise Violation(f"I5: {uid} landed and became {state}")
            if state == "Failed":
                self._check_failed(uid, source, reason)
        elif reason in ("Landed", "LandedBeforeCancel"):
            if not landed or not self.store.contains(self.head(), landed[0][3]):
                raise Violation(f"I3: {uid} is Merged and not on the branch")
        elif reason == "MergedElsewhere":
            if not self.store.contains(self.head(), source):
                raise Violation(f"I3: {uid} is {reason} and not on the branch")
        elif reason != "NothingToLand" or not any(self._nothing(head, source) for head in self.heads()):
            raise Violation(f"I3: {uid} is {reason}, and something is left to land")

    def _nothing(self, head: str, source: str) -> bool:
        try:
            return self.store.merged(head, source) == self.store.files(head)
        except MergeClash:
            return False

    def _check_failed(self, uid: str, source: str, reason: str) -> None:
        heads = self.heads()
        if reason == "MergeConflict":
            for head in heads:
                try:
                    self.store.merged(head, source)
                except MergeClash:
                    return
            raise Violation(f"I5: {uid} failed for a conflict that it has with no head")
        if reason == "StackedOnUnmerged":
            return
        failed: dict[tuple[str, str], list[Verdict]] = {}
        for one in self.verdicts:
            if one.verdict == "Failed":
                failed.setdefault((one.gate, one.tree if one.tree_only else one.commit), []).append(one)
        proofs = [one for group in failed.values() if len(group) >= 2 for one in group]
        for one in proofs:
            if one.base in heads and not self.red(one.base):
                try:
                    if self.store.merged(one.base, source) == self.store.files(one.commit):
                        return
                except MergeClash:
                    continue
        raise Violation(f"I5: {uid} failed ({reason}) without proof against it")

    # --- when all is quiet

    def check_end(self) -> None:
        """Every job has ended, and its status is what the repository says (I12)."""
        self.check()
        landed = {row[0] for record in self.records() for row in record.rows}
        for uid, job in self.jobs.items():
            state = job["status"].get("state")
            if state not in ENDED or job["status"].get("landing"):
                raise Violation(f"I12: {uid} is still {state}: {job['status'].get('conditions')}")
            if uid in landed and state != "Merged":
                raise Violation(f"I12: {uid} landed and is {state}")


def _row(line: str) -> tuple[str, str, str, str]:
    _, job, source, base, candidate = line.split(" ")
    return job, source, base, candidate
