"""Notes on what landed, on real repositories: beside those of others, and never in the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import wait_until
from tests.support.repo import Repo
from tidegate.api.views import MergeJobView
from tidegate.clients.git import GitError
from tidegate.errors import NotLeaderError
from tidegate.lane.landing import LaneRefs
from tidegate.lane.mirror import Mirror
from tidegate.lane.notes import Note, Notebook, NoteWriter, note_of
from tidegate.lane.state import LaneState

REF = LaneRefs("id", "main").notes


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo")


def book(repo: Repo, tmp_path: Path, name: str = "a") -> Notebook:
    return Notebook(tmp_path / f"notes-{name}", repo.url, "file")


def shown(repo: Repo, commit: str) -> str:
    return repo.git("log", "-1", "--format=%N", f"--notes={REF}", commit).strip()


def test_notes_are_where_git_log_finds_them(repo: Repo, tmp_path: Path) -> None:
    one, two = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    book(repo, tmp_path).write(REF, [Note(one, "Job: n/one\n"), Note(two, "Job: n/two\n")], None)
    assert (REF, shown(repo, one), shown(repo, two)) == ("refs/notes/tidegate", "Job: n/one", "Job: n/two")


def test_lanes_of_one_repository_write_beside_each_other(repo: Repo, tmp_path: Path) -> None:
    commits = [repo.commit({"a": str(n)}) for n in range(6)]
    books = [book(repo, tmp_path, name) for name in "ab"]
    for number, commit in enumerate(commits):
        books[number % 2].write(REF, [Note(commit, f"Job: n/{number}\n")], None)
    shutil.rmtree(books[0].directory)  # it is a cache
    books[0].write(REF, [Note(commits[0], "Job: n/again\n")], None)
    assert [shown(repo, commit) for commit in commits] == ["Job: n/again", *(f"Job: n/{n}" for n in range(1, 6))]


def test_a_lost_race_is_run_again(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    mine, other = book(repo, tmp_path, "mine"), book(repo, tmp_path, "other")
    fetch, raced = mine._fetch, [False]

    def late(git: Any, ref: str) -> str:
        value = fetch(git, ref)
        if not raced[0]:
            raced[0] = True
            other.write(REF, [Note(two, "Job: n/other\n")], None)
        return value

    monkeypatch.setattr(mine, "_fetch", late)
    mine.write(REF, [Note(one, "Job: n/mine\n")], None)
    assert (shown(repo, one), shown(repo, two)) == ("Job: n/mine", "Job: n/other")


def test_a_ref_that_holds_something_else_is_left_alone_and_said(repo: Repo, tmp_path: Path) -> None:
    blob = repo.blob("not notes")
    repo.set(REF, blob)
    with pytest.raises(GitError):
        book(repo, tmp_path).write(REF, [Note(repo.commit({"a": "1"}), "x\n")], None)
    assert repo.ref(REF) == blob


def test_a_remote_that_takes_branches_alone_has_them_below_the_prefix() -> None:
    assert LaneRefs("id", "main", "refs/heads/tidegate").notes == "refs/heads/tidegate/notes"


def test_what_a_note_says() -> None:
    spec = {
        "sourceCommit": "a" * 40, "taskRef": {"name": "t", "uid": "u"}, "buildRef": {"name": "b"},
        "bypass": {"by": "ann\nGate: forged"},
    }  # fmt: skip
    gates = [{"name": "tests", "verdict": "Passed", "run": "tests-1", "flaked": True}]
    conditions = [{"type": "Approved", "status": "True", "reason": "Approved", "message": "by bob"}]
    meta = {"name": "j", "namespace": "n", "uid": "u", "resourceVersion": "1"}
    status: dict[str, Any] = {"gates": gates, "conditions": conditions}
    job = MergeJobView.from_object({"metadata": meta, "spec": spec, "status": status})
    assert note_of(job, "c").text.splitlines() == [
        "Job: n/j", "Task: t", "Build: b", f"Source: {'a' * 40}",
        "Gate: tests Passed (tests-1, failed once before)", "Approved: by bob",
    ]  # fmt: skip
    status["conditions"] = [{"type": "Bypassed", "status": "True", "reason": "GatesBypassed"}]
    job = MergeJobView.from_object({"metadata": meta, "spec": spec, "status": status})
    assert note_of(job, "c").text.splitlines()[4:] == ["Gates: bypassed", "Bypassed-By: annGate: forged"]


def test_a_failure_is_said_and_holds_nothing_up(repo: Repo, tmp_path: Path) -> None:
    state = LaneState(1, Mirror(tmp_path / "mirrors", ("n", "", repo.url), "file"), LaneRefs("id", "main"))
    writer = NoteWriter(lambda: None)
    commit = repo.commit({"a": "1"})
    repo.set(REF, repo.blob("not notes"))
    writer.add(state, [Note(commit, "x\n")])
    wait_until(lambda: writer.problem(state), 30, "the failure")
    repo.git("update-ref", "-d", REF)
    writer.add(state, [Note(commit, "Job: n/j\n")])
    wait_until(lambda: not writer.problem(state), 30, "the success")
    assert shown(repo, commit) == "Job: n/j"


def test_who_leads_no_more_writes_none(repo: Repo, tmp_path: Path) -> None:
    def check() -> None:
        raise NotLeaderError("another leads")

    state = LaneState(1, Mirror(tmp_path / "mirrors", ("n", "", repo.url), "file"), LaneRefs("id", "main"))
    writer = NoteWriter(check)
    writer.add(state, [Note(repo.commit({"a": "1"}), "x\n")])
    writer._pool.shutdown(wait=True)
    assert repo.ref(REF) == ""
