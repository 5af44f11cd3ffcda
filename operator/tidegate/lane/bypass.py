"""A person's order to land a job without its gates: decided at admission, never the operator's own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.api import reasons
from tidegate.api.views import MergeJobView, condition_status

TRAILER = "Tidegate-Bypassed-By"


@dataclass(frozen=True, slots=True)
class Bypass:
    """Who wants it, and why."""

    by: str
    reason: str

    @property
    def words(self) -> str:
        """For a message."""
        return f"by {self.by}: {self.reason}"


def bypass_of(job: MergeJobView, lane: str) -> Bypass | None:
    """The bypass in a job's spec, where it names this lane and this commit: who may write it was decided at admission
    for the lane that it names."""
    found: Mapping[str, Any] = job.spec.get("bypass") or {}
    if not found or found.get("laneName") != lane or found.get("sourceCommit") != job.spec["sourceCommit"]:
        return None
    return Bypass(str(found.get("by") or "unknown"), str(found.get("reason") or ""))


def shown(job: MergeJobView, lane: str) -> list[tuple[str, str, str, str]]:
    """The condition Bypassed as it should be while the job is in the queue; none where nobody asked."""
    if not job.spec.get("bypass"):
        return []
    found = bypass_of(job, lane)
    if found is not None:
        return [(reasons.BYPASSED, "True", reasons.GATES_BYPASSED, f"lands without its gates, {found.words}")]
    named = (job.spec["bypass"] or {}).get("laneName")
    message = f"spec.bypass names MergeLane {named!r}, the job's is {lane!r}: it has no effect, make a new MergeJob"
    return [(reasons.BYPASSED, "False", reasons.LANE_MISMATCH, message)]


def was_bypassed(job: MergeJobView) -> bool:
    """Whether the intent to land was written for a job without its gates."""
    return condition_status(job.status, reasons.BYPASSED) == "True"
