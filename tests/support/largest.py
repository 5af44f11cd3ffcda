"""The largest object of each kind that the API server takes."""

from __future__ import annotations

from typing import Any

from tests.support.fill import filled
from tidegate import names
from tidegate.api.crd import open_api_schema
from tidegate.api.printing import KindInfo
from tidegate.api.v1alpha1.agentclass import MAX_ENGINE_TEXT
from tidegate.api.v1alpha1.buildrequest import MAX_PLAN_TEXT
from tidegate.api.v1alpha1.gateprofile import MAX_GATES_TEXT

Object = dict[str, Any]


def largest_status(kind: KindInfo) -> Object:
    """A status with everything filled to its bound; empty for kinds without one."""
    schema = open_api_schema(kind)["properties"].get("status")
    return filled(schema, "status") if schema else {}


def largest_spec(kind: KindInfo) -> Object:
    """A spec with everything filled to its bound, as far as the rules over several fields allow."""
    spec: Object = filled(open_api_schema(kind)["properties"]["spec"], "spec")
    match kind.kind:
        case "BuildRequest":
            _plan(spec["planning"])
        case "AgentTask":
            del spec["resolves"]  # only beside buildRef, in whose place the bigger `repository` stands
            spec["role"] = "Reviewer"
            del spec["ownGates"]  # never beside the bigger `reviews`
        case "AgentClass":
            _share(MAX_ENGINE_TEXT, [spec["engine"]])
        case "GateProfile":
            _share(MAX_GATES_TEXT, spec["gates"])
        case "GateRun":
            _share(MAX_GATES_TEXT, [spec["gate"]])
        case _:
            pass
    return spec


def largest(kind: KindInfo, name: str) -> Object:
    """The largest object, without its status."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind.kind,
        "metadata": {"name": name.ljust(names.MAX_NAME, "x")},
        "spec": largest_spec(kind),
    }


def _plan(planning: Object) -> None:
    """All tasks, each with as many entries as may be, their texts shortened to the common limit."""
    del planning["agentClassName"]
    tasks = planning["tasks"]
    for number, task in enumerate(tasks):
        task["name"] = f"t{number}".ljust(63, "x")
        task["scope"] = [f"{entry:02}" for entry in range(len(task["scope"]))]
        task["acceptance"] = ["a" for _ in task["acceptance"]]
        task["dependsOn"] = []
        task["prompt"] = "p"
    for number in range(20):
        tasks[number]["dependsOn"] = [task["name"] for task in tasks[: min(number, 16)]]
    spare = MAX_PLAN_TEXT - sum(
        len(task["prompt"]) + sum(map(len, (*task["scope"], *task["acceptance"], *task["dependsOn"]))) for task in tasks
    )
    for task in tasks:
        more = min(spare, 4095)
        task["prompt"] += "p" * more
        spare -= more


def _share(limit: int, holders: list[Object]) -> None:
    """As many words and variables as may be, with the common limit's characters shared among them."""
    for holder in holders:
        for key in ("command", "args"):
            if key in holder:
                holder[key] = ["w" for _ in holder[key]]
        for part in ("coverage", "tests"):
            if part in holder:
                holder[part]["paths"] = [f"{number}" for number, _ in enumerate(holder[part]["paths"])]
        holder["env"] = [{"name": f"A{number:03}", "value": ""} for number, _ in enumerate(holder["env"])]
    spare = limit - sum(
        sum(map(len, (*holder["command"], *holder.get("args", []), *_paths(holder)))) + 4 * len(holder["env"])
        for holder in holders
    )
    for holder in holders:
        more = min(spare, 8191)
        holder["command"][0] += "w" * more
        spare -= more


def _paths(holder: Object) -> list[str]:
    return [path for part in ("coverage", "tests") if part in holder for path in holder[part]["paths"]]
