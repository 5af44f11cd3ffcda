"""Own gates through the real rooms: cache, indexes, observe, decide, act. Only the API server is a dictionary."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import taskworld as w
from tests.support.builds_model import NS, URL, Model, build_object
from tidegate import names
from tidegate.api.gates import gate_key
from tidegate.api.wire import AgentInput
from tidegate.lane import reconcile as lane
from tidegate.runtime.cache import Cache
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import watched_kinds
from tidegate.runtime.queue import WorkQueue
from tidegate.settings import Settings
from tidegate.tasks import reconcile as tasks
from tidegate.tasks.continuation import own_run_name

Object = dict[str, Any]
LANE = names.lane_name(URL, "main")
LOG = "E   assert 1 == 2\n# At the end\n"


class World(Model):
    """A task `t` that stands alone, its lane, its class, its profile with two gates."""

    def __init__(self, *, slots: int = 4) -> None:
        super().__init__(build_object("unused"), gates=())
        self.lead()
        for kind, obj in {
            "AgentClass": {"metadata": {"name": "c"}, "spec": {"image": "i", "engine": {"protocol": "Exec"}}},
            "GateProfile": {"metadata": {"name": "p"}, "spec": {"gates": [w.gate("tests"), w.gate("lint")]}},
            "MergeLane": {"metadata": {"name": LANE}, "spec": {"repository": {"url": URL}, "gateSlots": slots}},
        }.items():
            self.create(kind, obj, "" if kind != "MergeLane" else NS)
        self.status("MergeLane", LANE, {"conditions": [{"type": "Ready", "status": "True", "reason": "Probed"}]})
        spec = {
            "repository": {"url": URL}, "prompt": "Write it", "agentClassName": "c", "ownGates": {"profileName": "p"}
        }  # fmt: skip
        self.create("AgentTask", {"metadata": {"name": "t"}, "spec": spec})

    def lead(self, without: str = "") -> None:
        """A new leader: nothing is known but what is stored, and of one kind not even that."""
        self.cache = Cache(watched_kinds())
        self.store.cache = self.cache
        self.ctx = Context(
            settings=Settings(), kube=self.store, cache=self.cache, queue=WorkQueue(), writer=self.store,  # type: ignore[arg-type]
            now=lambda: self.clock, monotonic=lambda: next(self.looks),
        )  # fmt: skip
        tasks.install(self.ctx)
        lane.install(self.ctx)
        for (kind, _), obj in self.store.objects.items():
            if kind in watched_kinds() and kind != without:
                self.cache.offer(kind, copy.deepcopy(obj))

    def work(self, *kinds: str) -> None:
        """Reconcile until nothing is written any more."""
        for _ in range(30):
            before = self.store.calls
            for kind in kinds or ("AgentTask", "GateRun"):
                for name in [n for k, n in list(self.store.objects) if k == kind]:
                    self.run(self.ctx.reconcilers[kind](Key(kind, NS, name)))
            if self.store.calls == before:
                return
        raise AssertionError("no rest")

    @property
    def task(self) -> Object:
        return self.store.objects["AgentTask", "t"]

    def condition_of(self, type_: str = "Succeeded") -> tuple[str, str]:
        found = [c for c in self.task["status"]["conditions"] if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def agent_ends(self, number: int, commit: str) -> None:
        """The agent of an attempt ends well."""
        said = w.report(commit=commit, ref=names.task_ref(self.task["metadata"]["uid"]))
        ended = w.pod_object(
            attempt=number, phase="Succeeded", agent=w.terminated(), publisher=w.terminated(message=said.dumps())
        )
        self.status("Pod", f"t-{number}", ended["status"])

    def gate_pods(self, *, running: bool = True) -> list[str]:
        """Names of the gate Pods, by default of those that have not ended."""
        pods = [p for p in self.all("Pod") if p["metadata"]["labels"][names.LABEL_COMPONENT] == "gate"]
        ended = ("Succeeded", "Failed")
        return [p["metadata"]["name"] for p in pods if not running or p.get("status", {}).get("phase") not in ended]

    def gate_ends(self, pod: str, code: int) -> None:
        """A gate's Pod ends with that exit code."""
        state = w.terminated(code, message=LOG)
        statuses = [{"name": "gate", "state": state}]
        self.status("Pod", pod, {"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses})

    def all_gates_end(self, code: Callable[[str], int]) -> None:
        """Every gate's Pod ends, as they get their slots."""
        while pods := self.gate_pods():
            for pod in pods:
                self.gate_ends(pod, code(pod))
            self.work()

    def runs(self) -> dict[str, Object]:
        return {run["metadata"]["name"]: run for run in self.all("GateRun")}


@pytest.fixture
def world() -> World:
    """At the point where the first attempt has ended well and its own gates run."""
    made = World()
    made.work()
    made.agent_ends(1, "c" * 40)
    made.work()
    return made


def test_from_a_failing_gate_to_the_lane(world: World) -> None:
    assert world.task["status"]["state"] == "Gating"
    assert len(world.runs()) == len(world.gate_pods()) == 2
    assert {r["metadata"]["ownerReferences"][0]["uid"] for r in world.runs().values()} == {
        world.task["metadata"]["uid"]
    }
    world.all_gates_end(lambda pod: int(pod.startswith("tests")))
    assert world.condition_of() == ("Unknown", "Continuing")
    assert not world.all("MergeJob")
    world.tick(4)
    world.work()
    pod = world.store.objects["Pod", "t-2"]
    env = {e["name"]: e.get("value", "") for e in pod["spec"]["initContainers"][0]["env"]}
    told = AgentInput.loads(env["TIDEGATE_INPUT"].replace("$$", "$"))
    assert (told.merge_ref, told.merge_commit) == (names.task_ref(world.task["metadata"]["uid"]), "c" * 40)
    assert "## Gate tests failed (GateFailed)\n| exit code 1\n| E   assert 1 == 2\n| # At the end" in told.prompt
    assert "Gate lint" not in told.prompt
    world.agent_ends(2, "e" * 40)
    world.work()
    assert len(world.gate_pods()) == 2
    world.all_gates_end(lambda _: 0)
    assert world.condition_of() == ("True", "Completed")
    [job] = world.all("MergeJob")
    assert job["spec"]["sourceCommit"] == "e" * 40
    assert world.task["status"]["continuations"] == 1
    assert [a["outcome"] for a in world.task["status"]["attempts"]] == ["Failed", "Complete"]
    assert [reason for _, reason, _ in world.store.events].count("OwnGatesFailed") == 1
    world.tick(400)
    world.work()
    assert not world.runs()


def test_a_new_leader_goes_on_and_starts_nothing_twice(world: World) -> None:
    before = {name: run["metadata"]["uid"] for name, run in world.runs().items()}
    world.lead()
    world.work()
    assert {name: run["metadata"]["uid"] for name, run in world.runs().items()} == before
    world.all_gates_end(lambda _: 1)
    world.tick(4)
    world.lead()
    world.work()
    assert ("Pod", "t-2") in world.store.objects
    assert world.task["status"]["continuations"] == 1


def test_a_cache_that_is_behind_makes_no_second_run(world: World) -> None:
    before = {name: run["metadata"]["uid"] for name, run in world.runs().items()}
    world.lead(without="GateRun")
    world.work("AgentTask")
    assert {name: run["metadata"]["uid"] for name, run in world.runs().items()} == before
    world.all_gates_end(lambda _: 0)
    assert world.condition_of() == ("True", "Completed")


def test_a_cancel_takes_the_runs_away(world: World) -> None:
    world.patch("AgentTask", "t", {"spec": {"desiredState": "Cancelled"}})
    world.work("AgentTask")
    assert world.task["status"]["state"] == "Cancelled"
    assert not world.runs()
    world.work("AgentTask")


def test_somebody_elses_run_stalls_the_task_until_it_is_gone() -> None:
    world = World()
    world.work()
    uid = world.task["metadata"]["uid"]
    name = own_run_name(uid, "tests", gate_key(w.gate("tests")), "c" * 40, 1)
    foreign = {"commit": "c" * 40, "gate": w.gate("tests"), "repository": {"url": URL}, "purpose": "Task"}
    world.create("GateRun", {"metadata": {"name": name}, "spec": foreign})
    world.status("GateRun", name, {"verdict": "Passed"})
    world.agent_ends(1, "c" * 40)
    world.work("AgentTask")
    assert world.condition_of("Stalled") == ("True", "NameTaken")
    world.run(world.store.delete("GateRun", NS, name))
    world.work("AgentTask")
    assert world.condition_of("Stalled") == ("", "")
    assert world.runs()[name]["metadata"]["ownerReferences"][0]["uid"] == uid


def test_slots_hold_and_the_lanes_own_runs_go_first() -> None:
    world = World(slots=1)
    world.work()
    world.agent_ends(1, "c" * 40)
    world.work()
    assert (len(world.runs()), len(world.gate_pods())) == (2, 1)
    candidate = {
        "repository": {"url": URL}, "laneRef": {"name": LANE}, "commit": "f" * 40, "fetchRef": "refs/x/y",
        "purpose": "Candidate", "gate": w.gate("build"),
    }  # fmt: skip
    world.create("GateRun", {"metadata": {"name": "build-x-1"}, "spec": candidate})
    [first] = world.gate_pods()
    world.gate_ends(first, 0)
    waiting = next(name for name in world.runs() if name not in (first, "build-x-1"))
    for name in (first, waiting):
        world.run(world.ctx.reconcilers["GateRun"](Key("GateRun", NS, name)))
    assert world.gate_pods() == []
    world.work()
    assert world.gate_pods() == ["build-x-1"]
    world.all_gates_end(lambda _: 0)
    assert world.condition_of() == ("True", "Completed")


def woken(world: World) -> set[str]:
    """The tasks and runs in the queue, which is empty afterwards."""
    found = set()
    while world.ctx.queue.ready():
        key = world.run(world.ctx.queue.get())
        world.ctx.queue.done(key)
        found.add(f"{key.kind}/{key.name}")
    return found


def test_what_concerns_a_task_wakes_it(world: World) -> None:
    woken(world)
    first, second = world.runs()
    world.status("GateRun", first, {"startTime": "2026-01-01T00:00:00Z"})
    assert "AgentTask/t" not in woken(world)
    world.status("GateRun", first, {"verdict": "Passed"})
    assert "AgentTask/t" in woken(world)
    world.run(world.store.delete("GateRun", NS, second))
    assert "AgentTask/t" in woken(world)
    generation = {"metadata": {"generation": 2}, "spec": {"gates": [w.gate("tests")]}}
    world.patch("GateProfile", "p", generation)
    assert "AgentTask/t" in woken(world)
    world.work("AgentTask")
    assert world.condition_of() == ("True", "Completed")
