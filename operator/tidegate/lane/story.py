"""What is told of a job in the queue as Events: one when it comes to stand otherwise than before. Pure."""

from __future__ import annotations

from tidegate.api import reasons
from tidegate.api.views import MergeJobView, condition
from tidegate.lane.approval import listed
from tidegate.lane.decide.model import Place

_TOLD = {
    reasons.GATING: "Normal",
    reasons.HELD: "Normal",
    reasons.REVIEWING: "Normal",
    reasons.MERGE_CONFLICT: "Warning",
    reasons.BASE_RED: "Warning",
    reasons.NEEDS_APPROVAL: "Warning",
}


def turn(job: MergeJobView, place: Place) -> tuple[str, str, str] | None:
    """Type, reason and note of the Event, None where nothing turned that people would look for."""
    before = condition(job.status, reasons.SUCCEEDED) or {}
    if place.reason not in _TOLD or before.get("reason") == place.reason:
        return None
    note = place.message
    if place.reason == reasons.NEEDS_APPROVAL:
        note = f"changes protected paths and waits for a person: {listed(place.protected)}"
    elif place.reason == reasons.GATING and place.commit:
        note = f"candidate {place.commit[:12]} on {place.base[:12]}: {place.message}"
    return _TOLD[place.reason], place.reason, note
