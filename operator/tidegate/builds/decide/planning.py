"""How far the plan is, and what comes next: tasks to make, a Planner to ask, or the end of planning."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidegate.api import reasons
from tidegate.builds.decide.world import TERMINAL, PlanError, PlannedTask, Planning, World

PLANNER_ATTEMPTS = 3  # an invalid plan is asked for again twice


@dataclass(frozen=True, slots=True)
class PlannerTask:
    """A Planner to be made. `attempt` counts from 1; `refused` says what was wrong with the plan before."""

    iteration: int
    attempt: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What planning does now."""

    planning: Planning
    tasks: tuple[PlannedTask, ...] = ()  # to be made, of iteration + 1
    iteration: int = 0  # that `tasks` belong to
    planner: PlannerTask | None = None
    failed: tuple[str, str] | None = None  # reason and message: no plan will come any more
    applied: bool = False  # an iteration was completed by this step


def needs_source(world: World) -> bool:
    """Whether the next step reads the request or the prompts, which the cache doesn't keep."""
    if world.planning.complete or world.planning.source is not None or world.spec.cancelled or world.finalized:
        return False
    if world.spec.static:
        return True
    step = plan(world)
    return step.planner is not None


def plan(world: World) -> PlanStep:
    """The next step of planning; the same planning where there is none."""
    planning = world.planning
    if planning.complete or world.problem is not None:
        return PlanStep(planning)
    if world.spec.static:
        return _static(world)
    if planning.runs:
        return _judge(world)
    return _ask(world)


def _static(world: World) -> PlanStep:
    source = world.planning.source
    if source is None:
        return PlanStep(world.planning)
    error = order_error(source.static)
    if error is not None:
        return _failed(world, reasons.PLAN_INVALID, f"planning.{error.field}: {error.message}")
    step = _apply(world, source.static)
    return replace(step, planning=replace(step.planning, complete=True)) if step.applied else step


def order_error(tasks: tuple[PlannedTask, ...]) -> PlanError | None:
    """The first dependency that isn't on a task earlier in the list."""
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        for dep in task.depends_on:
            if dep not in seen:
                return PlanError(f"tasks[{number}].dependsOn", f"{dep} is no task earlier in the list: move it up")
        if task.name in seen:
            return PlanError(f"tasks[{number}].name", f"{task.name} is there twice: names must be unique")
        seen.add(task.name)
    return None


def _apply(world: World, tasks: tuple[PlannedTask, ...]) -> PlanStep:
    planning = world.planning
    missing = tuple(task for task in tasks if task.name not in planning.existing)
    if missing:
        return PlanStep(planning, tasks=missing, iteration=planning.iteration + 1)
    moved = replace(
        planning, iteration=planning.iteration + 1, handoffs=world.tasks.handoffs, runs=(), existing=frozenset()
    )
    return PlanStep(moved, applied=True)


def _judge(world: World) -> PlanStep:
    planning, run = world.planning, world.planning.runs[-1]
    if run.state not in TERMINAL:
        return PlanStep(planning)
    if run.state != "Complete":
        why = f": {run.reason}" if run.reason else ""
        return _failed(world, reasons.PLAN_FAILED, f"planner {run.task} ended {run.state}{why}")
    if run.plan is None:
        return PlanStep(planning)  # not read yet
    error = run.plan if isinstance(run.plan, PlanError) else _plan_error(world, run.plan)
    if error is not None:
        message = f"plan of {run.task}: {error.field}: {error.message}"
        if len(planning.runs) >= PLANNER_ATTEMPTS:
            return _failed(world, reasons.PLAN_INVALID, message)
        again = PlannerTask(planning.iteration + 1, len(planning.runs) + 1, f"{error.field}: {error.message}")
        return PlanStep(planning, planner=again, iteration=planning.iteration + 1)
    assert isinstance(run.plan, tuple)
    if not run.plan:
        return PlanStep(replace(planning, complete=True))
    step = _apply(world, run.plan)
    if step.applied and step.planning.iteration >= world.spec.max_iterations:
        return replace(step, planning=replace(step.planning, complete=True))
    return step


def _plan_error(world: World, tasks: tuple[PlannedTask, ...]) -> PlanError | None:
    if not tasks and world.planning.iteration == 0:
        return PlanError("tasks", "the first plan needs at least one task")
    made = len(world.planning.existing)
    room = world.spec.max_tasks - (world.tasks.total - made)
    if len(tasks) > room:
        return PlanError("tasks", f"{len(tasks)} tasks, but planning.maxTasks leaves room for {max(room, 0)}")
    return order_error(tasks)


def _ask(world: World) -> PlanStep:
    planning, tasks = world.planning, world.tasks
    if planning.iteration >= world.spec.max_iterations or tasks.total >= world.spec.max_tasks:
        return PlanStep(replace(planning, complete=True))
    capacity = len(tasks.slots) + tasks.stray < world.spec.max_parallel
    first = planning.iteration == 0
    enough = tasks.handoffs - planning.handoffs >= world.spec.replan_after
    if capacity and (first or enough or tasks.quiescent):
        return PlanStep(planning, planner=PlannerTask(planning.iteration + 1, 1), iteration=planning.iteration + 1)
    return PlanStep(planning)


def _failed(world: World, reason: str, message: str) -> PlanStep:
    return PlanStep(replace(world.planning, complete=True), failed=(reason, message))
