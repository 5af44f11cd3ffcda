"""Any sequence of events, crashes and stale views: never two active Pods, one terminal state, a cancel wins, own gates
are passed before a task is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support import taskworld as w
from tidegate.api import reasons
from tidegate.api.views import GateRunView, MergeJobView, PodView, TaskView
from tidegate.api.wire import PublisherReport
from tidegate.tasks import states, times
from tidegate.tasks.decide import decide
from tidegate.tasks.model import INFRASTRUCTURE_LIMIT, NO_PROBLEM, Decision, Observed, Policy, Problem, RunStart
from tidegate.tasks.outcome import FoundRefs
from tidegate.tasks.reconcile import MAX_LOOKS

OWN = w.own_gates("tests", "lint")
POLICY = Policy(retry_limit=2, pod_retention_seconds=50, start_timeout_seconds=100, pull_grace_seconds=20)


@dataclass
class Server:
    """The API server, one task's part of it, with optimistic concurrency."""

    task: dict[str, Any] = field(default_factory=lambda: w.task_object())
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, MergeJobView] = field(default_factory=dict)
    runs: dict[str, GateRunView] = field(default_factory=dict)
    passed: set[tuple[str, str]] = field(default_factory=set)  # gate and commit
    gated: bool = False
    slots: tuple[str, ...] = ("t",)
    now: datetime = w.NOW
    version: int = 1
    uids: int = 0
    strays: set[str] = field(default_factory=set)  # UIDs of Pods that a leader of old made
    quota_used_up: bool = False
    cancelled_before_end: bool = False

    def view(self) -> TaskView:
        return TaskView.from_object(self.task)

    def write_status(self, patch: Any, version: int) -> bool:
        """False: the task has moved."""
        if version != int(self.task["metadata"]["resourceVersion"]):
            return False
        before = self.view().state
        self.task = {**self.task, "status": w.merged(self.task["status"], patch)}
        self.bump()
        after = self.view().state
        states.step(before, after)  # raises where there is no such step
        return True

    def bump(self) -> None:
        self.version += 1
        self.task = {**self.task, "metadata": {**self.task["metadata"], "resourceVersion": str(self.version)}}

    def active(self) -> list[PodView]:
        views = (PodView.from_object(pod) for pod in self.pods.values())
        return [view for view in views if not view.terminal]

    def create_pod(self, number: int) -> bool:
        """False: the name is taken."""
        name = f"t-{number}"
        if name in self.pods:
            return False
        self.uids += 1
        self.version += 1
        self.pods[name] = w.pod_object(
            attempt=number, phase="Pending", workspace=w.waiting(), publisher=w.waiting(), agent=w.waiting(),
            uid=f"pod-{self.uids}", version=self.version,
        )  # fmt: skip
        return True


