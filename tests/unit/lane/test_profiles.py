"""Which profiles a change must pass: the lane's, its own, or the default for its task's role."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.support.valid import COMMIT, URL
from tidegate import names
from tidegate.api.views import LaneView, MergeJobView
from tidegate.lane.index import install_indexes
from tidegate.lane.observe import base_retry, gates_for
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings

NOTHING = cast("Any", None)


def obj(kind: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": "5", **meta}
    return {"kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def ctx() -> Context:
    ctx = Context(Settings(), NOTHING, Cache(watched_kinds()), WorkQueue(), NOTHING)
    for name in ("minimal", "standard", "strict"):
        gate = {"name": name, "image": "a", "command": ["x"]}
        ctx.cache.offer("GateProfile", obj("GateProfile", name, {"gates": [gate]}, namespace=""))
    return ctx


def gates(ctx: Context, role: str = "Worker", required: str = "", own: str = "", uid: str = "uid-t") -> set[str]:
    ctx.cache.offer("AgentTask", obj("AgentTask", "t", {"role": role, "prompt": "p"}))
    spec: dict[str, Any] = {
        "repository": {"url": URL}, "sourceRef": "refs/heads/x", "sourceCommit": COMMIT,
        "taskRef": {"name": "t", "uid": uid},
    }  # fmt: skip
    if own:
        spec["gateProfileName"] = own
    lane = {"repository": {"url": URL}, **({"requiredGateProfileName": required} if required else {})}
    view = LaneView.from_object(obj("MergeLane", "l", lane))
    found = gates_for(ctx, view, (MergeJobView.from_object(obj("MergeJob", "j", spec)),))
    assert not found.problems
    return {gate.name for gate in found.of_job["uid-j"]}


@pytest.mark.parametrize(("asked", "seconds"), [([], 60.0), ([None], 60.0), ([300, 120], 120.0), ([30, None], 30.0)])
def test_a_red_head_is_looked_at_as_often_as_its_builds_ask(
    ctx: Context, asked: list[int | None], seconds: float
) -> None:
    install_indexes(ctx)
    for number, interval in enumerate(asked):
        sweep = {"sweep": {"errorIntervalSeconds": interval}} if interval else {}
        build = {"repository": {"url": URL}, "request": "x", **sweep}
        ctx.cache.offer("BuildRequest", obj("BuildRequest", f"b{number}", build))
    lane = obj("MergeLane", names.lane_name(URL, "main"), {"repository": {"url": URL}})
    assert base_retry(ctx, LaneView.from_object(lane)) == seconds


@pytest.mark.parametrize(
    ("role", "profile"),
    [("Worker", "standard"), ("Fixer", "standard"), ("Reviewer", "strict"), ("Tester", "minimal")],
)
def test_the_default_goes_by_the_role_of_the_task(ctx: Context, role: str, profile: str) -> None:
    assert gates(ctx, role) == {profile}


def test_a_role_loosens_nothing_that_anybody_named(ctx: Context) -> None:
    assert gates(ctx, "Tester", required="strict") == {"strict"}
    assert gates(ctx, "Tester", own="standard") == {"standard"}
    assert gates(ctx, "Tester", required="strict", own="standard") == {"strict", "standard"}


def test_the_role_of_another_task_of_that_name_says_nothing(ctx: Context) -> None:
    assert gates(ctx, "Tester", uid="another") == {"standard"}


def require(ctx: Context, **more: Any) -> None:
    gate = {"name": "audit", "image": "a", "command": ["x"]}
    host = URL.partition("://")[2].partition("/")[0]
    spec = {"gates": [gate], "requiredFor": [{"repository": host, "branch": "main"}], **more}
    ctx.cache.offer("GateProfile", obj("GateProfile", "audit", spec, namespace=""))


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({}, {"standard", "audit"}),
        ({"own": "minimal"}, {"minimal", "audit"}),
        ({"required": "strict", "own": "minimal"}, {"strict", "minimal", "audit"}),
        ({"own": "audit"}, {"audit"}),
    ],
)
def test_what_the_platform_requires_is_added_whatever_was_chosen(
    ctx: Context, chosen: dict[str, str], wanted: set[str]
) -> None:
    require(ctx)
    assert gates(ctx, **chosen) == wanted


def test_nothing_lands_from_a_namespace_that_may_not_use_what_is_required(ctx: Context) -> None:
    require(ctx, allowedNamespaces=["other"])
    with pytest.raises(AssertionError):
        gates(ctx)
