"""What counts as a handoff, and the one that is made where there is none."""

from __future__ import annotations

import pytest

from tidegate.api.wire import PublisherReport
from tidegate.runner.handoff import Exit, make_handoff, parse_exit, parse_handoff
from tidegate.runner.report import shortened
from tidegate.runner.text import clean, identity, one_line, without_trailers


@pytest.mark.parametrize(
    ("content", "exit_"),
    [(b"0 exited\n", Exit(0, "exited")), (b"124 timeout", Exit(124, "timeout")), (b"3", Exit(3)), (b"", None),
     (None, None), (b"x", None), (b"-1 exited", None), (b"256 exited", None), (b"\xff", None)],
)  # fmt: skip
def test_exit_record(content: bytes | None, exit_: Exit | None) -> None:
    assert parse_exit(content) == exit_


def test_a_planner_that_completes_needs_a_plan() -> None:
    complete, blocked = b'{"status":"Complete","summary":"s"}', b'{"status":"Blocked","summary":"s"}'
    assert parse_handoff(complete, plan_expected=False).valid
    assert parse_handoff(complete, plan_expected=True).faults == ("plan: missing, and the role is Planner",)
    assert parse_handoff(blocked, plan_expected=True).valid
    assert parse_handoff(b'{"status":"Complete","summary":"s","plan":{"tasks":[]}}', plan_expected=True).valid
    assert not parse_handoff(b'{"status":"Complete","summary":"s","plan":{"tasks":{}}}', plan_expected=False).valid


def test_fields_nobody_knows_are_kept() -> None:
    assert parse_handoff(b'{"status":"Partial","summary":"s","extra":1}', plan_expected=False).document["extra"] == 1


@pytest.mark.parametrize(
    ("ended", "status", "words"),
    [(Exit(0, "exited"), "Complete", "exit code 0; 1 file changed"), (Exit(2), "Failed", "exit code 2"),
     (Exit(124, "timeout"), "Failed", "past its time"), (None, "Failed", "killed")],
)  # fmt: skip
def test_made_handoffs(ended: Exit | None, status: str, words: str) -> None:
    handoff = make_handoff(ended, 1, "one\n\ntwo\n")
    assert handoff.made
    assert handoff.valid
    assert handoff.status == status
    assert words in handoff.summary
    assert handoff.summary.endswith("one\ntwo")


def test_the_longest_report_fits() -> None:
    rows = [{"file": "ü" * 500, "line": n, "rule": "r"} for n in range(5000)]
    report = PublisherReport(
        summary="ü" * 10_000, message="m" * 10_000, base="b" * 40, commit="c" * 40, handoff_commit="d" * 40,
        ref="refs/tidegate/wip/" + "u" * 36 + "/1", out_of_scope=["x" * 400] * 5000, held_back=rows,
        refused=[{"path": "p" * 500, "why": "w" * 500}] * 5000, error="PublisherFailed",
    )  # fmt: skip
    short = shortened(report)
    assert len(short.dumps().encode()) <= 4096
    assert short.commit == report.commit
    assert short.held_back[-1]["file"].startswith("and ")
    assert PublisherReport.loads(short.dumps()) == short


def test_a_short_report_stays_as_it_is() -> None:
    report = PublisherReport(summary="done", out_of_scope=["a"], message="m")
    assert shortened(report) == report


def test_text_of_others_is_cleaned() -> None:
    assert clean("a\x1b[31m\u202eb\nc\x07", 100) == "a[31mb\nc"
    assert clean("abcdef", 4) == "abc…"
    assert one_line("a\n b\t c", 10) == "a b c"
    text = "Did it.\n\nTidegate-Task: x\nSigned-off-by: y\n  Co-authored-by : z\nNote: stays"
    assert without_trailers(text) == "Did it.\n\nNote: stays"


@pytest.mark.parametrize(
    ("name", "email", "line"),
    [("Ada", "a@b", "Ada <a@b>"), ("A <evil> \n x", "a@b>\n", "A evil x <a@b>"),
     ("", "", "Tidegate agent <agent@tidegate.dev>"),
     ("<>", "<>", "Tidegate agent <agent@tidegate.dev>")],
)  # fmt: skip
def test_identities_cannot_break_a_commit(name: str, email: str, line: str) -> None:
    assert identity(name, email) == line
