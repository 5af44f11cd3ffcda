"""The builds room under any interleaving of what its neighbours and people do."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.builds_model import NS, Model, build_object
from tidegate.builds.decide.build import decide
from tidegate.builds.decide.world import TERMINAL
from tidegate.builds.index import BuildIndex
from tidegate.builds.reconcile import BuildReconciler
from tidegate.runtime.keys import Key

CAP = 2
KEY = Key("BuildRequest", NS, "mk")

AFTER_GATES = {"own pass": "Complete", "own fail": "Failed", "go on": "Pending"}

names = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A static plan of up to five tasks."""
    tasks: list[dict[str, Any]] = []
    for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
        earlier = [task["name"] for task in tasks]
        deps = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
        tasks.append({"name": name, "prompt": "x", "priority": draw(st.integers(1, 10)), "dependsOn": deps})
    return tasks


steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "reconcile", "reconcile", "start", "start", "complete", "complete", "empty", "fail", "partial", "retry",
                "jobs", "merge", "merge", "eject", "gate pass", "gate fail", "gate infra", "tick", "hand-made",
                "delete task", "cancel task", "gating", "gating", "own pass", "own fail", "go on",
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=60,
)  # fmt: skip


def pick(found: list[Any], n: int) -> Any:
    return found[n % len(found)] if found else None


def take(model: Model, step: str, n: int) -> None:
    """Somebody takes a step, where it is possible."""
    tasks = [task["metadata"]["name"] for task in model.all("AgentTask")]
    jobs = [job["metadata"]["name"] for job in model.all("MergeJob") if not model.ended(job)]
    runs = [run["metadata"]["name"] for run in model.gate_runs()]
    ends = {
        "complete": ("Complete", True),
        "empty": ("Complete", False),
        "fail": ("Failed", True),
        "partial": ("Partial", True),
    }
    if step == "reconcile":
        model.reconcile()
    elif step == "start" and tasks:
        model.start(pick(tasks, n))
    elif step in ends and model.active():
        state, diff = ends[step]
        model.end(pick(model.active(), n), state, diff=diff)
    elif step == "gating" and model.active():
        model.gate(pick(model.active(), n))
    elif step in AFTER_GATES and model.gating():
        model.after_gates(pick(model.gating(), n), AFTER_GATES[step])
    elif step == "retry" and model.active():
        model.end(pick(model.active(), n), "Pending", backoff=float(n * 3))
    elif step == "jobs":
        model.make_jobs()
    elif step in ("merge", "eject") and jobs:
        model.finish_job(pick(jobs, n), merged=step == "merge")
    elif step.startswith("gate") and runs:
        model.finish_gate(pick(runs, n), {"pass": "Passed", "fail": "Failed", "infra": "Infra"}[step.split()[1]])
    elif step == "tick":
        model.tick([1, 5, 30, 61, 301, 2, 3, 10][n])
    else:
        person(model, step, n, tasks)


def person(model: Model, step: str, n: int, tasks: list[str]) -> None:
    """A person's step."""
    if step == "hand-made" and ("AgentTask", f"hand-{n}") not in model.store.objects:
        spec = {"buildRef": {"name": "mk"}, "prompt": "x", "priority": 1 + n}
        model.create("AgentTask", {"metadata": {"name": f"hand-{n}"}, "spec": spec})
    elif step == "delete task" and tasks and n < 2:
        idle = [name for name in tasks if name not in model.active()]
        if idle:
            model.run(model.store.delete("AgentTask", NS, pick(idle, n)))
    elif step == "cancel task" and tasks and n < 2:
        model.patch("AgentTask", pick(tasks, n), {"spec": {"desiredState": "Cancelled"}})
        model.answer_cancels()


def ready(model: Model) -> list[str]:
    """The order of dispatch by the book: computed from the objects alone."""
    tasks = {task["metadata"]["name"]: task for task in model.all("AgentTask")}

    def merged(name: str) -> bool:
        if name not in tasks:
            return False
        status = tasks[name].get("status", {})
        return any(c["type"] == "Merged" and c["status"] == "True" for c in status.get("conditions", []))

    def due(task: dict[str, Any]) -> bool:
        waits = task.get("status", {}).get("nextAttemptTime")
        return not waits or waits <= model.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    found = [
        task
        for task in tasks.values()
        if model.state(task) == "Pending"
        and any(owner["uid"] == model.build["metadata"]["uid"] for owner in task["metadata"].get("ownerReferences", []))
        and task["spec"].get("desiredState") != "Cancelled"
        and all(merged(dep["name"]) for dep in task["spec"].get("dependsOn", []))
        and due(task)
    ]
    found.sort(key=lambda t: (t["spec"].get("priority", 5), t["metadata"]["creationTimestamp"], t["metadata"]["name"]))
    return [task["metadata"]["name"] for task in found]


