"""The gate of sweeps that looks for conflicts in the head, on a real repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.git import git
from tidegate.clients.git import Git
from tidegate.runner.markers import report

CONFLICT = "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git("init", "--quiet", "-b", "main", str(tmp_path))
    return tmp_path


def found(repository: Path, files: dict[str, str]) -> tuple[str, int]:
    for path, text in files.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "-m", "Head", cwd=repository)
    return report(Git(repository / ".git"))


def test_each_file_with_a_conflict_is_named(repository: Path) -> None:
    files = {"a.py": "x = 1\n", "docs/b: c.md": CONFLICT, "z.txt": "\0" + CONFLICT, "new\nline": CONFLICT}
    text, code = found(repository, files)
    assert code == 1
    lines = text.splitlines()
    places = {line.split(": a conflict")[0] for line in lines[:-1]}
    assert places == {"docs/b: c.md:2", "z.txt:2", "new\N{REPLACEMENT CHARACTER}line:2"}
    assert "conflict-marker-size" in lines[-1]


def test_parts_of_one_are_none(repository: Path) -> None:
    files = {"title.rst": "Title\n=======\n", "begin.txt": "<<<<<<< a\n", "indented.md": "  <<<<<<< a\n"}
    assert found(repository, files) == ("no conflicts are left", 0)


@pytest.mark.parametrize(("size", "code"), [("32", 0), ("7", 1), ("", 1)])
def test_an_attribute_of_git_says_that_lines_are_meant(repository: Path, size: str, code: int) -> None:
    attribute = f"fixtures/* conflict-marker-size{f'={size}' if size else ''}\n"
    assert found(repository, {".gitattributes": attribute, "fixtures/a.txt": CONFLICT})[1] == code
