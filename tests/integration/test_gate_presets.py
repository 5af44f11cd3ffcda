"""The chart's gates for each language, with the real tools, and what is then read from their reports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chart import of_kind, rendered
from tidegate.api.wire import JudgeInput, JudgeReport
from tidegate.runner.judge import judge
from tidegate.runner.places import Places

Files = dict[str, str]

PYTHON: Files = {
    "pkg/__init__.py": "",
    "pkg/code.py": "def one(x: int) -> int:\n    if x:\n        return 1\n    return 2\n",
    "test_code.py": "import pytest\nfrom pkg.code import one\n\ndef test_one() -> None:\n    assert one(1) == 1\n\n"
    "@pytest.mark.skip\ndef test_two() -> None: ...\n",
    "pyproject.toml": '[tool.coverage.run]\nsource = ["pkg"]\n[tool.pytest.ini_options]\npythonpath = ["."]\n',
}
NODE: Files = {
    "package.json": '{"name": "x", "version": "1.0.0"}',
    "package-lock.json": '{"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "x"}}}',
    "code.js": "exports.one = (x) => {\n  if (x) {\n    return 1;\n  }\n" + "  x += 1;\n" * 9 + "  return 2;\n};\n",
    "code.test.js": "const test = require('node:test');\nconst { one } = require('./code.js');\n"
    "test('one', () => { if (one(1) !== 1) throw new Error(); });\ntest('two', { skip: true }, () => {});\n",
}
GO: Files = {
    "go.mod": "module example.org/x\n\ngo 1.21\n",
    "code.go": "package x\n\nfunc One(x int) int {\n\tif x > 0 {\n\t\treturn 1\n\t}\n\treturn 2\n}\n",
    "code_test.go": 'package x\n\nimport "testing"\n\n'
    "func TestOne(t *testing.T) {\n\tif One(1) != 1 {\n\t\tt.Fatal()\n\t}\n}\n",
}


def preset(language: str, gate: str = "tests", profile: str = "standard") -> dict[str, object]:
    image = {"image": {"repository": language, "tag": "1"}}
    profiles = of_kind(rendered({"gates": {"language": language, language: image}}), "GateProfile")
    return next(one for one in profiles[profile]["spec"]["gates"] if one["name"] == gate)


def run(root: Path, command: list[str]) -> int:
    home = os.environ.get("HOME", "/tmp")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": home, "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=root / "workspace", env=env, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    return done.returncode


def judged(root: Path, gate: dict[str, object]) -> JudgeReport:
    coverage, tests = gate.get("coverage") or {}, gate.get("tests") or {}
    assert isinstance(coverage, dict)
    assert isinstance(tests, dict)
    given = JudgeInput(coverage.get("paths", []), "", str(coverage.get("minimumPercent", 0)), tests.get("paths", []))
    return judge(given, Places(workspace=root / "workspace"))


@pytest.mark.parametrize(
    ("language", "tool", "files"), [("python", "python", PYTHON), ("node", "node", NODE), ("go", "go", GO)]
)
def test_a_language_s_tests_tell_their_coverage(tmp_path: Path, language: str, tool: str, files: Files) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    for name, text in files.items():
        (tmp_path / "workspace" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "workspace" / name).write_text(text)
    gate = preset(language)
    assert run(tmp_path, gate["command"]) == 0  # type: ignore[arg-type]
    report = judged(tmp_path, gate)
    assert report.reason == "CoverageTooLow"
    assert 0 < report.covered < report.total
    if gate.get("tests"):
        assert (report.ran, report.skipped, report.failed) == (1, 1, 0)
    minimal = preset(language, profile="minimal")
    assert run(tmp_path, minimal["command"]) == 0  # type: ignore[arg-type]
    assert judged(tmp_path, minimal).reason == ""


def test_python_builds_and_integration_tests_fail_where_they_should(tmp_path: Path) -> None:
    (tmp_path / "workspace" / "tests").mkdir(parents=True)
    build, integration = (preset("python", name, "strict")["command"] for name in ("build", "integration"))
    assert run(tmp_path, integration) != 0  # type: ignore[arg-type]  # none there is no pass
    (tmp_path / "workspace" / "good.py").write_text("x = 1\n")
    assert run(tmp_path, build) == 0  # type: ignore[arg-type]
    (tmp_path / "workspace" / "bad.py").write_text("x = \n")
    assert run(tmp_path, build) != 0  # type: ignore[arg-type]
