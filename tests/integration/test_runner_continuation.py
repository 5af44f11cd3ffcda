"""An attempt that goes on from the one before: its work is in the workspace, on the newest head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attempt import UID, Bench, commit_files, seed
from tests.support.git_http import git_server
from tidegate import names
from tidegate.api.wire import PublisherReport

OTHER_POD = "bbbbbbbb-0000-4000-8000-000000000002"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[tuple[Bench, PublisherReport]]:
    """The first attempt's Pod and its good end; then others move the branch."""
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        seed(server, "project", {"README.md": "r\n"})
        bench = Bench(tmp_path / "first", server)
        assert bench.prepare().error == ""
        bench.write("answer.txt", "41\n")
        bench.write("kept.txt", "begun\n")
        bench.exits()
        report = bench.publish()
        assert (report.error, report.ref) == ("", names.task_ref(UID))
        commit_files(server.root / "project.git", {"README.md": "r\n", "head.txt": "h\n"})
        yield bench, report


def second(before: Bench, report: PublisherReport) -> Bench:
    """The Pod of the next attempt, as the operator makes it after a gate failed."""
    bench = Bench(before.root.parent / "second", before.server, pod=OTHER_POD)
    bench.change(attempt=2, merge_ref=names.task_ref(UID), merge_commit=report.commit)
    assert bench.prepare().error == ""
    return bench


def test_the_work_so_far_is_there_and_the_result_holds_all_of_it(first: tuple[Bench, PublisherReport]) -> None:
    bench = second(*first)
    laid = {path.name: path.read_text() for path in bench.workspace.iterdir()}
    assert laid == {"README.md": "r\n", "head.txt": "h\n", "answer.txt": "41\n", "kept.txt": "begun\n"}
    bench.write("answer.txt", "42\n")
    bench.exits()
    report = bench.publish()
    assert (report.error, report.files_changed) == ("", 2)
    assert bench.refs()[names.task_ref(UID)] == report.commit != first[1].commit
    parents = bench.remote("rev-list", "--parents", "-n1", report.commit).split()[1:]
    assert parents == [bench.remote("rev-parse", "main")]
    assert bench.read(report.commit, "answer.txt") == "42"
    assert set(bench.files(report.commit)) == set(laid)


def test_one_that_fails_leaves_the_work_before_it_where_it_is(first: tuple[Bench, PublisherReport]) -> None:
    bench = second(*first)
    bench.write("answer.txt", "worse\n")
    bench.exits(1)
    report = bench.publish()
    assert report.ref == names.wip_ref(UID, 2)
    assert bench.refs()[names.task_ref(UID)] == first[1].commit
    again = Bench(bench.root.parent / "third", bench.server, pod=OTHER_POD.replace("b", "c"))
    again.change(attempt=3, merge_ref=names.task_ref(UID), merge_commit=first[1].commit)
    assert again.prepare().error == ""
    assert (again.workspace / "answer.txt").read_text() == "41\n"


def test_lines_that_the_head_changed_too_are_left_with_markers(first: tuple[Bench, PublisherReport]) -> None:
    path = first[0].server.root / "project.git"
    commit_files(path, {"README.md": "r\n", "answer.txt": "40\n"})
    bench = second(*first)
    assert "<<<<<<<" in (bench.workspace / "answer.txt").read_text()
    bench.write("answer.txt", "42\n")
    bench.exits()
    report = bench.publish()
    assert (report.markers, report.ref) == ([], names.task_ref(UID))
