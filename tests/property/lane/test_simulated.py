"""What is said of the planner in docs/lane-simulation.md and docs/benchmarks.md holds."""

from __future__ import annotations

from bench import planner
from bench.lane_simulator import Setting, figures, measure


def test_the_ratios_hold() -> None:
    found = figures(changes=200, seeds=2)
    assert found["ladder_ratio_to_serial"] >= 5
    assert found["ladder_false_ejections"] == 0
    assert found["landed_share_of_failing_9_in_10"] <= 0.25
    assert found["batches_ratio_to_serial_at_one_slot"] >= 1.8


def test_sharing_candidates_pays_where_slots_are_scarce() -> None:
    for slots, least in ((2, 1.5), (4, 1.1)):
        alone, shared = (measure(policy, Setting(slots), 2) for policy in ("ladder", "ladder, window 8"))
        assert shared.per_hour >= least * alone.per_hour
        assert shared.runs_per_merge < alone.runs_per_merge
        assert shared.false_ejections == 0


def test_a_decision_is_quick() -> None:
    assert min(planner.milliseconds() for _ in range(3)) < 20