class Leader:
    """One operator: its view of the world may be old, and it may die between any two steps of an act."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.remembered: Observed | None = None
        self.vanished: PodView | None = None

    def observe(self) -> Observed:
        server = self.server
        task = server.view()
        last = self.vanished
        return w.observed(
            task,
            now=server.now,
            policy=POLICY,
            build=w.build(slots=server.slots),
            pods=tuple(PodView.from_object(p) for p in server.pods.values()),
            jobs=tuple(server.jobs.values()),
            preflight=NO_PROBLEM,
            own_gates=OWN if server.gated else None,
            runs=tuple(server.runs.values()),
            last_seen=last if last is not None and last.attempt == task.attempt else None,
        )

    def look(self, seen: Observed, needs: frozenset[str], refs: FoundRefs) -> Observed:
        if "pod" in needs:
            found = self.server.pods.get(f"t-{seen.task.attempt}")
            if found is None:
                seen = replace(seen, newest_pod_gone=True)
            else:
                seen = replace(seen, pods=(*seen.pods, PodView.from_object(found)))
        return replace(seen, refs=refs) if "refs" in needs else seen

    def decided(self, seen: Observed, refs: FoundRefs) -> tuple[Observed, Decision]:
        decision = decide(seen)
        for _ in range(MAX_LOOKS):
            if not decision.needs:
                return seen, decision
            seen = self.look(seen, decision.needs, refs)
            decision = decide(seen)
        raise AssertionError(f"looking closer settles nothing: {decision.needs}")

    def act(self, seen: Observed, decision: Decision, steps: int) -> None:
        """Carry out the first so many steps, in the order of reconcile.py."""
        server = self.server
        todo: list[Callable[[], bool]] = []
        if decision.status is not None:
            todo.append(lambda: server.write_status(decision.status, seen.task.meta.resource_version))
        if decision.create_pod is not None:
            number = decision.create_pod
            todo.append(lambda: self._create_pod(seen, number))
        todo += [lambda pod=pod: self._delete(pod.name, pod.uid) for pod in decision.delete_pods]  # type: ignore[misc]
        todo += [lambda start=start: self._create_run(seen, start) for start in decision.create_runs]  # type: ignore[misc]
        todo += [lambda run=run: self._delete_run(run.name, run.uid) for run in decision.delete_runs]  # type: ignore[misc]
        if decision.create_job:
            todo.append(lambda: self._create_job(seen))
        for step in todo[:steps]:
            if not step():
                return

    def _create_pod(self, seen: Observed, number: int) -> bool:
        if not self.server.quota_used_up:
            return self.server.create_pod(number)
        refused = replace(seen, refusal=Problem(reasons.QUOTA_EXCEEDED, "exceeded quota: pods"))
        return self.server.write_status(decide(refused).status, seen.task.meta.resource_version)

    def _delete(self, name: str, uid: str) -> bool:
        found = self.server.pods.get(name)
        if found is not None and found["metadata"]["uid"] == uid:
            view = PodView.from_object(found)
            if view.terminal or not view.node:
                del self.server.pods[name]
            else:
                found["metadata"]["deletionTimestamp"] = times.written(self.server.now)
        return True

    def _create_run(self, seen: Observed, start: RunStart) -> bool:
        commit = seen.task.status()["ownGates"]["commit"]
        made = w.gate_run(dict(start.gate), number=start.number, commit=commit)
        assert made.meta.name == start.name
        self.server.runs.setdefault(start.name, made)
        return True

    def _delete_run(self, name: str, uid: str) -> bool:
        if name in self.server.runs and self.server.runs[name].meta.uid == uid:
            del self.server.runs[name]
        return True

    def _create_job(self, seen: Observed) -> bool:
        name = f"t-{seen.task.attempt}"
        self.server.jobs.setdefault(name, w.job(name))
        return True


class TaskLife(RuleBasedStateMachine):
    """The world turns; leaders act on what they see, or saw."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.leader = Leader(self.server)
        self.zombie = Leader(self.server)
        self.last_terminal = ""

    @initialize(gated=st.booleans())
    def has_own_gates(self, gated: bool) -> None:
        self.server.gated = gated

    # -- leaders

    @rule(steps=st.sampled_from([9, 9, 9, 0, 1, 2]), published=st.booleans())
    def reconcile(self, steps: int, published: bool) -> None:
        refs = FoundRefs(result="c" * 40, report=w.report()) if published else FoundRefs()
        seen, decision = self.leader.decided(self.leader.observe(), refs)
        assert decide(seen) == decision
        self.leader.act(seen, decision, steps)

    @rule(how=st.sampled_from(["exit", "exit", "exit", "node", "node", "good"]))
    def an_attempt_runs(self, how: str) -> None:
        """As it mostly goes: a slot, a Pod, an end that is judged."""
        self.server.slots = ("t",)
        self.server.quota_used_up = False
        self.server.now += timedelta(seconds=300)
        for _ in range(2):  # a Pod of an old leader ends first: the attempt's own waits for that
            self.settle()
            for pod in self.server.active():
                self._move(pod.meta.name, how)
        self.settle()
        assert not self.server.view().attempt_open

    @rule(used_up=st.booleans())
    def quota(self, used_up: bool) -> None:
        self.server.quota_used_up = used_up

    @rule()
    def settle(self) -> None:
        """A leader that works until nothing is left to do comes to an end."""
        for _ in range(12):
            seen, decision = self.leader.decided(self.leader.observe(), FoundRefs())
            if not (decision.status or decision.create_pod or decision.create_job or decision.create_runs):
                self.leader.act(seen, decision, 9)
                return
            self.leader.act(seen, decision, 9)
        raise AssertionError(f"no rest: {decision}")

    @rule()
    def zombie_looks(self) -> None:
        self.zombie.remembered = self.zombie.observe()

    @rule(steps=st.integers(0, 2))
    def zombie_acts(self, steps: int) -> None:
        """Another leader acts on an old view. The build's slots it saw are old, too; its Pod list as well."""
        if self.zombie.remembered is not None:
            seen, decision = self.zombie.decided(self.zombie.remembered, FoundRefs())
            if decision.create_pod is not None and self.server.active():
                return  # the Lease is checked right before the write: no leader is that late
            before = set(self.server.pods)
            self.zombie.act(seen, decision, steps)
            made = set(self.server.pods) - before
            self.server.strays.update(self.server.pods[name]["metadata"]["uid"] for name in made)

    # -- the world

    @rule(held=st.sampled_from([True, True, True, False]))
    def build_gives_or_takes_the_slot(self, held: bool) -> None:
        task = self.server.view()
        if held or (not task.attempt_open and times.seconds_until(task.next_attempt_time, self.server.now) > 2):
            self.server.slots = ("t",) if held else ()

    @rule(seconds=st.sampled_from([1, 10, 60, 300]))
    def time_passes(self, seconds: int) -> None:
        self.server.now += timedelta(seconds=seconds)

    @rule(really=st.sampled_from([True, False, False, False, False, False]))
    def cancel(self, really: bool) -> None:
        if not really:
            return
        if self.server.view().state not in states.TERMINAL:
            self.server.cancelled_before_end = True
        self.server.task["spec"]["desiredState"] = "Cancelled"
        self.server.bump()

    @rule(data=st.data())
    def pod_moves(self, data: st.DataObject) -> None:
        """The kubelet reports: started, running, ended in one way or another."""
        alive = [p for p in self.server.pods.values() if not PodView.from_object(p).terminal]
        if not alive:
            return
        pod = data.draw(st.sampled_from(alive))
        hows = ["workspace", "running", "running", "good", "exit", "oom", "node", "silent", "init", "pull"]
        self._move(pod["metadata"]["name"], data.draw(st.sampled_from(hows)))

    def _move(self, name: str, how: str) -> None:
        kept, number = self.server.pods[name]["metadata"], int(name.rsplit("-", 1)[1])
        self.server.version += 1
        made = _moved(how, number)
        made["metadata"] = {**kept, "resourceVersion": str(self.server.version)}
        self.server.pods[kept["name"]] = made

    @rule(data=st.data(), watched=st.booleans())
    def pod_vanishes(self, data: st.DataObject, watched: bool) -> None:
        """Somebody removes a Pod, or its deletion comes to its end."""
        if not self.server.pods:
            return
        name = data.draw(st.sampled_from(sorted(self.server.pods)))
        pod = PodView.from_object(self.server.pods.pop(name))
        if watched and pod.terminal:
            self.leader.vanished = pod

    @rule(verdict=st.sampled_from(["Passed", "Failed", "Failed", "Infra"]), meddle=st.sampled_from(["", "", "cancel"]))
    def a_good_attempt_is_gated(self, verdict: str, meddle: str) -> None:
        """As it mostly goes where there are own gates."""
        self.an_attempt_runs("good")
        if meddle:
            self.cancel(True)
        for name in self._waiting_runs():
            self._end_run(name, verdict)
        self.settle()

    @rule(data=st.data(), verdict=st.sampled_from(["Passed", "Failed", "Infra"]))
    def gate_ends(self, data: st.DataObject, verdict: str) -> None:
        """A gate's Pod comes to its end."""
        if waiting := self._waiting_runs():
            self._end_run(data.draw(st.sampled_from(waiting)), verdict)

    @rule(rounds=st.integers(1, 8))
    def the_cluster_ends_gates(self, rounds: int) -> None:
        """Again and again."""
        for _ in range(rounds):
            for name in self._waiting_runs():
                self._end_run(name, "Infra")
            self.server.now += timedelta(seconds=300)
            self.settle()

    def _waiting_runs(self) -> list[str]:
        return sorted(name for name, run in self.server.runs.items() if not run.status.get("verdict"))

    def _end_run(self, name: str, verdict: str) -> None:
        spec, seconds = self.server.runs[name].spec, (self.server.now - w.NOW).total_seconds()
        ended = w.gate_run(spec["gate"], verdict, number=spec["number"], commit=spec["commit"], ended=seconds)
        self.server.runs[name] = ended
        if verdict == "Passed":
            self.server.passed.add((spec["gate"]["name"], spec["commit"]))

    @rule(data=st.data())
    def gate_run_vanishes(self, data: st.DataObject) -> None:
        if self.server.runs:
            del self.server.runs[data.draw(st.sampled_from(sorted(self.server.runs)))]

    @rule(data=st.data())
    def job_ends(self, data: st.DataObject) -> None:
        if self.server.jobs:
            name = data.draw(st.sampled_from(sorted(self.server.jobs)))
            good = data.draw(st.booleans())
            ends = {"Merged": ("True", "Landed")} if good else {"Succeeded": ("False", "GatesFailed")}
            self.server.jobs[name] = w.job(name, conditions=ends, mergedCommit="a" * 40)

    # -- what always holds

    @invariant()
    def at_most_one_active_pod(self) -> None:
        active = self.server.active()
        assert len(active) <= 1, active
        if not self.server.view().attempt_open:
            assert {pod.meta.uid for pod in active} <= self.server.strays

    @invariant()
    def one_terminal_state_for_ever(self) -> None:
        state = self.server.view().state
        if self.last_terminal:
            assert state == self.last_terminal
        if state in states.TERMINAL:
            self.last_terminal = state
            assert not self.server.view().attempt_open

    @invariant()
    def a_cancel_that_came_first_wins(self) -> None:
        state = self.server.view().state
        if self.server.cancelled_before_end and state in states.TERMINAL:
            assert state == "Cancelled"
            assert not self.server.jobs

    @invariant()
    def bounds_hold(self) -> None:
        status = self.server.view().status()
        assert len(status.get("attempts") or ()) <= 10
        assert int(status.get("failedAttempts") or 0) <= 3
        assert int(status.get("infrastructureFailures") or 0) <= 7
        assert int(status.get("continuations") or 0) <= OWN.max_continuations
        assert all(run.spec["number"] <= INFRASTRUCTURE_LIMIT + 1 for run in self.server.runs.values())

    @invariant()
    def what_is_complete_has_passed_its_own_gates(self) -> None:
        task = self.server.view()
        if self.server.gated and task.state == "Complete":
            assert {("tests", task.commit), ("lint", task.commit)} <= self.server.passed
        if task.state == "Gating":
            assert not self.server.jobs


