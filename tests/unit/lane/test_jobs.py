"""What a MergeJob says of its gates."""

from __future__ import annotations

from typing import Any

from tidegate.api.gates import gate_key
from tidegate.api.views import GateRunView
from tidegate.lane.decide.model import Short
from tidegate.lane.jobs import gate_results

GATE = {"name": "tests", "image": "a", "command": ["x"], "tests": {"paths": ["j.xml"]}}


def run(number: int, verdict: str, **status: Any) -> GateRunView:
    return GateRunView.from_object(
        {
            "metadata": {"name": f"tests-abc-{number}", "resourceVersion": "1"},
            "spec": {"gate": GATE, "number": number, "commit": "c" * 40},
            "status": {"verdict": verdict, **status},
        }
    )


def test_reason_and_figures_of_the_newest_run_are_told() -> None:
    message = "84.9 % covered, 85 % required"
    [result] = gate_results([run(1, "Failed", reason="CoverageTooLow", message=message, exitCode=1)])
    assert result == {
        "name": "tests", "run": "tests-abc-1", "verdict": "Failed", "flaked": False, "reason": "CoverageTooLow",
        "message": message, "exitCode": 1, "logTail": "",
    }  # fmt: skip


def test_a_failure_followed_by_a_pass_is_a_flake() -> None:
    [result] = gate_results([run(2, "Passed", reason="Passed"), run(1, "Failed", reason="GateFailed")])
    assert (result["verdict"], result["flaked"], result["reason"]) == ("Passed", True, "Passed")


def test_too_few_tests_for_the_base_fail_a_gate_that_passed() -> None:
    short = Short(gate_key(GATE), "FewerTests", "11 tests ran, 12 on the base")
    runs = [run(1, "Passed", reason="Passed", message="11 tests ran", exitCode=0)]
    [result] = gate_results(runs, [short])
    assert (result["verdict"], result["reason"], result["message"]) == ("Failed", "FewerTests", short.message)
    assert gate_results(runs, [Short("other", "FewerTests", "x")])[0]["verdict"] == "Passed"
