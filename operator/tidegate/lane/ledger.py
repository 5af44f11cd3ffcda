"""The ledger: a chain of empty commits that records who took a lane and what landed.

Its values are compared for equality only. This module is the text and its meaning; `landing.py` moves the ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ACQUIRE = "acquire"
LAND = "land"
ACCEPT = "accept"  # a person accepts that the branch no longer holds what landed last


@dataclass(frozen=True, slots=True)
class Landing:
    """One job's part in a landing."""

    job: str  # UID of the MergeJob
    source: str
    base: str
    candidate: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of the chain."""

    kind: str
    holder: str
    nonce: str
    landings: tuple[Landing, ...] = ()
    head: str = ""  # of ACCEPT

    def text(self) -> str:
        """The commit message."""
        first = f"{self.kind} {self.holder} {self.nonce}" + (f" {self.head}" if self.head else "")
        lines = [f"{LAND} {one.job} {one.source} {one.base} {one.candidate}" for one in self.landings]
        return "\n".join([first, *(["", *lines] if lines else [])]) + "\n"


def parse_entry(text: str) -> Entry | None:
    """Read a commit message of the chain; None for one that isn't ours."""
    lines = text.strip().splitlines()
    words = lines[0].split(" ") if lines else []
    if len(words) not in (3, 4) or words[0] not in (ACQUIRE, LAND, ACCEPT):
        return None
    landings = []
    for line in lines[1:]:
        parts = line.split(" ")
        if len(parts) == 5 and parts[0] == LAND:
            landings.append(Landing(*parts[1:]))
    return Entry(words[0], words[1], words[2], tuple(landings), words[3] if len(words) == 4 else "")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The chain up to `value`, oldest first; an empty value stands for a ref that doesn't exist."""

    value: str
    chain: tuple[tuple[str, Entry], ...] = ()
    sources: Mapping[str, Landing] = field(default_factory=dict)

    @classmethod
    def of(cls, chain: tuple[tuple[str, Entry], ...]) -> Ledger:
        """The ledger whose newest commit is the chain's last."""
        sources = {one.source: one for _, entry in chain for one in entry.landings}
        return cls(chain[-1][0] if chain else "", chain, sources)

    def moved(self, value: str, entry: Entry) -> Ledger:
        """The ledger after one more commit."""
        sources = {**self.sources, **{one.source: one for one in entry.landings}} if entry.landings else self.sources
        return Ledger(value, (*self.chain, (value, entry)), sources)

    def landed(self, job: str) -> Landing | None:
        """The record that a job landed, None when there is none."""
        for _, entry in reversed(self.chain):
            for one in entry.landings:
                if one.job == job:
                    return one
        return None

    def holds(self, value: str) -> bool:
        """Whether a value is part of the chain."""
        return any(oid == value for oid, _ in self.chain)

    @property
    def baseline(self) -> str:
        """The commit that the target branch must contain: the newest landed candidate, or the head that a person
        accepted after it. Empty before the first landing."""
        for _, entry in reversed(self.chain):
            if entry.kind == ACCEPT:
                return entry.head
            if entry.landings:
                return entry.landings[-1].candidate
        return ""
