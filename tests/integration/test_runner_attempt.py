"""An attempt from claim to published work, on a real git server over HTTP."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attempt import UID, Bench, commit_files, seed
from tests.support.git_http import TOKEN, GitServer, git_server
from tidegate import names
from tidegate.api.wire import PublisherReport
from tidegate.runner.stop import StopSignal

FILES: dict[str, str | bytes] = {
    "README.md": "Mathkit\n",
    "src/add.py": "def add(a, b):\n    return a + b\n",
    "run": "#!/bin/sh\necho run\n",
    "link": "src/add.py",
    "data.bin": b"\0\r\n\xff",
    ".gitattributes": "*.md text eol=crlf filter=evil\n",
    ".gitignore": "*.log\nbuild/\n",
}
MODES = {"run": "100755", "link": "120000"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, server: GitServer) -> Bench:
    seed(server, "project", FILES, MODES)
    return Bench(tmp_path / "pod", server)


def second(bench: Bench, tmp_path: Path, pod: str = "bbbbbbbb-0000", attempt: int = 2) -> Bench:
    other = Bench(tmp_path / f"pod-{pod}", bench.server, pod=pod)
    other.change(attempt=attempt)
    return other


def test_workspace_holds_the_files_as_they_are_in_git_and_no_git_directory(bench: Bench) -> None:
    report = bench.prepare()
    assert report.error == ""
    assert report.base == bench.remote("rev-parse", "main")
    found = {str(p.relative_to(bench.workspace)) for p in bench.workspace.rglob("*") if not p.is_dir()}
    assert found == set(FILES)
    assert (bench.workspace / "README.md").read_bytes() == b"Mathkit\n", "no filter and no line end conversion"
    assert (bench.workspace / "data.bin").read_bytes() == FILES["data.bin"]
    assert (bench.workspace / "run").stat().st_mode & 0o777 == 0o755
    assert (bench.workspace / "link").readlink() == Path("src/add.py")
    assert (bench.places.input / "prompt").read_text() == "echo hello\n"
    config = (bench.places.git / "config").read_text()
    assert TOKEN not in config
    assert not [p for p in bench.root.rglob("*") if p.is_file() and p.parent != bench.places.credentials
                and TOKEN.encode() in p.read_bytes()]  # fmt: skip


def test_good_work_becomes_one_commit_on_the_tasks_ref(bench: Bench) -> None:
    base = bench.prepare().base
    bench.write("src/sub.py", "def sub(a, b):\n    return a - b\n")
    bench.write("tool", "#!/bin/sh\n", executable=True)
    (bench.workspace / "README.md").unlink()
    bench.write("x.log", "ignored by the base")
    bench.write("src/__pycache__/sub.pyc", b"ignored by default")
    bench.hand_off(json.dumps({"status": "Complete", "summary": "Added sub.\n\nTidegate-Task: forged", "concerns": []}))
    bench.exits(0, log="all done\n")
    report = bench.publish()
    assert report.error == ""
    assert (report.handoff_status, report.handoff_valid, report.handoff_made) == ("Complete", True, False)
    assert report.ref == names.task_ref(UID)
    refs = bench.refs()
    assert refs[report.ref] == report.commit
    assert bench.remote("log", "--format=%P", "-1", report.commit) == base
    assert bench.remote("diff", "--name-status", base, report.commit).split() == [
        "D", "README.md", "A", "src/sub.py", "A", "tool",
    ]  # fmt: skip
    assert bench.files(report.commit)["tool"] == "100755"
    assert (report.files_changed, report.lines_added, report.lines_removed) == (3, 3, 1)
    message = bench.remote("log", "--format=%an <%ae>|%cn|%B", "-1", report.commit)
    assert message.startswith("Ada <ada@example.org>|Tidegate|Add fractions\n\nAdded sub.")
    assert "forged" not in message
    assert f"Tidegate-Task: {UID}" in message
    assert refs[names.handoff_ref(UID, 1)] == report.handoff_commit
    assert json.loads(bench.read(report.handoff_commit, "handoff.json"))["status"] == "Complete"
    assert bench.read(report.handoff_commit, "log") == "all done"
    assert json.loads(bench.read(report.handoff_commit, "report.json"))["commit"] == report.commit
    assert [ref for ref in refs if not ref.startswith("refs/tidegate/")] == ["refs/heads/main"]


def test_a_handoff_is_made_from_exit_code_diff_and_output(bench: Bench) -> None:
    bench.prepare()
    bench.write("new.txt", "x\n")
    bench.exits(0, log="one\ntwo\n")
    report = bench.publish()
    assert (report.handoff_status, report.handoff_made, report.handoff_valid) == ("Complete", True, True)
    assert "exit code 0; 1 file changed" in report.summary
    assert report.summary.endswith("two")
    assert report.ref == names.task_ref(UID)


@pytest.mark.parametrize(
    ("code", "why", "words"),
    [(1, "exited", "exit code 1"), (124, "timeout", "past its time"), (143, "stopped", "stopped")],
)
def test_work_of_an_engine_that_failed_is_kept_on_a_wip_ref(bench: Bench, code: int, why: str, words: str) -> None:
    bench.prepare()
    bench.write("half.txt", "half\n")
    bench.exits(code, why)
    report = bench.publish()
    assert report.handoff_status == "Failed"
    assert words in report.summary
    assert report.ref == names.wip_ref(UID, 1)
    assert bench.refs()[report.ref] == report.commit
    assert names.task_ref(UID) not in bench.refs()


def test_an_engine_that_was_killed_leaves_no_exit_record_and_its_work_is_kept(bench: Bench) -> None:
    bench.prepare()
    bench.write("half.txt", "half\n")
    report = bench.publish()
    assert (report.handoff_status, report.ref) == ("Failed", names.wip_ref(UID, 1))
    assert "killed" in report.summary


@pytest.mark.parametrize(
    ("text", "field"),
    [("{", "JSON"), ("[]", "object"), ('{"summary":"x"}', "status"), ('{"status":"Complete"}', "summary"),
     ('{"status":"Complete","summary":"x","concerns":"y"}', "concerns"),
     ('{"status":"Complete","summary":"x","usage":{"tokens":-1}}', "usage"),
     ("[" * 100_000, "JSON"), ('"' + "x" * 1_100_000 + '"', "larger")],
)  # fmt: skip
def test_a_bad_handoff_names_the_field_and_keeps_the_work(bench: Bench, text: str, field: str) -> None:
    bench.prepare()
    bench.write("half.txt", "half\n")
    bench.hand_off(text)
    bench.exits(0)
    report = bench.publish()
    assert not report.handoff_valid
    assert field in report.message
    assert report.ref == names.wip_ref(UID, 1)


def test_an_empty_diff_pushes_no_work_and_says_so(bench: Bench) -> None:
    bench.prepare()
    bench.exits(0)
    report = bench.publish()
    assert (report.commit, report.ref, report.files_changed, report.error) == ("", "", 0, "")
    assert names.handoff_ref(UID, 1) in bench.refs()


def test_a_diff_outside_the_scope_is_named_and_not_offered_for_merging(bench: Bench) -> None:
    bench.prepare()
    bench.change(scope=["src/**", "docs"])
    bench.write("src/deep/x.py", "1\n")
    bench.write("docs/x.md", "1\n")
    bench.write("setup.cfg", "1\n")
    bench.exits(0)
    report = bench.publish()
    assert report.out_of_scope == ["setup.cfg"]
    assert report.ref == names.wip_ref(UID, 1)
    assert "setup.cfg" in bench.files(report.commit)


def test_a_later_attempt_fences_an_earlier_one(bench: Bench, tmp_path: Path) -> None:
    bench.prepare()
    other = second(bench, tmp_path)
    assert other.prepare().error == ""
    bench.write("late.txt", "late\n")
    bench.exits(0)
    report = bench.publish()
    assert report.fenced
    assert report.ref == f"{names.wip_ref(UID, 1)}-{bench.pod[:13]}"
    refs = bench.refs()
    assert refs[report.ref] == report.commit
    assert names.task_ref(UID) not in refs
    assert names.handoff_ref(UID, 1) not in refs
    other.write("good.txt", "good\n")
    other.exits(0)
    assert other.publish().ref == names.task_ref(UID)


def test_another_pod_of_the_same_attempt_may_not_run(bench: Bench, tmp_path: Path) -> None:
    bench.prepare()
    for attempt in (1,):
        report = second(bench, tmp_path, attempt=attempt).prepare()
        assert report.error == "Fenced"
        assert bench.pod in report.message


def test_a_pod_with_a_lower_number_may_not_run(bench: Bench, tmp_path: Path) -> None:
    bench.change(attempt=3)
    bench.prepare()
    assert second(bench, tmp_path, attempt=2).prepare().error == "Fenced"


def test_the_same_pod_may_start_again_and_finds_a_clean_workspace(bench: Bench) -> None:
    bench.prepare()
    claim = bench.refs()[names.attempt_ref(UID)]
    bench.write("left/over", "x")
    (bench.workspace / "out").symlink_to("/etc")
    report = bench.prepare()
    assert report.error == ""
    assert bench.refs()[names.attempt_ref(UID)] == claim
    assert not (bench.workspace / "left").exists()
    assert Path("/etc/passwd").exists()


def test_a_missing_branch_is_the_authors_to_mend(bench: Bench) -> None:
    bench.change(target_branch="release")
    report = bench.prepare()
    assert report.error == "TargetMissing"
    assert "release" in report.message


def test_a_remote_that_declines_our_refs_is_named(bench: Bench) -> None:
    bench.remote("config", "receive.hiderefs", "refs/tidegate")
    report = bench.prepare()
    assert report.error == "RefsNotWritable"


def test_base_moves_and_the_work_stays_on_the_base_it_began_from(bench: Bench) -> None:
    base = bench.prepare().base
    commit_files(bench.server.root / "project.git", {**FILES, "other.txt": "o"}, MODES)
    bench.write("mine.txt", "m\n")
    bench.exits(0)
    report = bench.publish()
    assert report.base == base
    assert bench.remote("log", "--format=%P", "-1", report.commit) == base
    assert "other.txt" not in bench.files(report.commit)


def test_checkpoints_come_while_the_agent_works_and_sigterm_publishes(bench: Bench) -> None:
    bench.prepare()
    bench.change(checkpoint_seconds=1)
    bench.write("a.txt", "one\n")
    process = bench.start_publisher()
    try:
        wip = names.wip_ref(UID, 1)
        _until(lambda: wip in bench.refs())
        first = bench.refs()[wip]
        assert bench.files(first).keys() - FILES.keys() == {"a.txt"}
        bench.write("b.txt", "two\n")
        _until(lambda: bench.refs()[wip] != first)
        bench.exits(0)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    report = PublisherReport.loads(bench.places.termination_log.read_text())
    assert bench.refs()[names.task_ref(UID)] == report.commit
    assert bench.files(report.commit).keys() - FILES.keys() == {"a.txt", "b.txt"}


def test_a_remote_that_is_gone_fails_the_publisher_with_a_reason(bench: Bench) -> None:
    bench.prepare()
    bench.write("a.txt", "one\n")
    bench.exits(0)
    bench.change(url="http://127.0.0.1:9/project.git", publish_seconds=5)
    report = bench.publish()
    assert report.error == "PublisherFailed"
    assert "127.0.0.1" in report.message


def test_an_ordinary_branch_is_pushed_when_asked_for_and_never_over_others_work(bench: Bench) -> None:
    bench.prepare()
    bench.change(publish_branch="refs/heads/tidegate/b/add-fractions")
    bench.write("a.txt", "one\n")
    bench.exits(0)
    report = bench.publish()
    assert bench.refs()["refs/heads/tidegate/b/add-fractions"] == report.commit
    again = Bench(bench.root.parent / "again", bench.server, pod="cccc")
    again.change(attempt=2, publish_branch="refs/heads/main")
    again.prepare()
    again.write("c.txt", "three\n")
    again.exits(0)
    main = bench.refs()["refs/heads/main"]
    second_report = again.publish()
    assert bench.refs()["refs/heads/main"] == main
    assert "left alone" in second_report.message
    assert bench.refs()[names.task_ref(UID)] == second_report.commit


def test_the_report_fits_a_termination_message(bench: Bench) -> None:
    bench.prepare()
    bench.change(scope=["nothing"])
    for number in range(300):
        bench.write(f"{'ü' * 60}/{number:03}", "x")
    bench.hand_off(json.dumps({"status": "Partial", "summary": "ß" * 100_000}))
    bench.exits(0)
    process = bench.start_publisher()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    text = bench.places.termination_log.read_bytes()
    assert len(text) <= 4096
    report = PublisherReport.loads(text.decode())
    assert report.files_changed == 300
    assert report.out_of_scope[-1].endswith(" more")
    assert report.summary.startswith("ß")


def test_a_signal_that_came_early_is_not_lost() -> None:
    stop = StopSignal(True)
    assert stop.wait(60)


def _until(condition: object) -> None:
    end = time.monotonic() + 15
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
