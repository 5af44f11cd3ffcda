"""The end of a build: re-queue, sweep, attempts, verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidegate.builds.decide.finalize import FinalStep, can_change, finalize
from tidegate.builds.decide.planning import plan
from tidegate.builds.decide.world import (
    Change,
    Finalization,
    FinalizationPolicy,
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
GATES = ({"name": "tests", "timeoutSeconds": 60},)
GREEN = Sweep(gates=GATES, number=4, commit="c1", green=True, time=NOW)


def change(task: str = "a", **more: Any) -> Change:
    base: dict[str, Any] = {
        "task": task, "attempt": 1, "role": "Worker", "state": "Complete", "ref": "refs/x", "commit": "s1",
        "reason": "GatesFailed", "job": {}, "tried_on": "c0",
    }  # fmt: skip
    return Change(**(base | more))


def world(sweep: Sweep = GREEN, **changes: Any) -> World:
    made = World(
        namespace="n", name="mk", uid="u", now=NOW, spec=Spec({}), lane=Lane("l", "uid", ready=True, head="c1"),
        tasks=Tasks(counts={"Complete": 1}, jobs_merged=1), planning=Planning(iteration=1, complete=True), sweep=sweep,
    )  # fmt: skip
    return replace(made, **changes)


def step(there: World, *mergeable: Change) -> FinalStep:
    return finalize(there, plan(there), mergeable)


def unmerged(*changes: Change) -> Tasks:
    many = len(changes)
    return Tasks(counts={"Complete": 1 + many}, changes=changes, changes_total=many, changes_blocking=many)


def verdict_of(found: FinalStep) -> tuple[bool, str]:
    assert found.verdict is not None
    return found.verdict.passed, found.verdict.message


def test_all_merged_and_green_on_the_head_passes() -> None:
    found = step(world())
    assert found.began
    assert verdict_of(found)[0]
    assert found.verdict is not None
    assert found.verdict.reason == "Passed"


def test_a_head_that_was_not_swept_is_swept_first() -> None:
    for sweep in (replace(GREEN, commit="c0"), replace(GREEN, green=False), Sweep(gates=GATES)):
        found = step(world(sweep))
        assert found.verdict is None
        assert found.sweep.start == sweep.number + 1
        assert found.finalization == Finalization(attempts=1, sweep_start=NOW)


def test_no_gate_at_all_is_said_in_the_verdict() -> None:
    passed, message = verdict_of(step(world(Sweep())))
    assert passed
    assert "no gate is configured" in message


def test_unmerged_work_is_queued_again_before_the_sweep() -> None:
    left = change()
    found = step(world(Sweep(gates=GATES), tasks=unmerged(left)), left)
    assert found.requeue == ((left, 1),)
    assert not found.sweep.start
    assert found.finalization.attempts == 1


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (change(tried_on="c0"), True),
        (change(tried_on="c1"), False),  # the same head gives the same end
        (change(tried_on="c1", reason="Infra"), True),
        (change(tried_on=""), True),
        (change(reason="Cancelled"), False),  # a cancelled one never lands
        (change(reason="SourceMissing"), False),
    ],
)
def test_only_what_can_end_otherwise_is_queued_again(left: Change, expected: bool) -> None:
    assert can_change(left, "c1") is expected


def test_a_change_is_queued_once_an_attempt() -> None:
    left = change(requeued=1)
    found = step(world(tasks=unmerged(left), finalization=Finalization(attempts=1)), left)
    assert found.requeue == ()
    # The head has moved since it was tried: another attempt may merge it.
    assert found.verdict is None
    assert found.finalization == Finalization(attempts=2)
    again = step(world(tasks=unmerged(left), finalization=found.finalization), left)
    assert again.requeue == ((left, 2),)


def test_nothing_can_change_ends_early_and_names_the_change() -> None:
    left = change(requeued=1, tried_on="c1", reason="MergeConflict")
    passed, message = verdict_of(step(world(tasks=unmerged(left), finalization=Finalization(attempts=1)), left))
    assert not passed
    assert "1 unmerged: a (MergeConflict)" in message


def test_attempts_are_bounded() -> None:
    left = change(requeued=3)
    passed, _ = verdict_of(step(world(tasks=unmerged(left), finalization=Finalization(attempts=3)), left))
    assert not passed


def red(number: int = 5) -> Sweep:
    run = GateResult("r", "tests", number, "c1", "Failed")
    return Sweep(gates=GATES, number=number - 1, runs=(run,))


def test_a_red_sweep_asks_for_fixers_and_begins_another_attempt() -> None:
    found = step(world(red(), finalization=Finalization(attempts=1, sweep_start=NOW)))
    assert [fix.result.gate for fix in found.fixes] == ["tests"]
    assert found.finalization == Finalization(attempts=2)
    assert found.verdict is None
    assert found.sweep.sweep.number == 5


def test_a_red_sweep_at_the_last_attempt_is_exhausted() -> None:
    found = step(world(red(), finalization=Finalization(attempts=3, sweep_start=NOW)))
    passed, message = verdict_of(found)
    assert not passed
    assert found.fixes == ()
    assert "tests failed" in message


def test_no_fixer_allowed_ends_early() -> None:
    spec = Spec({}, sweep=SweepPolicy(max_fix_tasks=0))
    passed, _ = verdict_of(step(world(red(), spec=spec, finalization=Finalization(attempts=1, sweep_start=NOW))))
    assert not passed


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (Tasks(ended_badly=("a (Failed)",), ended_badly_total=1), "1 ended badly: a (Failed)"),
        (Tasks(ended_badly=("a (Partial)",), ended_badly_total=12), "12 ended badly: a (Partial) and 11 more"),
        (Tasks(never_started=("b",), waiting=1), "1 never started, a dependency is not met: b"),
    ],
)
def test_a_task_that_did_not_end_well_is_named(tasks: Tasks, words: str) -> None:
    passed, message = verdict_of(step(world(tasks=tasks)))
    assert not passed
    assert words in message


def test_a_hopeless_build_makes_no_fixers() -> None:
    tasks = Tasks(ended_badly=("a (Failed)",), ended_badly_total=1)
    found = step(world(red(), tasks=tasks, finalization=Finalization(attempts=1, sweep_start=NOW)))
    assert found.fixes == ()
    passed, message = verdict_of(found)
    assert not passed
    assert "tests failed" in message


def test_a_failed_plan_is_the_reason() -> None:
    found = step(world(planned=("PlanInvalid", "plan of mk-1-plan-3: tasks[0].role: wrong")))
    passed, message = verdict_of(found)
    assert not passed
    assert "PlanInvalid: plan of mk-1-plan-3: tasks[0].role" in message


def test_a_superseded_fixer_does_not_stand_in_the_way_of_a_green_head() -> None:
    fixer = change("fix", role="Fixer", superseded=True)
    tasks = Tasks(changes=(fixer,), changes_total=1, changes_blocking=0)
    assert verdict_of(step(world(tasks=tasks)))[0]


def test_a_sweep_that_gives_no_verdict_in_time_is_not_green() -> None:
    running = Sweep(gates=GATES, number=4, runs=(GateResult("r", "tests", 5, "c1"),))
    final = Finalization(attempts=3, sweep_start=NOW - timedelta(seconds=179))
    assert step(world(running, finalization=final)).verdict is None
    late = replace(final, sweep_start=NOW - timedelta(seconds=181))
    found = step(world(running, finalization=late))
    passed, message = verdict_of(found)
    assert not passed
    assert "no verdict" in message
    assert found.sweep.sweep.number == 5


def test_a_stale_sweep_is_run_again_on_the_new_head() -> None:
    run = GateResult("r", "tests", 5, "c0", "Passed")
    found = step(world(Sweep(gates=GATES, number=4, runs=(run,)), finalization=Finalization(attempts=1)))
    assert found.verdict is None
    assert found.sweep.start == 6


def test_disabled_gives_the_verdict_without_requeue_or_sweep() -> None:
    spec = Spec({}, finalization=FinalizationPolicy(enabled=False))
    found = step(world(Sweep(gates=GATES), spec=spec))
    assert verdict_of(found)[0]
    assert "not swept" in verdict_of(found)[1]
    left = change()
    found = step(world(Sweep(gates=GATES), spec=spec, tasks=unmerged(left)), left)
    assert not verdict_of(found)[0]
    assert found.requeue == ()
