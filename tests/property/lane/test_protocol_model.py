"""The landing protocol holds in every schedule tried, and each mistake left in on purpose is found."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.property.lane.schedule import first_violation, violation
from tests.property.lane.world import Variant

SCHEDULES = 20_000
ENOUGH = 50  # of each accident that the protocol is there for

ACCIDENTS = (
    "landed a group",
    "older holder refused",
    "moved target refused",
    "unknown, really done",
    "unknown, really under way",
    "arrived late: done",
    "arrived late: refused",
    "cancelled while Queued",
    "cancelled while Landing",
    "refused to write Landing",
    "refused to write Merged",
    "Landed",
    "MergedElsewhere",
    "NothingToLand",
    "Cancelled",
    "Failed",
)
MISTAKES = [variant for variant in Variant if variant is not Variant.FULL]


def test_no_schedule_breaks_the_protocol() -> None:
    seen: Counter[str] = Counter()
    broken = {seed: found for seed in range(SCHEDULES) if (found := violation(seed, seen=seen))}
    assert not broken
    rare = {accident: seen[accident] for accident in ACCIDENTS if seen[accident] < ENOUGH}
    assert not rare, "the schedules don't try what they are there for"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda variant: variant.name.lower())
def test_each_mistake_is_found(mistake: Variant) -> None:
    assert first_violation(mistake, range(SCHEDULES)) is not None, mistake.value


@pytest.mark.parametrize("mistake", [Variant.NO_LEDGER, Variant.LEDGER_NOT_MOVED, Variant.SAME_OBJECT, Variant.RE_READ])
def test_a_missing_fence_does_harm(mistake: Variant) -> None:
    """Not only does the wrong holder land: a job is lost, or lands although it was cancelled."""
    assert first_violation(mistake, range(SCHEDULES), blind=True) is not None, mistake.value


def test_a_schedule_can_be_run_again() -> None:
    found = first_violation(Variant.NO_CAS, range(SCHEDULES))
    assert found is not None
    seed, message = found
    assert violation(seed, Variant.NO_CAS) == message
