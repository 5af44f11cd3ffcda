"""What a person sees of a build, from the API's objects alone."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from rich.console import Console

from tidegate.cli import render
from tidegate.cli.follow import JsonScreen, LineScreen
from tidegate.cli.snapshot import Snapshot, snapshot
from tidegate.cli.text import amount, between, clean, clean_line, duration

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
EVIL = "\x1b[31mred\x1b[0m \x1b]0;title\x07\u202egnp.exe\u2066\r\n\x9b2Jend"


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def task(name: str, state: str = "Pending", *conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T11:00:00Z"},
        "spec": {"role": "Worker", "priority": 5},
        "status": {"state": state, "conditions": list(conditions), **status},
    }


def job(task_name: str, number: int, *conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{task_name}-{number}", "creationTimestamp": f"2026-01-01T11:0{number}:00Z"},
        "spec": {"taskRef": {"name": task_name}},
        "status": {"conditions": list(conditions), **status},
    }


def build(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    base = {
        "conditions": list(conditions), "tasks": {"total": 3, "complete": 1}, "merges": {"merged": 1}, "iteration": 1,
        "usage": {"tokensIn": 12_300, "tokensOut": 950}, "startTime": "2026-01-01T11:57:47Z",
    }  # fmt: skip
    return {"metadata": {"name": "mk"}, "status": base | status}


def example(**status: Any) -> Snapshot:
    tasks = [
        task("mk-1-a", "Complete", condition("Merged", "True", "Landed"), mergedCommit="abc123" * 7,
             usage={"tokensIn": 9000, "tokensOut": 700}, startTime="2026-01-01T11:58:00Z",
             completionTime="2026-01-01T11:58:45Z", attempts=[{"number": 1, "endTime": "x"}]),
        task("mk-1-b", "Running", attempts=[{"number": 1}, {"number": 2}], startTime="2026-01-01T11:59:00Z"),
        task("mk-1-c", "Pending", condition("Succeeded", "Unknown", "WaitingForDependencies", "waits for mk-1-a")),
    ]  # fmt: skip
    return snapshot(build(condition("Planned", "True", "PlanApplied"), **status), tasks, [], NOW)


def drawn(shot: Snapshot, rows: int = 20) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(render.tree(shot, rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_tree_shows_tasks_attempts_merges_tokens_and_time() -> None:
    text = drawn(example())
    lines = text.splitlines()
    assert lines[0] == "build mk  Active  plan 1  1/3 tasks  1 merged  tokens 12.3k in, 950 out  2m13s"
    a, b, c = (next(line for line in lines if name in line) for name in ("mk-1-a", "mk-1-b", "mk-1-c"))
    assert all(word in a for word in ("✓", "Complete", "merged abc123abc123", "9.0k/700", "45s"))
    assert all(word in b for word in ("Running", "1m00s", "attempt 2"))
    assert "WaitingForDependencies: waits for mk-1-a" in c


def test_a_long_build_shows_what_matters_and_counts_the_rest() -> None:
    tasks = [task(f"t{n:03}", "Complete") for n in range(200)]
    tasks += [task("bad", "Failed"), task("now", "Running"), *(task(f"w{n:03}") for n in range(50))]
    text = drawn(snapshot(build(), tasks, [], NOW), rows=10)
    assert "bad" in text
    assert "now" in text
    assert "and 200 Complete, 42 Pending" in text
    assert len(text.splitlines()) < 15


def test_trouble_is_named_while_the_build_is_active() -> None:
    shot = snapshot(build(condition("Stalled", "True", "SecretMissing", "Secret 'x' is missing")), [], [], NOW)
    assert "Stalled: SecretMissing: Secret 'x' is missing" in drawn(shot)


@pytest.mark.parametrize(
    ("conditions", "status", "expected"),
    [
        ([], {"state": "Gating", "position": 2}, "gating #2"),
        ([], {}, "queued"),
        ([condition("Succeeded", "True", "Landed")], {"mergedCommit": "d" * 40}, "merged dddddddddddd"),
        ([condition("Succeeded", "False", "MergeConflict")], {}, "unmerged: MergeConflict"),
    ],
)
def test_a_change_is_followed_through_its_newest_job(
    conditions: list[dict[str, str]], status: dict[str, Any], expected: str
) -> None:
    jobs = [job("a", 1, condition("Succeeded", "False", "GatesFailed")), job("a", 2, *conditions, **status)]
    (line,) = snapshot(build(), [task("a", "Complete")], jobs, NOW).tasks
    assert line.merge == expected


def test_what_agents_wrote_cannot_steer_the_terminal() -> None:
    evil = task("a", "Failed", condition("Succeeded", "False", "Escalated", EVIL), attempts=[{"number": 1}])
    left = [dict.fromkeys(("task", "ref", "reason"), EVIL)]
    shot = snapshot(
        build(condition("Finalized", "True", "Exhausted", EVIL), unmerged=left),
        [evil], [job("a", 1, condition("Succeeded", "False", EVIL))], NOW,
    )  # fmt: skip
    lines = [*render.changes(None, shot, NOW), *render.verdict(shot), *drawn(shot).splitlines()]
    for line in lines:
        assert clean_line(line) == line, repr(line)
        assert not any(c in line for c in "\x1b\x07\x9b\u202e\u2066\r")
    assert "[bold]" in drawn(snapshot(build(condition("Stalled", "True", "X", "[bold]m[/bold]")), [], [], NOW))


def test_plain_lines_tell_each_change_once() -> None:
    lines: list[str] = []
    screen = LineScreen(lines.append)
    first = snapshot(build(), [task("a"), task("b")], [], NOW)
    screen.show(first, NOW)
    assert lines[1:] == ["12:00:00 task a Pending", "12:00:00 task b Pending"]
    lines.clear()
    screen.show(first, NOW)
    assert lines == []
    running = task("a", "Running", attempts=[{"number": 2}])
    screen.show(snapshot(build(), [running], [job("a", 1, state="Queued", position=3)], NOW), NOW)
    assert lines == ["12:00:00 task a Running (attempt 2)", "12:00:00 task a queued #3", "12:00:00 task b is gone"]
    lines.clear()
    screen.show(snapshot(build(), [running], [job("a", 1, state="Queued", position=2)], NOW), NOW)
    assert lines == []  # a new place in the queue alone is no news
    planned = build(condition("Planned", "True", "PlanApplied", "plan 2 applied"), iteration=2)
    screen.show(snapshot(planned, [running], [job("a", 1, state="Queued", position=2)], NOW), NOW)
    assert lines == [
        "12:00:00 build mk: Planned=True PlanApplied: plan 2 applied", "12:00:00 build mk: plan 2 applied",
    ]  # fmt: skip


def test_the_verdict_lists_what_is_unmerged() -> None:
    left = [{"task": "mk-1-a", "ref": "refs/tidegate/tasks/u", "reason": "GatesFailed"}]
    final = condition("Finalized", "True", "Exhausted", "1 unmerged: mk-1-a (GatesFailed)")
    shot = snapshot(build(final, unmerged=left, unmergedTotal=4), [], [], NOW)
    assert (shot.finalized, shot.passed) == (True, False)
    assert render.verdict(shot) == [
        "Exhausted: 1 unmerged: mk-1-a (GatesFailed)",
        "unmerged: mk-1-a  GatesFailed  refs/tidegate/tasks/u",
        "unmerged: 3 more",
    ]


def test_json_lines_hold_the_whole_snapshot() -> None:
    lines: list[str] = []
    screen = JsonScreen(lines.append)
    screen.show(example(), NOW)
    screen.show(example(), NOW)
    (line,) = lines
    found = orjson.loads(line)
    assert found["tasks"][0]["merge"] == "merged abc123abc123"
    assert found["finalized"] is False


def test_words_for_times_and_amounts() -> None:
    assert [duration(s) for s in (-1, 59, 60, 3599, 3600, 90_000)] == ["0s", "59s", "1m00s", "59m59s", "1h00m", "1d01h"]
    assert [amount(n) for n in (0, 999, 1000, 1_500_000)] == ["0", "999", "1.0k", "1.5M"]
    assert between("2026-01-01T11:59:00Z", None, NOW) == "1m00s"
    assert between("nonsense", None, NOW) == ""
    assert clean("a" * 300) == "a" * 197 + "..."
    assert clean_line("a\tb\x1b[2K\x08c") == "a\tbc"
