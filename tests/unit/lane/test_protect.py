"""Protected paths: which they are, what touches them, and which words of a person name them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.repo import Repo
from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import BuildView, MergeJobView, TaskView
from tidegate.clients.git_objects import Objects
from tidegate.lane import approval, jobs
from tidegate.lane.candidate import Change, form
from tidegate.lane.decide.model import Formed, Place
from tidegate.lane.decide.protect import Protection, protection
from tidegate.lane.guard import Guard

COMMIT = "a" * 40
LANE = "mathkit-main-0123456789"


@pytest.mark.parametrize(
    "path",
    [
        "CLAUDE.md", "src/deep/AGENTS.md", ".claude/settings.json", "pkg/.cursor/rules/x.mdc", ".claude",
        ".github/workflows/ci.yml", ".github/workflows", ".gitlab-ci.yml", "Jenkinsfile", ".circleci/config.yml",
        "CODEOWNERS", "docs/CODEOWNERS", ".github/CODEOWNERS", ".gitattributes", "a/b/.gitattributes", ".gitmodules",
        "pyproject.toml", "sub/setup.cfg", ".tidegate/allowed-secrets", ".gitleaksignore",
        # as other file systems and tools read them
        "claude.md", "src/Agents.MD", ".GitHub/Workflows/ci.yml", ".GITATTRIBUTES", "CLA\u200bUDE.md", "\uff21GENTS.md",
        # where a folder on the way to a protected path would be
        ".github",
    ],
)  # fmt: skip
def test_protected_by_default(path: str) -> None:
    assert Protection().covers(path)


@pytest.mark.parametrize(
    "path", ["src/app.py", "README.md", ".github/ISSUE_TEMPLATE/bug.md", "docs/claude.md.txt", "xCLAUDE.md", "a.toml"]
)
def test_not_protected_by_default(path: str) -> None:
    assert not Protection().covers(path)


def test_a_lane_adds_patterns_or_replaces_them() -> None:
    more = protection(["deploy/**", "Makefile"], "Add")
    assert more.covers("deploy/prod.yaml")
    assert more.covers("Makefile")
    assert more.covers("CLAUDE.md")
    assert not more.covers("src/Makefile")
    own = protection(["deploy/**"], "Replace")
    assert own.covers("deploy/prod.yaml")
    assert not own.covers("CLAUDE.md")
    assert not protection([], "Replace").covers("CLAUDE.md")
    assert protection(["**"], "Replace").covers("anything/at/all")


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("CLAUDE.md", "CLAUDE.md"), ("./docs/CLAUDE.md", "docs/CLAUDE.md"), ("**/CLAUDE.md", "src/CLAUDE.md"),
        (".github/workflows/ci.yml", ".github/workflows/ci.yml"), (".github/workflows", ".github/workflows/ci.yml"),
        (".github/workflows/", ".github/workflows/ci.yml"), (".github/workflows/*.yml", ".github/workflows/ci.yml"),
        (".claude/**", ".claude/commands/x.md"), ("pyproject.toml", "pyproject.toml"),
    ],
)  # fmt: skip
def test_a_scope_names_a_path_by_spelling_it_or_its_protected_folder(entry: str, path: str) -> None:
    assert Protection().unnamed([path], ["src/app.py", entry]) == ()


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("**", "CLAUDE.md"), ("*", "CLAUDE.md"), (".", "CLAUDE.md"), ("", "CLAUDE.md"), ("*.md", "CLAUDE.md"),
        ("src", "src/CLAUDE.md"), ("src/**", "src/CLAUDE.md"), ("**/*.toml", "pyproject.toml"), (".*", ".claude/x"),
        (".github", ".github/workflows/ci.yml"), (".github/**", ".github/workflows/ci.yml"),
        ("**/*.yml", ".github/workflows/ci.yml"), ("claude.md", "CLAUDE.md"), ("other/CLAUDE.md", "CLAUDE.md"),
        ("[C]LAUDE.md", "CLAUDE.md"), (".github/workflows/a.yml", ".github/workflows/b.yml"),
    ],
)  # fmt: skip
def test_a_scope_that_covers_a_path_by_accident_does_not_name_it(entry: str, path: str) -> None:
    assert Protection().unnamed([path], [entry]) == (path,)


# -- measured on tree entries


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo")


def touched(repo: Repo, head: str, source: str, guard: Guard | None = None) -> tuple[str, ...]:
    guard = guard or Guard()
    with Objects(repo.client()) as objects:
        guard.measure(objects, "uid", head, source)
    return guard.touched["uid"]


CI = ".github/workflows/ci.yml"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"a": "a", CI: "1"}, ()),
        ({"a": "b", CI: "1"}, ()),
        ({"a": "a", CI: "2"}, (CI,)),
        ({"a": "a"}, (CI,)),
        ({"a": "a", CI: ("100755", "1")}, (CI,)),
        ({"a": "a", "ci.yml": "1"}, (CI,)),  # a rename away
        ({"a": "a", CI: "1", "x/CODEOWNERS": "a"}, ("x/CODEOWNERS",)),  # a copy to
        ({"a": "a", ".github": ("120000", "a")}, (".github", CI)),  # a symlink where its folder was
        ({"a": "a", CI: "1", ".claude": ("160000", "1" * 40)}, (".claude",)),
    ],
)
def test_what_a_change_touches(repo: Repo, files: dict[str, Any], wanted: tuple[str, ...]) -> None:
    base = repo.commit({"a": "a", CI: "1"})
    assert touched(repo, base, repo.commit(files, base)) == wanted


def test_what_others_landed_meanwhile_is_not_the_changes_doing(repo: Repo) -> None:
    root = repo.commit({"a": "a", CI: "1"})
    source = repo.commit({"a": "b", CI: "1"}, root)
    head = repo.commit({"a": "a", CI: "2"}, root)
    assert touched(repo, head, source) == ()


def test_a_candidate_that_touches_more_than_its_change_is_seen(repo: Repo) -> None:
    lines = "".join(f"{n}\n" for n in range(30))
    root = repo.commit({"templates/ci.yml": lines, "a": "a"})
    head = repo.commit({CI: lines, "a": "a"}, root)  # somebody moved the file to where it acts
    source = repo.commit({"templates/ci.yml": lines + "more\n", "a": "a"}, root)
    guard = Guard()
    assert touched(repo, head, source, guard) == ()
    with Objects(repo.client()) as objects:
        made = guard.checked(objects, form(objects, head, Change(source)))
    assert isinstance(made, Formed)
    assert made.protected == (CI,)


# -- answers


def job(name: str = "fix-1", answer: dict[str, Any] | None = None, commit: str = COMMIT, **status: Any) -> MergeJobView:
    spec: dict[str, Any] = {"sourceCommit": commit, "taskRef": {"name": "t", "uid": "u-t"}}
    if answer is not None:
        spec["approval"] = {"decision": "Approved", "laneName": LANE, "sourceCommit": commit, "by": "ann", **answer}
    meta = {"name": name, "namespace": "team-a", "uid": f"u-{name}", "resourceVersion": "1", "generation": 1}
    return MergeJobView.from_object({"metadata": meta, "spec": spec, "status": status})


def test_an_answer_counts_for_its_lane_and_commit_alone() -> None:
    assert approval.answer_of(job(), LANE) is None
    assert approval.answer_of(job(answer={}), LANE) == approval.Answer(True, "ann")
    assert approval.answer_of(job(answer={"laneName": "another"}), LANE) is None
    assert approval.answer_of(job(answer={"sourceCommit": "b" * 40}), LANE) is None
    denied = approval.answer_of(job(answer={"decision": "Denied", "reason": "no"}), LANE)
    assert denied == approval.Answer(False, "ann", "no")


def test_an_answer_is_kept_when_the_same_commit_is_queued_again_and_not_for_another_commit() -> None:
    again, other = job("again"), job("relaunched", commit="b" * 40)
    found = approval.answers([again, other], [job("before", answer={})], LANE)
    assert found == {"u-again": approval.Answer(True, "ann")}
    denied = [job("before", answer={}), job("then", answer={"decision": "Denied"})]
    assert not approval.answers([again], denied, LANE)["u-again"].approved
    own = approval.answers([job("again", answer={"by": "bob"})], denied, LANE)
    assert own["u-again"] == approval.Answer(True, "bob")


def task(by: str = "person", **spec: Any) -> TaskView:
    labels = {names.LABEL_MANAGED_BY: names.OPERATOR} if by == "operator" else {}
    owner = [{"uid": "u-b", "controller": True}] if by == "operator" else []
    meta = {"name": "b-1-one", "uid": "u-t", "resourceVersion": "1", "labels": labels, "ownerReferences": owner}
    return TaskView.from_object({"metadata": meta, "spec": {"scope": ["CLAUDE.md"], **spec}})


def build(tasks: list[dict[str, Any]] | None, uid: str = "u-b") -> BuildView:
    spec = {"planning": {"tasks": tasks} if tasks is not None else {}}
    return BuildView.from_object({"metadata": {"name": "b", "uid": uid, "resourceVersion": "1"}, "spec": spec})


def test_only_a_scope_that_a_person_wrote_names_paths() -> None:
    planned = [{"name": "one", "prompt": "p", "scope": ["CODEOWNERS"]}]
    assert approval.scope_by_person(job(), task(), None) == ("CLAUDE.md",)
    assert approval.scope_by_person(job(), task("operator"), build(planned)) == ("CODEOWNERS",)
    assert approval.scope_by_person(job(), task("operator"), build(None)) == ()  # a Planner's
    assert approval.scope_by_person(job(), task("operator"), build(planned, uid="another")) == ()
    assert approval.scope_by_person(job(), None, None) == ()
    stranger = TaskView.from_object({"metadata": {"name": "t", "uid": "new"}, "spec": {"scope": ["CLAUDE.md"]}})
    assert approval.scope_by_person(job(), stranger, None) == ()


def test_the_message_holds_a_command_that_answers() -> None:
    paths = [CI, 'x/CLAUDE.md"; rm -rf ~ #\x1b[31m', *(f"d{n}/AGENTS.md" for n in range(400))]
    text = approval.waiting(job(), LANE, paths)
    assert CI in text
    assert "more" in text
    assert len(text.encode()) <= 1024
    command = text.partition("answer (")[2].partition("): ")[2]
    words = shlex.split(command.replace("$(kubectl auth whoami -o jsonpath={.status.userInfo.username})", "ann"))
    assert words[:6] == ["kubectl", "patch", "mergejob", "fix-1", "-n", "team-a"]
    patch = json.loads(words[-1])
    answered = job(answer=patch["spec"]["approval"])
    assert approval.answer_of(answered, LANE) == approval.Answer(True, "ann")


def test_the_command_is_whole_however_long_the_names() -> None:
    meta = {"name": "j" * 63, "namespace": "n" * 63, "uid": "u", "resourceVersion": "1"}
    long = MergeJobView.from_object({"metadata": meta, "spec": {"sourceCommit": "c" * 64}})
    for paths in (["\x1f" * 4096], ["\U0001f600" * 4096], ["x" * 4096] * 5000):
        text = approval.waiting(long, "l" * 63, paths)
        assert len(text.encode()) <= 1024
        assert text.endswith("}}}'")


def test_the_status_says_what_is_waited_for_and_who_answered() -> None:
    moment = jobs.Moment("2026-01-01T00:00:00Z")
    waits = Place("u", 1, reasons.NEEDS_APPROVAL, protected=(CI,), touches=True)
    status = jobs.placed(job(), moment, LANE, waits, [])
    found = {one["type"]: one for one in status["conditions"]}
    assert found["Approved"]["status"] == "False"
    assert {found[one]["reason"] for one in ("Approved", "Queued", "Succeeded")} == {"NeedsApproval"}
    assert "kubectl patch" in found["Succeeded"]["message"]
    assert status["protectedPaths"] == [CI]
    gated = Place("u", 1, reasons.GATING, "gates run", touches=True)
    after = jobs.placed(job(**status), moment, LANE, gated, [], approval.Answer(True, "ann"))
    found = {one["type"]: one for one in after["conditions"]}
    assert (found["Approved"]["status"], found["Approved"]["message"]) == ("True", "by ann")
    assert after["protectedPaths"] is None
    by_scope = jobs.placed(job(), moment, LANE, gated, [])
    assert {one["type"]: one["reason"] for one in by_scope["conditions"]}["Approved"] == "NamedInScope"
    plain = jobs.placed(job(), moment, LANE, Place("u", 1, reasons.GATING), [])
    assert "Approved" not in {one["type"] for one in plain["conditions"]}


@given(st.text("*?/.[]!", max_size=8), st.sampled_from(["CLAUDE.md", "a/CODEOWNERS", CI, ".claude/x"]))
def test_wildcards_alone_name_nothing(entry: str, path: str) -> None:
    assert Protection().unnamed([path], [entry]) == (path,)


@given(st.text(max_size=40))
def test_any_name_can_be_asked_about(path: str) -> None:
    assert Protection().covers(f"x/{path}/CLAUDE.md")
    assert protection([path or "x"], "Replace").touched([]) == ()
