"""A task with own gates, worked by a leader that may die between any two steps: it ends as its gates say, however often
they were started, and none is started twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import cycle
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.property.test_tasks import Leader, Server
from tests.support import taskworld as w
from tidegate.api.views import PodView, TaskView
from tidegate.tasks import states
from tidegate.tasks.model import INFRASTRUCTURE_LIMIT, Observed, RunStart
from tidegate.tasks.outcome import FoundRefs

GATES = ("tests", "lint")
MOST = 2
ROUNDS = 400


class Fate(NamedTuple):
    """What becomes of one gate on one attempt's commit."""

    infra: int  # runs that the cluster ends before
    verdict: str


fates = st.builds(Fate, st.sampled_from([0, 0, 0, 1, 3, 6, 7]), st.sampled_from(["Passed", "Passed", "Failed"]))
attempts = st.lists(st.tuples(fates, fates), min_size=MOST + 1, max_size=MOST + 1)
crashes = st.lists(st.sampled_from([9, 9, 9, 0, 1, 2]), min_size=1, max_size=8).filter(any)


def expected(told: list[tuple[Fate, Fate]]) -> tuple[str, str, int]:
    """State, reason and number of attempts, told by nothing but the fates."""
    for number, gates in enumerate(told, 1):
        lost = [fate.infra > INFRASTRUCTURE_LIMIT for fate in gates]
        failed = any(fate.verdict == "Failed" and not gone for fate, gone in zip(gates, lost, strict=True))
        if failed and number <= MOST:
            continue
        if failed:
            return "Failed", "OwnGatesFailed", number
        return ("Failed", "InfrastructureExhausted", number) if any(lost) else ("Complete", "Completed", number)
    raise AssertionError("the last attempt always ends it")


class CountingLeader(Leader):
    """Remembers which GateRuns it made."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.made: Counter[str] = Counter()

    def _create_run(self, seen: Observed, start: RunStart) -> bool:
        self.made[start.name] += start.name not in self.server.runs
        return super()._create_run(seen, start)


def work(told: list[tuple[Fate, Fate]], steps: list[int]) -> tuple[TaskView, CountingLeader]:
    """The task's whole life."""
    server = Server(gated=True)
    leader = CountingLeader(server)
    for step, _ in zip(cycle(steps), range(ROUNDS), strict=False):
        seen, decision = leader.decided(leader.observe(), FoundRefs())
        leader.act(seen, decision, step)
        if server.view().state in states.TERMINAL:
            break
        server.now += timedelta(seconds=20)
        for name, pod in list(server.pods.items()):
            if not PodView.from_object(pod).terminal:
                number = int(name.rsplit("-", 1)[1])
                said = w.report(commit=f"{number:x}" * 40)
                made = w.pod_object(
                    attempt=number, phase="Succeeded", agent=w.terminated(),
                    publisher=w.terminated(message=said.dumps()),
                )  # fmt: skip
                server.pods[name] = {**made, "metadata": pod["metadata"]}
        for name, run in list(server.runs.items()):
            if not run.status.get("verdict"):
                spec, ended = run.spec, (server.now - w.NOW).total_seconds()
                fate = told[int(spec["commit"][0], 16) - 1][GATES.index(spec["gate"]["name"])]
                verdict = "Infra" if spec["number"] <= fate.infra else fate.verdict
                server.runs[name] = w.gate_run(
                    spec["gate"], verdict, number=spec["number"], commit=spec["commit"], ended=ended
                )
    return server.view(), leader


@settings(max_examples=150, deadline=None)
@given(told=attempts, steps=crashes)
@example(told=[(Fate(0, "Failed"), Fate(0, "Passed"))] * 3, steps=[9])
@example(told=[(Fate(7, "Passed"), Fate(6, "Passed"))] * 3, steps=[1])
@example(told=[(Fate(7, "Failed"), Fate(3, "Passed"))] * 3, steps=[2, 0])
def test_it_ends_as_its_gates_say_and_starts_none_twice(told: list[tuple[Fate, Fate]], steps: list[int]) -> None:
    view, leader = work(told, steps)
    status = view.status()
    state, reason, number = expected(told)
    succeeded = next(c for c in status["conditions"] if c["type"] == "Succeeded")
    assert (view.state, succeeded["reason"], view.attempt) == (state, reason, number)
    assert int(status.get("continuations") or 0) == number - 1
    assert "failedAttempts" not in status
    assert "infrastructureFailures" not in status
    assert set(leader.made.values()) <= {1}
    runs = sum(min(fate.infra, INFRASTRUCTURE_LIMIT) + 1 for gates in told[:number] for fate in gates)
    assert sum(leader.made.values()) == runs
    assert view.commit == (f"{number:x}" * 40 if state == "Complete" else "")
