"""The demo's own logic: its request, its repositories' files."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from dev.demo import build, install, repository
from dev.demo.kubectl import DemoError


def names_in(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return set(tar.getnames())


def test_the_example_gets_its_name_and_repository() -> None:
    text = build.for_repository(build.EXAMPLE.read_text(), "mathkit-7", "http://git.example.org/mathkit-7.git")
    request = yaml.safe_load(text)
    assert request["metadata"]["name"] == "mathkit-7"
    assert request["spec"]["repository"]["url"] == "http://git.example.org/mathkit-7.git"
    assert request["spec"]["request"] == yaml.safe_load(build.EXAMPLE.read_text())["spec"]["request"]


def test_an_example_of_another_shape_is_refused() -> None:
    with pytest.raises(DemoError):
        build.for_repository("metadata:\n  name: other\n", "a", "b")


def test_caches_stay_out_of_a_plain_directory(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", "__pycache__/a.pyc", ".venv/lib/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names_in(repository.archive(tmp_path)) == {"a.py", "sub/b.py"}


def test_of_a_work_tree_what_git_ignores_stays_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.log").write_text("x")
    assert names_in(repository.archive(tmp_path)) == {".gitignore", "a.py"}


def test_a_model_of_ones_own_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_BASE_URL", "https://models.example.org/v1")
    monkeypatch.delenv("LLM_MODEL", raising=False)
    with pytest.raises(DemoError, match="LLM_MODEL"):
        install.Model.read()
    monkeypatch.setenv("LLM_MODEL", "large")
    assert install.Model.read() == install.Model("https://models.example.org/v1", "large", "")


def test_without_a_model_of_ones_own_the_embedded_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_BASE_URL", raising=False)
    assert install.Model.read().upstream == ""


def test_seed_and_request_name_the_same_tests() -> None:
    request = yaml.safe_load(build.EXAMPLE.read_text())["spec"]["request"]
    present = {path.stem.removeprefix("test_") for path in (build.SEED / "mathkit").glob("*.py")}
    wanted = {path.name for path in (build.SEED / "tests").glob("test_*.py") if path.stem[5:] not in present}
    assert wanted
    assert all(f"tests/{name}" in request for name in wanted)
