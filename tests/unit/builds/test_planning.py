"""When a plan is asked for, applied, refused, and when planning ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tidegate.builds.decide.planning import needs_source, plan
from tidegate.builds.decide.world import (
    PlanError,
    PlannedTask,
    PlannerRun,
    Planning,
    Slot,
    Source,
    Spec,
    Tasks,
    World,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A = PlannedTask("a", "do a")
B = PlannedTask("b", "do b", depends_on=("a",))


def world(spec: dict[str, Any] | None = None, tasks: Tasks | None = None, **planning: Any) -> World:
    return World(
        namespace="n", name="mk", uid="u", now=NOW, spec=Spec({"url": "https://g/r"}, **(spec or {})),
        tasks=tasks or Tasks(), planning=Planning(**planning),
    )  # fmt: skip


def static(**planning: Any) -> World:
    return world({"static": True}, source=Source("", (A, B)), **planning)


def test_a_static_plan_makes_what_is_missing_then_moves_the_iteration() -> None:
    assert [t.name for t in plan(static()).tasks] == ["a", "b"]
    assert [t.name for t in plan(static(existing=frozenset({"a"}))).tasks] == ["b"]
    step = plan(static(existing=frozenset({"a", "b"})))
    assert (step.planning.iteration, step.planning.complete, step.tasks, step.applied) == (1, True, (), True)


def test_a_static_plan_is_read_only_until_it_is_applied() -> None:
    assert needs_source(world({"static": True}))
    assert not needs_source(world({"static": True}, iteration=1, complete=True))


def test_a_static_plan_against_its_order_ends_planning_and_names_the_field() -> None:
    step = plan(world({"static": True}, source=Source("", (B, A))))
    assert step.failed is not None
    assert step.failed[0] == "PlanInvalid"
    assert "planning.tasks[0].dependsOn" in step.failed[1]
    assert step.planning.complete
    assert not step.tasks


def test_the_first_planner_is_made_at_once() -> None:
    step = plan(world())
    assert step.planner is not None
    assert (step.planner.iteration, step.planner.attempt, step.planner.refused) == (1, 1, "")
    assert needs_source(world())


@pytest.mark.parametrize(
    ("tasks", "asked"),
    [
        (Tasks(handoffs=4, running=1), False),  # 2 new handoffs, work goes on
        (Tasks(handoffs=5, running=1), True),  # 3 new handoffs
        (Tasks(handoffs=2, running=0), True),  # nothing active
        (Tasks(handoffs=9, running=2, slots=(Slot("x"), Slot("y"))), False),  # no capacity
        (Tasks(handoffs=2, jobs_open=1), False),  # a merge is on its way
    ],
)
def test_a_new_plan_needs_capacity_and_news(tasks: Tasks, asked: bool) -> None:
    found = plan(world({"max_parallel": 2}, tasks, iteration=1, handoffs=2))
    assert (found.planner is not None) is asked


def test_planning_ends_at_the_limits() -> None:
    assert plan(world({"max_iterations": 2}, iteration=2)).planning.complete
    full = Tasks(counts={"Complete": 7})
    assert plan(world({"max_tasks": 7}, full, iteration=1)).planning.complete


def run(state: str = "Complete", found: Any = None, number: int = 1) -> PlannerRun:
    return PlannerRun(f"mk-1-plan-{number}", state, "", found)


def test_a_running_planner_is_waited_for() -> None:
    step = plan(world(runs=(run("Running"),)))
    assert step.planner is None
    assert not step.planning.complete


def test_a_good_plan_is_applied_and_more_may_come() -> None:
    step = plan(world(runs=(run(found=(A, B)),)))
    assert [t.name for t in step.tasks] == ["a", "b"]
    assert step.iteration == 1
    step = plan(world(tasks=Tasks(handoffs=1), runs=(run(found=(A, B)),), existing=frozenset({"a", "b"})))
    assert (step.planning.iteration, step.planning.handoffs, step.planning.complete) == (1, 1, False)


def test_the_last_plan_ends_planning() -> None:
    step = plan(world({"max_iterations": 1}, runs=(run(found=(A,)),), existing=frozenset({"a"})))
    assert (step.planning.iteration, step.planning.complete) == (1, True)


def test_a_plan_without_tasks_ends_planning_but_not_the_first() -> None:
    later = plan(world(iteration=1, runs=(run(found=()),)))
    assert later.planning.complete
    assert later.failed is None
    first = plan(world(runs=(run(found=()),)))
    assert first.planner is not None
    assert first.planner.refused.startswith("tasks:")


def test_a_bad_plan_is_asked_for_twice_more_then_planning_fails() -> None:
    bad = PlanError("tasks[0].role", "no such role")
    runs: tuple[PlannerRun, ...] = ()
    for attempt in (2, 3):
        runs = (*runs, run(found=bad, number=attempt - 1))
        step = plan(world(runs=runs))
        assert step.planner is not None
        assert (step.planner.attempt, step.planner.refused) == (attempt, "tasks[0].role: no such role")
    step = plan(world(runs=(*runs, run(found=bad, number=3))))
    assert step.planner is None
    assert step.planning.complete
    assert step.failed is not None
    assert step.failed[0] == "PlanInvalid"
    assert "tasks[0].role" in step.failed[1]


@pytest.mark.parametrize("state", ["Failed", "Partial", "Blocked", "Cancelled"])
def test_a_planner_that_fails_ends_planning(state: str) -> None:
    step = plan(world(runs=(run(state),)))
    assert step.failed is not None
    assert step.failed[0] == "PlanFailed"
    assert state in step.failed[1]


def test_a_plan_over_max_tasks_is_refused() -> None:
    step = plan(world({"max_tasks": 2}, Tasks(counts={"Complete": 1}), runs=(run(found=(A, B)),)))
    assert step.planner is not None
    assert "maxTasks" in step.planner.refused


def test_tasks_made_already_do_not_count_against_max_tasks() -> None:
    there = world({"max_tasks": 3}, Tasks(counts={"Pending": 2, "Complete": 1}), runs=(run(found=(A, B)),))
    step = plan(replace(there, planning=replace(there.planning, existing=frozenset({"a", "b"}))))
    assert step.planning.iteration == 1


def test_a_problem_holds_planning() -> None:
    held = replace(world(), problem=("GateProfileMissing", "m"))
    assert plan(held).planner is None
