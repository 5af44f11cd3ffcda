"""A build beside its tasks' own gates: slots go on to others, and the build stays open."""

from __future__ import annotations

from tests.support.builds_model import Model, build_object, static


def two_tasks() -> Model:
    model = Model(build_object(planning=static({"name": "a"}, {"name": "b"}), workers={"maxParallel": 1}))
    model.settle()
    return model


def test_a_task_whose_own_gates_run_gives_its_slot_to_the_next_and_keeps_the_build_open() -> None:
    model = two_tasks()
    assert model.start("mk-1-a")
    assert model.gate("mk-1-a")
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-b"]
    assert model.build["status"]["tasks"]["active"] == 1
    assert model.start("mk-1-b")
    assert model.end("mk-1-b")
    model.make_jobs()
    model.settle()
    assert model.finish_job("mk-1-b-1", merged=True)
    for _ in range(3):  # free for others, and never given back to a task that can't start
        model.reconcile()
        assert model.build["status"]["slots"] == []
    assert not model.finalized
    assert model.after_gates("mk-1-a", "Pending")
    model.settle()
    assert model.build["status"]["slots"] == []  # not before its time
    model.tick(4)
    model.settle()
    assert model.build["status"]["slots"] == ["mk-1-a"]
    model.drive()
    assert model.condition("Finalized")["reason"] == "Passed"


def test_work_that_its_own_gates_refused_is_listed_with_its_ref() -> None:
    model = two_tasks()
    assert model.start("mk-1-a")
    assert model.gate("mk-1-a")
    assert model.after_gates("mk-1-a", "Failed")
    model.drive()
    assert model.condition("Finalized")["reason"] == "Exhausted"
    [left] = model.build["status"]["unmerged"]
    assert left["task"] == "mk-1-a"
    assert left["ref"].startswith("refs/tidegate/tasks/")


def test_a_cancel_reaches_a_task_whose_own_gates_run() -> None:
    model = two_tasks()
    assert model.start("mk-1-a")
    assert model.gate("mk-1-a")
    model.patch("BuildRequest", "mk", {"spec": {"desiredState": "Cancelled"}})
    model.drive()
    assert model.condition("Finalized")["reason"] == "Cancelled"
    states = {model.state(task) for task in model.all("AgentTask")}
    assert states == {"Cancelled"}
