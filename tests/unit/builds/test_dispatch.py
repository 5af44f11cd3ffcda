"""Slots: release, order, and the cap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidegate.builds.decide.dispatch import slots
from tidegate.builds.decide.world import Slot, Spec, Tasks, World

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def world(cap: int = 2, **tasks: Any) -> World:
    return World(
        namespace="n", name="mk", uid="u", now=NOW, spec=Spec({}, max_parallel=cap), tasks=Tasks(**tasks)
    )  # fmt: skip


def test_slots_are_given_in_order_up_to_the_cap() -> None:
    found = slots(world(2, ready=("a", "b", "c")), grant=True)
    assert found.granted == ("a", "b")
    assert slots(world(2, ready=("a", "b", "c")), grant=False).granted == ()


def test_held_slots_and_strays_count() -> None:
    busy = world(3, ready=("a", "b"), slots=(Slot("x", active=True),), stray=1)
    assert slots(busy, grant=True).all == ("x", "a")
    assert slots(world(1, ready=("a",), stray=2), grant=True).granted == ()


@pytest.mark.parametrize(
    ("slot", "free"),
    [
        (Slot("x"), False),  # reserved, not started yet
        (Slot("x", active=True), False),
        (Slot("x", terminal=True), True),
        (Slot("x", terminal=True, active=True), False),  # its Pod still terminates
        (Slot("x", gone=True), True),
        (Slot("x", gone=True, active=True), False),
        (Slot("x", not_before=NOW + timedelta(seconds=10)), True),  # a retry in a while
        (Slot("x", not_before=NOW + timedelta(seconds=1)), False),  # too soon: another leader may start it
        (Slot("x", not_before=NOW - timedelta(seconds=1)), False),
        (Slot("x", not_before=NOW + timedelta(seconds=10), active=True), False),
        (Slot("x", gating=True), True),  # no Pod of it runs, and the next attempt begins a while after its gates
        (Slot("x", gating=True, active=True), False),  # its Pod still terminates
    ],
)
def test_a_slot_is_free_only_when_its_task_cannot_run(slot: Slot, free: bool) -> None:
    found = slots(world(1, ready=("a",), slots=(slot,)), grant=True)
    assert found.released == (("x",) if free else ())
    assert found.all == (("a",) if free else ("x",))


def test_the_slot_of_a_task_with_own_gates_is_taken_back_with_a_fence() -> None:
    found = slots(world(1, ready=("a",), slots=(Slot("x", gating=True),)), grant=True)
    assert (found.fenced, found.granted) == (("x",), ("a",))


def test_a_lower_cap_takes_no_slot_away() -> None:
    held = tuple(Slot(name, active=True) for name in "abc")
    assert slots(world(1, slots=held, ready=("d",)), grant=True).all == ("a", "b", "c")
