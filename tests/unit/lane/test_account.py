"""The lane's metrics tell what happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from tests.property.lane.machine import World
from tests.unit.lane.test_recovery import fail_at_the_push, go, jobs, move_the_branch, queue
from tidegate.api import reasons

START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


class Meter:
    """How much metrics grow."""

    def __init__(self) -> None:
        self._before = {(s.name, *s.labels.values()): s.value for m in REGISTRY.collect() for s in m.samples}

    def grown(self, name: str, *labels: str) -> float:
        now = {(s.name, *s.labels.values()): s.value for m in REGISTRY.collect() for s in m.samples}
        key = (f"tidegate_{name}", *labels)
        return float(now.get(key, 0.0) - self._before.get(key, 0.0))


def time_the_gates(world: World) -> None:
    """Every gate run that has ended took five minutes."""
    for run in world.api.listed("GateRun"):
        if (run.get("status") or {}).get("verdict") and not run["status"].get("startTime"):
            status = {"startTime": START, "endTime": END}
            world.api.patch("GateRun", "ns", run["metadata"]["name"], {"status": status}, status=True)


def test_what_a_landing_took(world: World) -> None:
    meter = Meter()
    queue(world)
    world.lead("one", alone=True)
    world.work("one")
    world.work("one")
    world.clock += 30
    world.work("one")
    world.judge()
    time_the_gates(world)
    go(world, rounds=3)
    assert jobs(world) == [("Merged", reasons.MERGED_BY_LANE)]
    assert meter.grown("lane_takes_total", "Taken") == 1
    assert meter.grown("candidates_total") == 1
    assert meter.grown("landings_total", "Landed") == 1
    assert meter.grown("gate_landed_seconds_total") == 2 * 300  # two gates
    assert meter.grown("merge_overhead_seconds_count") == 1
    assert meter.grown("merge_waiting_seconds_total", "WaitingForSlot") == pytest.approx(30, abs=5)
    assert meter.grown("red_heads_total") == 0
    assert meter.grown("false_ejections_total") == 0


def test_what_others_and_failures_cost(world: World) -> None:
    meter = Meter()
    queue(world)
    world.lead("one", alone=True)
    move_the_branch(world, "one", 2)
    assert meter.grown("lane_resets_total", "TargetMoved") == 2
    assert meter.grown("candidates_total") == 3
    world.submit("Rebase", 0, [(0, "edit", 12)], trap="broken")
    go(world, rounds=20)
    assert {state for state, _ in jobs(world)} == {"Merged", "Failed"}
    assert meter.grown("lane_resets_total", "Ejected") == 1
    assert meter.grown("merge_waiting_seconds_total", "WaitingForSlot") > 0


@pytest.mark.parametrize(
    ("fate", "result"), [("raced", "TargetMoved"), ("overtaken", "LedgerMoved"), ("cut before", "Unknown")]
)
def test_what_became_of_a_push(world: World, fate: str, result: str) -> None:
    meter = Meter()
    queue(world)
    world.overtake = 16  # the other one has taken the lane, and not yet landed
    fail_at_the_push(world, fate)
    assert meter.grown("landings_total", result) == 1
    assert meter.grown("landings_total", "Landed") == 0


def test_a_commit_that_was_out_and_lands_after_all(world: World) -> None:
    meter = Meter()
    queue(world)
    world.lead("one", alone=True)
    failures = ["", "Failed", "Failed"] * 2  # of its two gates; then the head passes
    for _ in range(12):
        world.judge(lambda: failures.pop() if failures else "")
        world.work("one")
        world.clock += 20
    assert jobs(world) == [("Failed", reasons.GATES_FAILED)]
    world.submit("Rebase", 0, [], twin=True)
    world.external("own")
    go(world)
    assert jobs(world)[1][0] == "Merged"
    assert meter.grown("false_ejections_total") == 1
