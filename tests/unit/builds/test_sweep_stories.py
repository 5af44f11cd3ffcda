"""Sweeps of whole builds: what they leave behind, and what they do in a cluster or a lane that gives them trouble."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.builds_model import Model, build_object, static
from tests.unit.builds.test_stories import run_task
from tidegate.api.gates import MARKERS


def sweeps(model: Model) -> set[int]:
    """Numbers of the sweeps whose runs exist."""
    return {run["spec"]["number"] for run in model.all("GateRun")}


def working(**spec: Any) -> Model:
    """A build with a task that runs on and on."""
    model = Model(build_object(planning=static({"name": "a"}, {"name": "b"}), **spec), gates=("tests", "lint"))
    model.settle()
    assert model.start("mk-1-a")
    return model


def finish(model: Model, verdict: str = "Passed") -> None:
    for run in model.gate_runs():
        model.finish_gate(run["metadata"]["name"], verdict)
    model.settle()


def test_old_sweeps_leave_nothing_behind() -> None:
    model = working()
    for number in range(1, 9):
        model.tick(301)
        model.head = model.commit()
        model.lane()
        model.settle()
        assert max(sweeps(model)) == number
        assert len(sweeps(model)) <= 3
        finish(model)
    assert model.condition("SweepGreen")["status"] == "True"


@pytest.mark.parametrize("half", [True, False])
def test_a_sweep_of_an_old_head_is_given_up_and_frees_its_slots(half: bool) -> None:
    model = working()
    model.tick(301)
    model.settle()
    first, second = (run["metadata"]["name"] for run in model.gate_runs())
    if half:
        model.finish_gate(first, "Failed")
    model.head = model.commit()
    model.settle()
    assert model.gate_runs() == []
    assert (("GateRun", first) in model.store.objects) is half
    assert ("GateRun", second) not in model.store.objects
    assert model.condition("SweepGreen")["status"] == "Unknown"  # it never counted
    assert not [task for task in model.all("AgentTask") if task["spec"].get("role") == "Fixer"]
    model.tick(290)
    model.settle()
    assert model.gate_runs() == []
    model.tick(20)
    model.settle()
    assert {run["spec"]["commit"] for run in model.gate_runs()} == {model.head}


def test_a_cluster_that_refuses_every_pod_is_not_asked_without_a_pause() -> None:
    model = Model(build_object(planning=static({"name": "a"}), finalization={"maxAttempts": 1}))
    run_task(model, "mk-1-a")
    model.finish_job("mk-1-a-1", merged=True)
    model.settle()
    for _ in range(60):
        finish(model, "Infra")
        model.tick(1)
    assert 1 < max(sweeps(model)) <= 4
    for _ in range(300):
        finish(model, "Infra")
        model.tick(1)
    assert model.condition("Finalized")["reason"] == "Exhausted"
    assert "no verdict" in model.condition("Finalized")["message"]


def test_a_sweep_runs_what_the_platform_requires_too() -> None:
    model = working()
    gates = [{"name": "audit", "image": "gate", "command": ["check"]}]
    spec = {"gates": gates, "requiredFor": [{"repository": "**", "branch": "main"}]}
    model.create("GateProfile", {"metadata": {"name": "audited"}, "spec": spec}, namespace="")
    model.tick(301)
    model.settle()
    assert {run["spec"]["gate"]["name"] for run in model.gate_runs()} == {"tests", "lint", "audit"}


@pytest.mark.parametrize("own", [False, True])
def test_every_sweep_looks_for_conflicts_with_our_gate_or_a_profiles_own(own: bool) -> None:
    names = ("tests", MARKERS) if own else ("tests",)
    model = Model(build_object(planning=static({"name": "a"})), gates=names)
    model.settle()
    assert model.start("mk-1-a")
    model.tick(301)
    model.settle()
    [run] = [run for run in model.all("GateRun") if run["spec"]["gate"]["name"] == MARKERS]
    assert (run["spec"]["gate"]["command"] == ["check", MARKERS]) is own
