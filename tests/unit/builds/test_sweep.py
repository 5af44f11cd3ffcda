"""Sweeps: when, what they mean, and which Fixers they ask for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidegate.builds.decide.sweep import category, fixes, judge, periodic, unfinished_start
from tidegate.builds.decide.world import (
    Finalization,
    GateResult,
    Lane,
    Planning,
    Spec,
    Sweep,
    SweepPolicy,
    Tasks,
    World,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATES = ({"name": "tests"}, {"name": "lint"}, {"name": "typecheck"})


def results(number: int = 1, commit: str = "c1", **verdicts: str) -> tuple[GateResult, ...]:
    return tuple(GateResult(f"r-{gate}", gate, number, commit, verdict) for gate, verdict in verdicts.items())


def world(sweep: Sweep | None = None, **changes: Any) -> World:
    made = World(
        namespace="n", name="mk", uid="u", now=NOW, spec=Spec({}), start_time=NOW - timedelta(seconds=1000),
        lane=Lane("l", "uid", ready=True, head="c1"), tasks=Tasks(running_others=1, running=1),
        planning=Planning(iteration=1, complete=True), sweep=sweep or Sweep(gates=GATES),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("verdicts", "outcome", "status"),
    [
        ({"tests": "Passed", "lint": "Passed", "typecheck": ""}, "", None),
        ({"tests": "Passed", "lint": "Passed"}, "", None),  # the third run isn't made yet
        ({"tests": "Passed", "lint": "Passed", "typecheck": "Passed"}, "Green", "True"),
        ({"tests": "Failed", "lint": "Passed", "typecheck": "Passed"}, "Red", "False"),
        ({"tests": "Failed", "lint": "Infra", "typecheck": "Passed"}, "Red", "False"),
        ({"tests": "Passed", "lint": "Infra", "typecheck": "Passed"}, "Infra", "Unknown"),
    ],
)
def test_a_sweep_is_judged_when_every_gate_has_a_verdict(
    verdicts: dict[str, Any], outcome: str, status: str | None
) -> None:
    step = judge(world(Sweep(gates=GATES, runs=results(**verdicts))))
    assert step.outcome == outcome
    assert (step.condition[0] if step.condition else None) == status
    assert step.sweep.number == (1 if outcome else 0)
    if outcome == "Red":
        assert step.sweep.failed == ("tests",)
        assert "tests failed" in (step.condition or ("", "", ""))[2]


def test_a_result_for_an_old_head_counts_for_nothing() -> None:
    runs = results(tests="Failed", lint="Passed", typecheck="Passed")
    before = Sweep(gates=GATES, runs=runs, time=NOW, commit="c0", green=True)
    step = judge(world(before, lane=Lane("l", "uid", ready=True, head="c2")))
    assert step.outcome == "Stale"
    assert step.condition is None
    assert (step.sweep.number, step.sweep.commit, step.sweep.green) == (1, "c0", True)
    assert step.sweep.greens == 0


def test_after_a_stale_sweep_the_next_one_waits_its_time() -> None:
    """While changes land, sweeps don't follow each other: they would hold the lane's slots."""
    old = results(tests="Passed", lint="Passed", typecheck="Passed")
    before = Sweep(gates=GATES, runs=old, time=NOW - timedelta(seconds=900), commit="c0", green=True)
    discarded = periodic(world(before, lane=Lane("l", "uid", ready=True, head="c2")))
    assert (discarded.outcome, discarded.start) == ("Stale", 0)
    assert discarded.sweep.green == before.green
    for seconds, start in ((1, 0), (299, 0), (300, 2)):
        later = world(
            discarded.sweep, lane=Lane("l", "uid", ready=True, head="c2"), now=NOW + timedelta(seconds=seconds)
        )
        assert periodic(later).start == start


def test_runs_on_two_commits_are_no_sweep() -> None:
    mixed = (*results(tests="Passed", lint="Passed"), *results(commit="c0", typecheck="Passed"))
    assert judge(world(Sweep(gates=GATES, runs=mixed))).outcome == "Stale"


def later(seconds: float, sweep: Sweep) -> bool:
    return bool(periodic(world(replace(sweep, gates=GATES), now=NOW + timedelta(seconds=seconds))).start)


def test_the_interval_adapts() -> None:
    green = Sweep(time=NOW, commit="c0", green=True, greens=1)
    assert not later(299, green)
    assert later(300, green)
    red = Sweep(time=NOW, commit="c1", green=False, greens=0, red_time=NOW)
    assert not later(59, red)
    assert later(60, red)
    mending = Sweep(time=NOW, commit="c1", green=True, greens=2, red_time=NOW)
    assert later(60, mending)
    relaxed = replace(mending, greens=3)
    assert not later(10_000, relaxed)  # this very head was green
    assert later(300, replace(relaxed, commit="c0"))


def test_a_red_base_is_swept_at_once() -> None:
    red = Lane("l", "uid", ready=True, head="c1", red=True)
    recent = Sweep(gates=GATES, time=NOW, commit="c0", green=True)
    assert periodic(world(recent, lane=red)).start == 1
    assert not periodic(world(replace(recent, commit="c1", red_time=NOW), lane=red)).start


def test_sweeps_do_not_overlap_and_need_work_that_is_no_fixers() -> None:
    running = results(tests="", lint="", typecheck="")
    assert not periodic(world(Sweep(gates=GATES, runs=running))).start
    assert periodic(world()).start == 1
    assert not periodic(world(tasks=Tasks(running=1, running_others=0))).start
    assert not periodic(world(finalization=Finalization(attempts=1))).start
    waiting = Tasks(jobs_open=1)
    assert periodic(world(tasks=waiting)).start == 1  # perhaps they wait for a green head
    assert not periodic(world(tasks=replace(waiting, fixing=frozenset({"tests"})))).start
    assert not periodic(world(planning=Planning())).start
    assert not periodic(world(Sweep())).start  # no gates


def test_a_sweep_left_half_made_is_completed() -> None:
    half = results(number=3, tests="")
    assert unfinished_start(world(Sweep(gates=GATES, runs=half))) == 3
    whole = results(number=3, tests="", lint="", typecheck="")
    assert unfinished_start(world(Sweep(gates=GATES, runs=whole))) == 0


def test_one_category_a_sweep() -> None:
    assert category("typecheck") < category("lint") < category("tests")
    runs = results(tests="Failed", lint="Failed", typecheck="Passed")
    assert [fix.result.gate for fix in fixes(world(), runs, 1)] == ["lint"]
    runs = results(tests="Failed", lint="Failed", typecheck="Failed", build="Failed")
    assert [fix.result.gate for fix in fixes(world(), runs, 1)] == ["build"]
    runs = results(unit="Failed", typecheck="Failed", mypy="Failed", markers="Passed")
    assert [fix.result.gate for fix in fixes(world(), runs, 1)] == ["mypy", "typecheck"]
    order = ["conflict-markers", "build", "typecheck", "lint", "tests"]
    assert sorted(order, key=category) == order
    assert len({category(gate) for gate in order}) == len(order)


def test_fixers_are_bounded_and_deduplicated() -> None:
    runs = results(unit="Failed", e2e="Failed", api="Failed")
    made = fixes(world(), runs, 4)
    assert [(fix.sweep, fix.result.gate) for fix in made] == [(4, "api"), (4, "e2e"), (4, "unit")]
    mending = world(tasks=Tasks(fixing=frozenset({"api"})))
    assert [fix.result.gate for fix in fixes(mending, runs, 4)] == ["e2e", "unit"]
    bounded = world(spec=Spec({}, sweep=SweepPolicy(max_fix_tasks=1)))
    assert len(fixes(bounded, runs, 4)) == 1
    spent = world(tasks=Tasks(fixers=13))
    assert len(fixes(spent, runs, 4)) == 2  # 5 for each of 3 attempts, over all sweeps
    full = world(spec=Spec({}, max_tasks=1), tasks=Tasks(counts={"Complete": 1}))
    assert fixes(full, runs, 4) == ()
