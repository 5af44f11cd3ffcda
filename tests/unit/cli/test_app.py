"""Arguments, files and exit codes, without a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tidegate.cli.app import app, program_name
from tidegate.cli.apply import FileError, builds_in, read_objects
from tidegate.cli.follow import LineScreen, follow
from tidegate.cli.logs import LogError, show_log
from tidegate.errors import NotFound, Unavailable

runner = CliRunner()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("argv0", "expected"),
    [
        ("/usr/bin/tidegate", "tidegate"),
        ("/usr/bin/kubectl-tidegate", "kubectl tidegate"),
        ("kubectl_tidegate", "kubectl tidegate"),
        ("/x/tidegate/cli/app.py", "tidegate"),
    ],
)
def test_the_usage_shows_what_was_called(argv0: str, expected: str) -> None:
    assert program_name(argv0) == expected


def test_the_plugins_usage_is_kubectls() -> None:
    tool = Path(sys.executable).with_name("kubectl-tidegate")
    done = subprocess.run([str(tool), "watch", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: kubectl tidegate watch" in done.stdout


def test_version_in_both_forms() -> None:
    assert runner.invoke(app, ["version"]).output.startswith("tidegate ")
    assert '"apiVersion": "tidegate.dev/v1alpha1"' in runner.invoke(app, ["version", "-o", "json"]).output


def test_wrong_arguments_end_with_2(tmp_path: Path) -> None:
    assert runner.invoke(app, ["watch"]).exit_code == 2
    assert runner.invoke(app, ["watch", "b", "-o", "xml"]).exit_code == 2
    missing = tmp_path / "none"
    assert runner.invoke(app, ["watch", "b", "--kubeconfig", str(missing)]).exit_code == 2


BUILD = """
apiVersion: tidegate.dev/v1alpha1
kind: BuildRequest
metadata: {name: mk}
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "b.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_may_hold_what_the_build_needs(tmp_path: Path) -> None:
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: t}}\n---\n{BUILD}---\n"
    objects = read_objects(write(tmp_path, text))
    assert [obj["kind"] for obj in objects] == ["Secret", "BuildRequest"]
    assert builds_in(objects, "team") == [("team", "mk")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML"),
        ("kind: BuildRequest", "needs apiVersion, kind and metadata.name"),
        ("- 1", "needs apiVersion"),
        (BUILD.replace("v1alpha1", "v9"), "tidegate.dev/v9/BuildRequest can't be applied here"),
        (BUILD.replace("BuildRequest", "Gadget"), "Gadget can't be applied here"),
    ],
)
def test_a_bad_file_is_refused_with_its_fault(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FileError, match=words):
        read_objects(write(tmp_path, text))


class Kube:
    """Answers from a script: one build status, or error, for each look."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def get(self, _kind: str, _namespace: str, name: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"metadata": {"name": name, "uid": "u"}, "status": answer}

    async def list(self, *_: Any) -> tuple[list[Any], str]:
        return [], "1"


def final(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Finalized", "status": "True", "reason": reason, "message": "words"}]}


def followed(*answers: Any) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = asyncio.run(follow(Kube(*answers), "team", "mk", LineScreen(lines.append), poll=0))  # type: ignore[arg-type]
    return code, lines


@pytest.mark.parametrize(("reason", "code"), [("Passed", 0), ("Exhausted", 1), ("Cancelled", 1)])
def test_it_follows_to_the_verdict_and_says_it_in_the_exit_code(reason: str, code: int) -> None:
    found, lines = followed({}, {"iteration": 1}, final(reason))
    assert found == code
    assert lines[-1] == f"{reason}: words"


def test_a_build_that_is_not_there_is_an_error_and_one_that_vanishes_has_not_passed() -> None:
    gone = NotFound(404, "NotFound", "mk")
    assert followed(gone)[0] == 2
    assert followed({}, gone) == (1, followed({}, gone)[1])


def test_an_outage_is_waited_out() -> None:
    down = Unavailable(0, "Refused", "no connection")
    code, lines = followed({}, down, down, final("Passed"))
    assert code == 0
    assert len([line for line in lines if "does not answer" in line]) == 1


class NoPods:
    """A cluster in which every Pod is gone."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status

    async def get(self, kind: str, _namespace: str, name: str) -> dict[str, Any]:
        if kind == "BuildRequest":
            return {"spec": {"repository": {"url": "https://git.example.org/r.git"}}}
        if kind == "AgentTask" and name == "mk-1-a":
            return {
                "metadata": {"name": name, "uid": "u1"},
                "spec": {"buildRef": {"name": "mk"}},
                "status": self.status,
            }
        raise NotFound(404, "NotFound", name)


def no_log(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], task: str = "mk-1-a", attempt: int | None = None
) -> str:
    async def gone(*_: Any, **__: Any) -> Any:
        raise NotFound(404, "NotFound", "pod")
        yield ""

    monkeypatch.setattr("tidegate.cli.logs.pod_log", gone)
    with pytest.raises(LogError) as caught:
        asyncio.run(show_log(NoPods(status), "team", task, attempt, follow=False, write=print))  # type: ignore[arg-type]
    return str(caught.value)


def test_a_log_whose_pod_is_gone_is_found_in_git(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"attempts": [{"number": 1, "handoffCommit": "c" * 40}, {"number": 2, "reason": "NodeLost"}]}
    text = no_log(monkeypatch, status, attempt=1)
    assert "git fetch https://git.example.org/r.git refs/tidegate/handoffs/u1/1" in text
    assert f"git show {'c' * 40}:log" in text
    assert "left no log in git (NodeLost)" in no_log(monkeypatch, status)


def test_what_has_no_log_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no AgentTask 'other'" in no_log(monkeypatch, {}, "other")
    assert "Pending: no attempt so far" in no_log(monkeypatch, {})
    assert "ended Cancelled without an attempt" in no_log(monkeypatch, {"state": "Cancelled"})
    assert "has no attempt 7" in no_log(monkeypatch, {"attempts": [{"number": 1}]}, attempt=7)
