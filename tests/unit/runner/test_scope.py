"""Which paths a scope covers."""

from __future__ import annotations

import pytest

from tidegate.runner.scope import in_scope, outside


@pytest.mark.parametrize(
    ("scope", "path", "covered"),
    [
        ([], "anything/at/all", True),
        ([""], "anything", True),
        (["."], "a/b", True),
        (["src"], "src/a.py", True),
        (["src/"], "src/deep/a.py", True),
        (["./src"], "src/a.py", True),
        (["src"], "srcs/a.py", False),
        (["src/a.py"], "src/a.py", True),
        (["src/a.py"], "src/a.pyc", False),
        (["src/*.py"], "src/a.py", True),
        (["src/*.py"], "src/b/a.py", False),
        (["src/**/*.py"], "src/a.py", True),
        (["src/**/*.py"], "src/b/c/a.py", True),
        (["**/test_*.py"], "test_a.py", True),
        (["**/test_*.py"], "x/y/test_a.py", True),
        (["src/**"], "src/a", True),
        (["src/**"], "other/a", False),
        (["a?.txt"], "ab.txt", True),
        (["a?.txt"], "a/.txt", False),
        (["a[0-9].txt"], "a5.txt", True),
        (["a[!0-9].txt"], "a5.txt", False),
        (["a[.txt"], "a[.txt", True),
        (["a.b"], "axb", False),
        (["*"], "a/b", True),
        (["x", "y"], "y/z", True),
    ],
)
def test_scope(scope: list[str], path: str, covered: bool) -> None:
    assert in_scope(path, scope) is covered


def test_outside_names_the_strangers_in_order() -> None:
    assert outside(["b", "src/x", "a"], ["src"]) == ["b", "a"]
