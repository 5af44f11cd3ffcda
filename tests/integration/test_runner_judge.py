"""The last container of a gate Pod, as a process, on checkouts that hostile code left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.api.wire import JudgeInput, JudgeReport
from tidegate.runner.reports import MAX_REPORT_BYTES

TESTS = '<testsuite><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>'


def lcov(covered: int, total: int) -> str:
    return "SF:a\n" + "".join(f"DA:{n},{int(n < covered)}\n" for n in range(total))


class Gate:
    """What a gate left, and the container that judges it."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, root / "workspace"
        self.workspace.mkdir()

    def judge(self, **given: object) -> tuple[int, JudgeReport]:
        asked = JudgeInput(**given)  # type: ignore[arg-type]
        log = self.root / "termination-log"
        env = {
            "PATH": "/usr/bin:/bin", "TIDEGATE_ROOT": str(self.root), **asked.variables(),
            "TIDEGATE_TERMINATION_LOG": str(log), "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }  # fmt: skip
        words = [sys.executable, "-m", "tidegate.runner", "judge"]
        done = subprocess.run(words, env=env, capture_output=True, timeout=60, cwd="/")
        return done.returncode, JudgeReport.loads(log.read_text())

    def coverage(self, path: str = "cov", minimum: str = "85") -> tuple[int, str]:
        code, report = self.judge(coverage_paths=[path], minimum_percent=minimum)
        return code, report.reason


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.mark.parametrize(
    ("covered", "total", "minimum", "reason"),
    [
        (849, 1000, "85", "CoverageTooLow"),
        (8499, 10_000, "85", "CoverageTooLow"),
        (850, 1000, "85", ""),
        (851, 1000, "85", ""),
        (849, 1000, "84.9", ""),
        (849, 1000, "84.9001", "CoverageTooLow"),
        (1, 3, "33.3333", ""),
        (1, 3, "33.3334", "CoverageTooLow"),
    ],
)
def test_coverage_is_compared_exactly(gate: Gate, covered: int, total: int, minimum: str, reason: str) -> None:
    (gate.workspace / "cov").write_text(lcov(covered, total))
    assert gate.coverage(minimum=minimum) == (1 if reason else 0, reason)


def test_both_figures_are_in_the_message(gate: Gate) -> None:
    (gate.workspace / "cov").write_text(lcov(849, 1000))
    (gate.workspace / "junit.xml").write_text(TESTS)
    code, report = gate.judge(coverage_paths=["cov"], minimum_percent="85", test_paths=["junit.xml"])
    assert (code, report.percent, report.covered, report.total) == (1, "84.9", 849, 1000)
    assert (report.ran, report.skipped, report.failed) == (1, 1, 0)
    assert report.message == "84.9 % covered, 85 % required; 1 tests ran, 1 were skipped"


def test_no_tests_at_all_fail_the_gate(gate: Gate) -> None:
    (gate.workspace / "junit.xml").write_text("<testsuite><testcase><skipped/></testcase></testsuite>")
    code, report = gate.judge(test_paths=["junit.xml"])
    assert (code, report.reason) == (1, "NoTests")
    assert gate.judge(test_paths=["other.xml"])[1].reason == "TestReportMissing"


def test_nothing_but_a_regular_file_in_the_checkout_is_read(gate: Gate) -> None:
    outside = gate.root / "outside"
    outside.mkdir()
    (outside / "cov").write_text(lcov(1, 1))
    here = gate.workspace
    (here / "link").symlink_to(outside / "cov")
    (here / "inner").symlink_to("real")
    (here / "real").write_text(lcov(1, 1))
    (here / "way").symlink_to(outside)
    os.mkfifo(here / "fifo")
    (here / "directory").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(here / "socket"))
    for path in ("link", "inner", "way/cov", "fifo", "directory", "socket", "real/cov"):
        assert gate.coverage(path) == (1, "CoverageUnreadable"), path
    server.close()
    assert gate.coverage("nothing/there") == (1, "CoverageMissing")
    assert gate.coverage("real") == (0, "")


def test_a_report_has_a_largest_size(gate: Gate) -> None:
    with (gate.workspace / "cov").open("wb") as file:
        file.write(b"SF:a\nDA:1,1\n")
        file.truncate(MAX_REPORT_BYTES + 1)
    code, report = gate.judge(coverage_paths=["cov"], minimum_percent="1")
    assert (code, report.reason) == (1, "CoverageUnreadable")
    assert "larger" in report.message


def test_a_hostile_report_says_nothing_to_a_terminal(gate: Gate) -> None:
    (gate.workspace / "cov").write_text('<x\x7f name="\u202e"/>')
    code, report = gate.judge(coverage_paths=["cov"], minimum_percent="1")
    assert code == 1
    assert report.message.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_rights_is_unreadable_not_missing(gate: Gate) -> None:
    (gate.workspace / "cov").write_text(lcov(1, 1))
    (gate.workspace / "cov").chmod(0)
    assert gate.coverage() == (1, "CoverageUnreadable")
