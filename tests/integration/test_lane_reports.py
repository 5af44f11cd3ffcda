"""Gates that leave reports, on the real cluster: the exit code of our own container decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.test_lane_cluster import LaneWorld, world  # noqa: F401 - a fixture
from tests.support.cluster import condition, wait_until

pytestmark = pytest.mark.cluster

# The repository says how many lines are covered of 1000, and how many tests run: the gate writes the reports.
GATE = """set -e
mkdir -p out
covered=$(cat covered || echo 0)
n=1; echo SF:app.py > out/lcov.info
while [ $n -le 1000 ]; do echo "DA:$n,$((n <= covered))"; n=$((n + 1)); done >> out/lcov.info
{ echo '<testsuite>'; for t in $(cat tests || true); do echo "<testcase name='$t'/>"; done; echo '</testsuite>'; } \
  > out/junit.xml
"""
REPORTS = {"coverage": {"minimumPercent": 85, "paths": ["out/lcov.info"]}, "tests": {"paths": ["out/junit.xml"]}}


def result(world: LaneWorld, job: str) -> tuple[str, dict[str, Any]]:  # noqa: F811
    status = world.ended(job, 240)
    [gate] = status["gates"]
    return str(condition({"status": status}, "Succeeded")["reason"]), gate


def test_coverage_and_counts_decide(world: LaneWorld) -> None:  # noqa: F811
    world.gates({"tests": GATE}, **REPORTS)
    world.start()
    reason, gate = result(world, world.job({"covered": "850\n", "tests": "a b c\n"}, allowFewerTests=True))
    assert (reason, gate["verdict"]) == ("Landed", "Passed")
    assert gate["message"] == "85 % covered, 85 % required; 3 tests ran, 0 were skipped"
    run = world.cluster.get("gaterun", gate["run"], world.namespace)["status"]
    assert run["coverage"] == {"percent": "85", "covered": 850, "total": 1000}
    assert run["tests"] == {"ran": 3, "skipped": 0, "failed": 0}

    reason, gate = result(world, world.job({"covered": "849\n"}))
    assert (reason, gate["reason"]) == ("GatesFailed", "CoverageTooLow")
    assert gate["message"].startswith("84.9 % covered, 85 % required")

    reason, gate = result(world, world.job({"tests": "a b\n"}))
    assert (reason, gate["verdict"], gate["reason"]) == ("GatesFailed", "Failed", "FewerTests")
    assert gate["message"].startswith("2 tests ran, 3 on the base")

    reason, gate = result(world, world.job({"tests": "a b\n"}, allowFewerTests=True))
    assert (reason, gate["verdict"]) == ("Landed", "Passed")


def test_a_report_that_leads_out_of_the_checkout_is_not_read(world: LaneWorld) -> None:  # noqa: F811
    world.gates({"link": "ln -s /etc/hostname lcov.info"}, coverage={"minimumPercent": 1, "paths": ["lcov.info"]})
    world.start()
    job = world.job({"n": "1\n"})

    def reason() -> bool:
        gates = world.status(job).get("gates") or [{}]
        return bool(gates[0].get("reason") == "CoverageUnreadable")

    wait_until(reason, 120, "a verdict")
    assert world.status(job)["state"] != "Merged"