class Checked(Model):
    """A model whose every round of the builds room is checked."""

    def reconcile(self) -> float | None:
        """One round, with everything a round must keep."""
        if self.finalized:
            return super().reconcile()
        room = self.ctx.reconcilers["BuildRequest"]
        assert isinstance(room, BuildReconciler)
        view = self.cache.get(KEY)
        first, second = (self.run(room._observer.world(view)) for _ in range(2))
        changes = room._index.mergeable(view.meta.uid)
        assert decide(first, changes) == decide(second, changes)
        before = set(self.build.get("status", {}).get("slots", []))
        known = {task["metadata"]["name"] for task in self.all("AgentTask")}
        answer = super().reconcile()
        after = [name for name in ready(self) if name not in before]
        order = [name for name in after if name in known]  # adopted ones too, but not those this round has made
        slots = self.build.get("status", {}).get("slots", [])
        assert len(set(slots)) == len(slots) <= CAP
        granted = [name for name in slots if name not in before]
        assert granted == order[: len(granted)], "a later task got a slot before an earlier one"
        held = self.condition("Stalled") or not self.lane_up() or self.build["spec"].get("desiredState") == "Cancelled"
        if len(slots) < CAP and not held and not self.finalized:
            assert not [name for name in order if name not in slots], "a slot is free and a ready task has none"
        if self.condition("Finalized").get("reason") in ("Passed", "Exhausted"):
            assert not after, "the build ended although a task could start"
        return answer


def consistent(model: Model) -> None:
    """Slots hold every active task, and the indexes are what a rebuild gives."""
    slots = set(model.build.get("status", {}).get("slots", []))
    assert set(model.active()) <= slots or model.finalized
    assert len(model.active()) <= CAP
    room = model.ctx.reconcilers["BuildRequest"]
    assert isinstance(room, BuildReconciler)
    kept, fresh = room._index, BuildIndex(model.cache)
    fresh.rebuild()
    uid = model.build["metadata"]["uid"]
    fresh.promote(uid, model.clock)
    kept.promote(uid, model.clock)
    one, two = kept.state(uid), fresh.state(uid)
    for name in ("counts", "ready", "by_phase", "unsettled", "unmerged", "bad", "stalled", "fixing", "jobs_open"):
        a, b = getattr(one, name), getattr(two, name)
        if name == "counts":
            a, b = +a, +b
        assert a == b, name
    numbers = ("handoffs", "running_others", "usage", "jobs_merged")
    assert [getattr(one, n) for n in numbers] == [getattr(two, n) for n in numbers]
    assert set(kept.unowned(NS, "mk")) == set(fresh.unowned(NS, "mk"))


def check_end(model: Model) -> None:
    """What a terminal build promises."""
    assert model.finalized
    assert model.active() == []
    model.make_jobs()  # what the tasks room had still to queue is a queued MergeJob too
    assert [job for job in model.all("MergeJob") if not model.ended(job)] == []
    assert model.build["status"]["slots"] == []
    owned = [
        task
        for task in model.all("AgentTask")
        if task["metadata"].get("ownerReferences", [{}])[0].get("uid") == model.build["metadata"]["uid"]
    ]
    sound = [task for task in owned if "-fix-" not in task["metadata"]["name"]]
    if model.condition("Finalized")["reason"] == "Passed":
        assert [model.state(task) for task in sound] == ["Complete"] * len(sound)
        assert model.condition("SweepGreen")["status"] == "True"
        assert model.build["status"]["lastSweep"]["commit"] == model.head
        blocking = [u for u in model.build["status"]["unmerged"] if "-fix-" not in u["task"]]
        assert blocking == []
    else:
        assert model.condition("Finalized")["message"]
    assert all(model.state(task) in TERMINAL or model.state(task) == "Pending" for task in owned)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), script=steps, attempts=st.integers(1, 3), cancel=st.booleans())
def test_any_interleaving_keeps_the_cap_the_order_and_comes_to_an_end(
    plan: list[dict[str, Any]], script: list[tuple[str, int]], attempts: int, cancel: bool
) -> None:
    model = Checked(
        build_object(
            planning={"tasks": plan},
            workers={"maxParallel": CAP},
            finalization={"maxAttempts": attempts},
        )
    )
    model.settle()
    for step, n in script:
        take(model, step, n)
        consistent(model)
        model.lane()
        if model.finalized:
            break
    if cancel and not model.finalized:
        model.patch("BuildRequest", "mk", {"spec": {"desiredState": "Cancelled"}})
    model.drive()
    check_end(model)
    assert model.condition("Finalized")["reason"] in ("Passed", "Exhausted", *(["Cancelled"] if cancel else []))
