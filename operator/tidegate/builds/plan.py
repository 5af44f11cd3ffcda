"""A planner's answer: read from its handoff, checked field by field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from tidegate.api.v1alpha1.common import AcceptanceLine, LabelName, Priority
from tidegate.builds.decide.planning import order_error
from tidegate.builds.decide.world import PlanError, PlannedTask

MAX_PLAN_TASKS = 200
_PLANNER_NAME = re.compile(r"plan(-\d+)?")
_BAD_PATH = re.compile(r"^/|(^|/)\.\.(/|$)|[\x00-\x1f\x7f\\]")


class _Strict(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, extra="forbid")


class _Task(_Strict):
    """What a plan may say of a task; class, model, gates, limits and repository come from the build."""

    name: LabelName
    prompt: str = Field(min_length=1, max_length=4096, pattern=r"\S")
    role: Literal["Worker", "Tester"] = "Worker"
    scope: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(default=[], max_length=32)
    acceptance: list[AcceptanceLine] = Field(default=[], max_length=16)
    priority: Priority = 5
    depends_on: list[LabelName] = Field(default=[], max_length=16)

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if _PLANNER_NAME.fullmatch(name):
            raise ValueError("names like plan and plan-2 are Tidegate's own: choose another")
        return name

    @field_validator("scope")
    @classmethod
    def _relative(cls, scope: list[str]) -> list[str]:
        for path in scope:
            if _BAD_PATH.search(path):
                raise ValueError(f"{path!r} is no path inside the repository: no leading /, no .., no backslash")
        return list(dict.fromkeys(scope))


class _Plan(_Strict):
    tasks: list[_Task] = Field(max_length=MAX_PLAN_TASKS)


def read_handoff(data: bytes) -> tuple[PlannedTask, ...] | PlanError:
    """The plan in a handoff (key `plan`), or what is wrong with it."""
    try:
        handoff = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return PlanError("handoff", f"not JSON: {error}")
    if not isinstance(handoff, dict) or not isinstance(handoff.get("plan"), dict):
        return PlanError("plan", "missing: the handoff needs a key `plan` with `tasks`")
    return read_plan(handoff["plan"])


def read_plan(plan: dict[str, Any]) -> tuple[PlannedTask, ...] | PlanError:
    """The tasks of a plan, or the first field that is wrong."""
    try:
        checked = _Plan.model_validate(plan)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return PlanError(_path(first["loc"]), first["msg"][:300])
    tasks = tuple(
        PlannedTask(
            name=task.name,
            prompt=task.prompt,
            role=task.role,
            scope=tuple(task.scope),
            acceptance=tuple(task.acceptance),
            priority=task.priority,
            depends_on=tuple(dict.fromkeys(task.depends_on)),
        )
        for task in checked.tasks
    )
    return order_error(tasks) or tasks


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "plan"
