"""Thirty changes through a ladder of four, while the leader is killed five times. Judged by git and the API alone."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.test_lane_cluster import LaneWorld, world
from tests.support.cluster import wait_until
from tests.support.git import git
from tidegate import names

__all__ = ["world"]

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(1500)]

KINDS = {"good": 20, "bad": 4, "conflict": 4, "flaky": 2}
FLAKY = "test ! -e flaky || test $(($(od -An -N1 -tu1 /dev/urandom) % 4)) != 0"  # fails one run in four
KILLS = 5


def test_thirty_changes_and_a_leader_that_dies_five_times(world: LaneWorld) -> None:
    world.gates({"tests": f"test ! -e bad && {{ {FLAKY}; }}"})
    spec = {"repository": {"url": world.url, "credentialsSecretName": "git-token"}, "window": 4, "gateSlots": 6}
    lane = {"apiVersion": names.API_VERSION, "kind": "MergeLane", "metadata": {"name": world.lane}, "spec": spec}
    world.cluster.apply(lane, namespace=world.namespace)
    base = world.head
    jobs = {world.job(files(kind, n), base): kind for kind, count in KINDS.items() for n in range(count)}
    for _ in range(KILLS):
        process, before = world.start(), world.head
        with contextlib.suppress(AssertionError):
            wait_until(lambda before=before: world.head != before, 60, "a landing")  # type: ignore[misc]
        process.kill()
        process.wait()
    world.start()
    ended = {job: world.ended(job, 900) for job in jobs}
    merged = {job for job, status in ended.items() if status["state"] == "Merged"}
    landed = {kind: sum(jobs[job] == kind for job in merged) for kind in KINDS}
    assert (landed["good"], landed["bad"], landed["conflict"]) == (20, 0, 1)
    check_history(world, base, merged)
    wait_until(lambda: not running_gates(world), 60, "no gate that runs for nothing")


def running_gates(world: LaneWorld) -> list[str]:
    """Pods of gates that have not ended."""
    pods = world.cluster.list("pod", world.namespace, "tidegate.dev/component=gate")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def files(kind: str, number: int) -> dict[str, str]:
    """What a change of a kind does."""
    return {
        "good": {f"g{number}": "x\n"},
        "bad": {"bad": f"{number}\n"},
        "conflict": {"app.py": f"VALUE = {number + 2}\n"},
        "flaky": {"flaky": "x\n", f"f{number}": "x\n"},
    }[kind]


def check_history(world: LaneWorld, base: str, merged: set[str]) -> None:
    """Landings follow each other, each value that the branch took passed its gate, nothing came twice or unrecorded."""

    def log(text: str, *what: str) -> list[str]:
        words = ("log", "--reverse", "--first-parent", f"--format={text}%x00", *what)
        return [entry.strip() for entry in git(*words, cwd=world.clone.directory).split("\0") if entry.strip()]

    head = world.head
    commits = log("%H", f"{base}..{head}")
    jobs = log("%(trailers:key=Tidegate-Job,valueonly)", f"{base}..{head}")
    assert sorted(job.rpartition("/")[2] for job in jobs) == sorted(merged)
    assert len(jobs) == len(commits)
    [ledger] = [ref for ref in world.clone.refs("refs/tidegate/lanes/") if ref.endswith("/ledger")]
    moves = [
        [words[2:] for line in entry.splitlines() if len(words := line.split(" ")) == 5 and words[0] == "land"]
        for entry in log("%B", ledger)
    ]
    records = [record for move in moves for record in move]  # source, base, candidate
    assert [candidate for _, _, candidate in records] == commits
    assert [start for _, start, _ in records] == [base, *commits[:-1]]
    assert len({source for source, _, _ in records}) == len(records)
    runs = world.cluster.list("gaterun", world.namespace)
    known = {run["spec"]["commit"] for run in runs}
    trees = {run["spec"]["tree"] for run in runs if run["status"].get("verdict") == "Passed"}
    values = [move[-1][2] for move in moves if move]
    checked = [value for value in values if value in known]  # evidence of old heads is pruned
    assert checked
    for value in checked:
        assert git("rev-parse", f"{value}^{{tree}}", cwd=world.clone.directory) in trees, value
