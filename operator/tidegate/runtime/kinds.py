"""The kinds that are watched, with the view that the cache keeps of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.api import views
from tidegate.clients.resources import Resource, resource_of
from tidegate.names import MANAGED_PODS_SELECTOR

RESTING_TASKS = ("", "Pending", "Complete", "Partial", "Blocked", "Failed", "Cancelled")  # states without an attempt
ACTIVE_TASKS = ",".join(f"status.state!={state}" for state in RESTING_TASKS)
ACTIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"


class View(Protocol):
    """A frozen extract of an object."""

    @property
    def meta(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A watched kind: where it is served, what is kept of it, which of its objects are watched."""

    resource: Resource
    view: Callable[[dict[str, Any]], View]
    selector: str = ""  # label selector, applied by the server
    active: str = ""  # field selector of the few that hold a slot, of a kind with very many; applied by the server

    @property
    def name(self) -> str:
        """The kind's name, as in `kind:` of its objects."""
        return self.resource.kind


def watched_kinds() -> dict[str, Kind]:
    """Every kind that the operator watches, by name."""
    table: list[tuple[str, Any, str, str]] = [
        ("BuildRequest", views.BuildView, "", ""),
        ("AgentTask", views.TaskView, "", ACTIVE_TASKS),
        ("MergeJob", views.MergeJobView, "", ""),
        ("MergeLane", views.LaneView, "", ""),
        ("GateRun", views.GateRunView, "", ""),
        ("AgentClass", views.ClassView, "", ""),
        ("GateProfile", views.ProfileView, "", ""),
        ("Pod", views.PodView, MANAGED_PODS_SELECTOR, ACTIVE_PODS),
    ]
    return {kind: Kind(resource_of(kind), view.from_object, *selectors) for kind, view, *selectors in table}
