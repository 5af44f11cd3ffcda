"""What `kubectl describe` tells of a job in the queue."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.api import reasons
from tidegate.api.views import MergeJobView
from tidegate.lane.decide.model import Place
from tidegate.lane.story import turn


def job(reason: str = "") -> MergeJobView:
    status: dict[str, Any] = {}
    if reason:
        status["conditions"] = [{"type": "Succeeded", "status": "Unknown", "reason": reason}]
    meta = {"name": "j", "namespace": "n", "uid": "u", "resourceVersion": "1"}
    return MergeJobView.from_object({"metadata": meta, "spec": {}, "status": status})


@pytest.mark.parametrize(
    ("before", "place", "wanted"),
    [
        ("", Place("u", 1, reasons.WAITING, "waits for its turn"), None),
        (
            reasons.WAITING,
            Place("u", 1, reasons.GATING, "gates run on its candidate", base="b" * 40, commit="c" * 40),
            ("Normal", "Gating", f"candidate {'c' * 12} on {'b' * 12}: gates run on its candidate"),
        ),
        (reasons.GATING, Place("u", 1, reasons.GATING, "gates run", commit="d" * 40), None),
        (
            reasons.GATING,
            Place("u", 2, reasons.HELD, "conflicts with other, which is ahead", ("other",)),
            ("Normal", "Held", "conflicts with other, which is ahead"),
        ),
        (
            "",
            Place("u", 1, reasons.NEEDS_APPROVAL, "x", protected=("CODEOWNERS",)),
            ("Warning", "NeedsApproval", 'changes protected paths and waits for a person: "CODEOWNERS"'),
        ),
        (reasons.NEEDS_APPROVAL, Place("u", 1, reasons.NEEDS_APPROVAL, "x", protected=("CODEOWNERS",)), None),
    ],
)
def test_it_is_told_when_it_turns(before: str, place: Place, wanted: tuple[str, str, str] | None) -> None:
    assert turn(job(before), place) == wanted
