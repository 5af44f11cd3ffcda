"""Pods of tasks' own gates beside the lane's: they count for the bound, and take nothing from its plan."""

from __future__ import annotations

import pytest

from tidegate import names
from tidegate.api.views import PodView
from tidegate.lane.observe import is_stray


@pytest.mark.parametrize(
    ("purpose", "phase", "name", "stray"),
    [
        ("sweep", "Running", "a", True),
        ("candidate", "Running", "a", True),  # of a run that is gone
        ("candidate", "Running", "known", False),
        ("sweep", "Succeeded", "a", False),
        ("task", "Running", "a", False),
    ],
)
def test_what_takes_a_slot_from_the_lane_without_being_its_own(
    purpose: str, phase: str, name: str, stray: bool
) -> None:
    labels = {names.LABEL_PURPOSE: purpose, names.LABEL_COMPONENT: "gate"}
    pod = PodView.from_object({"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}})
    assert is_stray(pod, {"known"}) is stray
