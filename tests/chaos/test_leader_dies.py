"""The leader is killed or stopped at bad moments; the standby goes on: nothing lost, nothing twice."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bench.audit import most_pods_at_once
from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.cluster import wait_until
from tests.support.operator import Operator, Replica

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

TASKS = 6
CAP = 3


@pytest.fixture
def operator(operator: Operator) -> Operator:
    """Two replicas run."""
    operator.start(2)
    return operator


def start_build(team: Team, seconds: int = 1) -> None:
    """Independent tasks, more than the cap, each with a file of its own and some seconds of work."""
    tasks = [objects.task(f"t{n}", f"sleep {seconds}; echo {n} > file-{n}.txt") for n in range(TASKS)]
    workers = {"agentClassName": team.script_class, "maxParallel": CAP, "timeoutSeconds": 120}
    team.build("storm", tasks, workers=workers)


def during_dispatch(team: Team) -> bool:
    """Some Pods exist, some tasks still wait."""
    return 0 < len(team.cluster.list("pods", team.namespace, "tidegate.dev/component=agent")) < TASKS


def during_gating(team: Team) -> bool:
    """A gate's Pod exists."""
    return bool(team.cluster.list("pods", team.namespace, "tidegate.dev/component=gate"))


def with_an_intent(team: Team) -> bool:
    """A MergeJob says what it is about to land."""
    jobs = team.cluster.list("mergejobs", team.namespace)
    return any((job.get("status") or {}).get("landing") for job in jobs)


def check_outcome(team: Team) -> None:
    """Everything landed exactly once, and the build passed."""
    verdict = team.finalized("storm", 300)
    assert verdict["reason"] == "Passed", verdict
    team.clone.fetch()
    files = team.clone.files()
    assert [f for f in files if f.startswith("file-")] == [f"file-{n}.txt" for n in range(TASKS)]
    assert len(team.clone.log()) == TASKS + 1, "each change landed once"
    most, created = most_pods_at_once(team.namespace, counts=re.compile(r"storm-\d+-t\d-\d+").fullmatch)
    assert created >= TASKS, "the audit log shows the agents' Pods"
    assert most <= CAP, f"{most} agent Pods at once, {CAP} are allowed"
    for task in team.tasks().values():
        numbers = [a["number"] for a in task["status"]["attempts"]]
        assert numbers == sorted(set(numbers))


def leader_of(operator: Operator) -> Replica:
    """The replica that leads now."""
    return wait_until(operator.leader, 30, "a leader")


@pytest.mark.parametrize("moment", [during_dispatch, during_gating, with_an_intent])
def test_sigkill_of_the_leader(team: Team, operator: Operator, moment: Callable[[Team], bool]) -> None:
    start_build(team)
    wait_until(lambda: moment(team), 120, moment.__name__, every=0.05)
    leader_of(operator).signal(signal.SIGKILL)
    check_outcome(team)


@pytest.mark.parametrize("moment", [during_dispatch, with_an_intent])
def test_sigstop_of_the_leader_and_its_return(team: Team, operator: Operator, moment: Callable[[Team], bool]) -> None:
    """A leader that sleeps past its Lease comes back as a zombie: it must change nothing."""
    start_build(team)
    wait_until(lambda: moment(team), 120, moment.__name__, every=0.05)
    old = leader_of(operator)
    old.signal(signal.SIGSTOP)
    wait_until(lambda: operator.leader() not in (None, old), 60, "the standby to lead")
    time.sleep(2)
    old.signal(signal.SIGCONT)
    check_outcome(team)


def landing_push(leader: Replica) -> int:
    """The process group of the leader's push to the target branch, 0 when none runs."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_text()
            if parent == leader.process.pid and "--atomic" in command and "=refs/heads/main:" in command:
                return int(process.name)  # it leads a group of its own
    return 0


@pytest.mark.parametrize("push_sleeps_too", [False, True])
def test_sigstop_of_the_leader_during_a_push(team: Team, operator: Operator, push_sleeps_too: bool) -> None:
    """The push ends while the leader sleeps, or arrives long after another leads: once landed, or refused for good."""
    start_build(team)
    old = leader_of(operator)
    group = wait_until(lambda: landing_push(old), 120, "a push to the target", every=0)
    old.signal(signal.SIGSTOP)
    if push_sleeps_too:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGSTOP)
    wait_until(lambda: operator.leader() not in (None, old), 60, "the standby to lead")
    time.sleep(2)
    if push_sleeps_too:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
        time.sleep(1)
    old.signal(signal.SIGCONT)
    check_outcome(team)
