"""A planner's answer, field by field."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tidegate.builds.decide.world import PlanError
from tidegate.builds.plan import read_handoff, read_plan


def plan_of(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": [{"prompt": "do it", **task} for task in tasks]}


def test_a_good_plan_is_read_whole() -> None:
    found = read_plan(
        plan_of(
            {"name": "a", "role": "Tester", "scope": ["src/*", "src/*"], "acceptance": ["tests/a.py"], "priority": 1},
            {"name": "b", "dependsOn": ["a", "a"]},
        )
    )
    assert not isinstance(found, PlanError)
    assert [(t.name, t.role, t.scope, t.acceptance, t.priority, t.depends_on) for t in found] == [
        ("a", "Tester", ("src/*",), ("tests/a.py",), 1, ()),
        ("b", "Worker", (), (), 5, ("a",)),
    ]


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({}, "tasks"),
        ({"tasks": "none"}, "tasks"),
        ({"tasks": [], "model": "big"}, "model"),
        ({"tasks": [{"name": "a"}]}, "tasks[0].prompt"),
        (plan_of({"name": "Not A Name"}), "tasks[0].name"),
        (plan_of({"name": "a" * 64}), "tasks[0].name"),
        (plan_of({"name": "plan-2"}), "tasks[0].name"),
        (plan_of({"name": "a"}, {"name": "a"}), "tasks[1].name"),
        (plan_of({"name": "a", "prompt": " "}), "tasks[0].prompt"),
        (plan_of({"name": "a", "prompt": "x" * 4097}), "tasks[0].prompt"),
        (plan_of({"name": "a", "role": "Planner"}), "tasks[0].role"),
        (plan_of({"name": "a", "role": "Fixer"}), "tasks[0].role"),
        (plan_of({"name": "a", "agentClassName": "root"}), "tasks[0].agentClassName"),
        (plan_of({"name": "a", "gateProfileName": "none"}), "tasks[0].gateProfileName"),
        (plan_of({"name": "a", "priority": 0}), "tasks[0].priority"),
        (plan_of({"name": "a", "priority": 11}), "tasks[0].priority"),
        (plan_of({"name": "a", "scope": ["/etc/passwd"]}), "tasks[0].scope"),
        (plan_of({"name": "a", "scope": ["src/../../x"]}), "tasks[0].scope"),
        (plan_of({"name": "a", "scope": ["s"] * 33}), "tasks[0].scope"),
        (plan_of({"name": "a", "acceptance": [""]}), "tasks[0].acceptance[0]"),
        (plan_of({"name": "a", "dependsOn": ["b"]}, {"name": "b"}), "tasks[0].dependsOn"),
        (plan_of({"name": "a", "dependsOn": ["a"]}), "tasks[0].dependsOn"),
        (plan_of({"name": "a", "depends_on": []}), "tasks[0].depends_on"),
        (plan_of(*({"name": f"t{n}"} for n in range(201))), "tasks"),
    ],
)
def test_a_bad_plan_names_the_field(plan: dict[str, Any], field: str) -> None:
    found = read_plan(plan)
    assert isinstance(found, PlanError)
    assert found.field == field
    assert found.message


def test_a_handoff_without_a_plan_is_refused() -> None:
    assert read_handoff(b"{") == PlanError("handoff", read_handoff(b"{").message)  # type: ignore[union-attr]
    for text in (b"[]", b"{}", b'{"plan": []}', b'{"status": "Complete", "plan": null}'):
        found = read_handoff(text)
        assert isinstance(found, PlanError)
        assert found.field == "plan"


def test_a_handoff_with_a_plan_is_read() -> None:
    found = read_handoff(orjson.dumps({"status": "Complete", "summary": "s", "plan": plan_of({"name": "a"})}))
    assert not isinstance(found, PlanError)
    assert [task.name for task in found] == ["a"]
