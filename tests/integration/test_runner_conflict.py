"""A Fixer's attempt: the head with a change merged in, markers left; and the result without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attempt import Bench, commit_files, seed
from tests.support.git import git
from tests.support.git_http import GitServer, git_server
from tidegate import names
from tidegate.api import reasons
from tidegate.tasks.outcome import Expectation, FoundRefs, judge_refs

LINES = "".join(f"line {n}\n" for n in range(9))
SOURCE = names.task_ref("5f0c9a3e-0000-4000-8000-000000000000")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        yield _conflict(tmp_path, server)


def _conflict(tmp_path: Path, server: GitServer) -> Bench:
    """A head and a change of the commit before the last that both edit a line, and each a file of its own."""
    root = seed(server, "project", {"a.txt": LINES, "title.rst": "Title\n=======\n", "gone.txt": "1\n"})
    path = server.root / "project.git"
    head = commit_files(path, {"a.txt": LINES.replace("line 4", "head"), "title.rst": "Title\n=======\nmore\n",
                               "gone.txt": "1\n", "head.txt": "h\n"})  # fmt: skip
    git("update-ref", "refs/heads/main", root, cwd=path)
    change = commit_files(path, {"a.txt": LINES.replace("line 4", "change"), "title.rst": "Title\n=======\n",
                                 "run.sh": "true\n"}, {"run.sh": "100755"})  # fmt: skip
    git("update-ref", "refs/heads/main", head, cwd=path)
    git("update-ref", SOURCE, change, cwd=path)
    bench = Bench(tmp_path / "pod", server)
    bench.change(role="Fixer", engine="Exec", merge_ref=SOURCE, merge_commit=change)
    return bench


RESOLVED = LINES.replace("line 4", "head and change")


def test_the_workspace_is_the_head_with_the_change_merged_in_and_markers_left(bench: Bench) -> None:
    report = bench.prepare()
    assert report.error == "", report
    assert report.base == bench.remote("rev-parse", "main")
    text = (bench.workspace / "a.txt").read_text()
    assert "<<<<<<< refs/runner/target\nhead\n=======\nchange\n>>>>>>> refs/runner/change\n" in text
    assert (bench.workspace / "head.txt").read_text() == "h\n"
    assert (bench.workspace / "run.sh").stat().st_mode & 0o777 == 0o755
    assert not (bench.workspace / "gone.txt").exists()
    assert not (bench.workspace / ".git").exists()


def test_the_result_has_the_head_as_its_only_parent_and_holds_both_sides(bench: Bench) -> None:
    bench.prepare()
    bench.write("a.txt", RESOLVED)
    bench.exits()
    report = bench.publish()
    assert (report.error, report.markers, report.ref) == ("", [], names.task_ref(bench.given.task_uid))
    parents = bench.remote("rev-list", "--parents", "-n1", report.commit).split()[1:]
    assert parents == [bench.remote("rev-parse", "main")]
    assert bench.read(report.commit, "a.txt") + "\n" == RESOLVED
    assert bench.files(report.commit) == {
        "a.txt": "100644", "head.txt": "100644", "run.sh": "100755", "title.rst": "100644",
    }  # fmt: skip


def test_markers_that_are_left_are_named_and_the_result_is_not_taken(bench: Bench) -> None:
    bench.prepare()
    bench.exits()
    report = bench.publish()
    [place] = report.markers
    assert place == {"file": "a.txt", "line": 5}
    assert report.ref.startswith("refs/tidegate/wip/")
    outcome = judge_refs(FoundRefs(report=report, result=report.commit), Expectation(task_ref=report.ref))
    assert (outcome.verdict, outcome.reason) == ("Failed", reasons.MARKERS_LEFT)
    assert "a.txt:5" in outcome.message


def test_markers_moved_to_another_file_are_found(bench: Bench) -> None:
    bench.prepare()
    bench.write("a.txt", RESOLVED)
    bench.write("notes/left.txt", "x\n>>>>>>> refs/runner/change\n")
    bench.write("title.rst", "Title\n=======\nmore\nand more\n")
    bench.exits()
    assert bench.publish().markers == [{"file": "notes/left.txt", "line": 2}]


def test_a_task_that_merges_nothing_may_underline_but_leaves_no_conflict(bench: Bench) -> None:
    bench.change(role="Worker", merge_ref="", merge_commit="")
    bench.prepare()
    bench.write("new.rst", "Heading\n=======\n")
    bench.write("src/left.py", "x = 1\n<<<<<<< mine\ny = 1\n=======\ny = 2\n>>>>>>> theirs\n")
    bench.exits()
    report = bench.publish()
    assert report.markers == [{"file": "src/left.py", "line": 2}]
    assert report.ref.startswith("refs/tidegate/wip/")


def test_a_change_that_merges_by_now_is_laid_merged(bench: Bench) -> None:
    path = bench.server.root / "project.git"
    commit_files(path, {"a.txt": LINES, "title.rst": "Title\n=======\n", "gone.txt": "1\n"})
    assert bench.prepare().error == ""
    assert (bench.workspace / "a.txt").read_text() == LINES.replace("line 4", "change")


def test_a_change_that_is_nowhere_is_named(bench: Bench) -> None:
    bench.change(merge_commit="1" * 40)
    report = bench.prepare()
    assert report.error == reasons.SOURCE_MISSING
    bench.change(merge_ref="refs/tidegate/tasks/none")
    assert bench.prepare().error == reasons.SOURCE_MISSING


def test_a_history_of_its_own_is_named(bench: Bench) -> None:
    path = bench.server.root / "project.git"
    tree = git("rev-parse", "main^{tree}", cwd=path)
    alone = git("commit-tree", tree, "-m", "Alone", cwd=path)
    git("update-ref", SOURCE, alone, cwd=path)
    bench.change(merge_commit=alone)
    assert bench.prepare().error == reasons.MERGE_CONFLICT