def _moved(how: str, number: int) -> dict[str, Any]:
    silent = w.terminated(137)
    told = w.terminated(message=w.report(commit=str(number % 10) * 40).dumps())
    said = w.terminated(message=PublisherReport(base="b" * 40).dumps())
    if how == "workspace":
        return w.pod_object(attempt=number, phase="Pending", workspace=w.RUNNING, agent=w.waiting())
    if how == "running":
        return w.pod_object(attempt=number)
    if how == "good":
        return w.pod_object(attempt=number, phase="Succeeded", agent=w.terminated(), publisher=told)
    if how == "exit":
        return w.pod_object(attempt=number, phase="Failed", agent=w.terminated(3), publisher=said)
    if how == "oom":
        return w.pod_object(attempt=number, phase="Failed", agent=w.terminated(137, reason="OOMKilled"), publisher=said)
    if how == "node":
        return w.pod_object(attempt=number, phase="Failed", disrupted="DeletionByTaintManager", publisher=silent)
    if how == "silent":
        return w.pod_object(attempt=number, phase="Succeeded", agent=w.terminated(), publisher=silent)
    if how == "init":
        return w.pod_object(attempt=number, phase="Failed", workspace=w.terminated(1), agent=w.waiting())
    return w.pod_object(attempt=number, phase="Pending", agent=w.waiting("ErrImagePull"))


TaskLife.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTaskLife = TaskLife.TestCase
