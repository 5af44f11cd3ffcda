"""A plan in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.api import reasons
from tidegate.lane.decide.evidence import Finding
from tidegate.lane.decide.model import Conflict, Ending, Formed, Gate, Job, Place, Run, Rung, Short, Snapshot, Start


@dataclass
class Draft:
    """What is known and decided so far."""

    snapshot: Snapshot
    formed: dict[str, set[str]] = field(default_factory=dict)  # parent commit to the jobs that have a candidate on it
    red: dict[str, Gate] = field(default_factory=dict)
    ladder: list[Rung] = field(default_factory=list)
    form: list[tuple[str, str]] = field(default_factory=list)
    starts: list[tuple[bool, int, Start]] = field(default_factory=list)  # (not a second run, depth, start)
    wanted: set[tuple[str, str]] = field(default_factory=set)
    endings: list[Ending] = field(default_factory=list)
    demote: list[str] = field(default_factory=list)
    notes: dict[str, Place] = field(default_factory=dict)
    conflicted: dict[str, Conflict] = field(default_factory=dict)
    helpless: dict[str, list[Gate]] = field(default_factory=dict)  # jobs that failed gates that the head fails too
    undecided: bool = False  # some job waits for evidence about the head, or for a review
    unmeasured: bool = False  # some job's change isn't known yet: its review may have been given long ago
    reviews: dict[tuple[str, str], Start] = field(default_factory=dict)  # to start, by gate key and patch
    again: list[float] = field(default_factory=list)
    batch: int = 0  # rungs at the ladder's end that share the gates of one that is still to come
    findings: list[dict[str, Finding]] = field(default_factory=list)  # of each rung, by gate
    share: int = 1  # jobs that are to share one candidate's gates
    towards: set[str] = field(default_factory=set)  # commits below a candidate that gates run on

    def runs(self, gate: Gate, commit: str, tree: str) -> tuple[Run, ...]:
        """The runs of a gate that speak of a commit."""
        return self.snapshot.runs.get((gate.key, gate.subject(commit, tree)), ())

    def note(self, job: Job, reason: str, message: str = "", on: tuple[str, ...] = (), link: Formed | None = None,
             conflict: Conflict | None = None, short: tuple[Short, ...] = ()) -> None:  # fmt: skip
        """Where a job stands and why."""
        base, commit, tree = (link.base, link.commit, link.tree) if link is not None else ("", "", "")
        self.notes[job.uid] = Place(job.uid, 0, reason, message, on, base, commit, tree, conflict, short=short)

    def needs_approval(self, job: Job, paths: tuple[str, ...]) -> None:
        """A job waits for a person's word about these paths."""
        self.notes[job.uid] = Place(job.uid, 0, reasons.NEEDS_APPROVAL, "changes protected paths", protected=paths)
