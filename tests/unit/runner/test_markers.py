"""Conflict markers that an agent left."""

from __future__ import annotations

import pytest

from tidegate.runner.conflict import first_conflict, first_marker

CONFLICT = b"a\n<<<<<<< refs/runner/target\nb\n=======\nc\n>>>>>>> refs/runner/change\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (CONFLICT, 2),
        (CONFLICT.replace(b"\n", b"\r\n"), 2),
        (b"a\n=======\nb\n", 2),
        (b"a\nb\n>>>>>>> x", 3),
        (b"||||||| base\n", 1),
        (b"<<<<<<<\n", 1),
        (b"", 0),
        (b"a <<<<<<< b\n  =======\n", 0),
        (b"========\n<<<<<<<<\n<<<<<<<x\n", 0),
    ],
)
def test_where_the_first_one_stands(content: bytes, line: int) -> None:
    assert first_marker(content) == line


def test_lines_that_a_side_has_are_its_own() -> None:
    heading = b"Title\n=======\ntext\n"
    assert first_marker(heading + b"more\n", heading) == 0
    assert first_marker(heading.replace(b"\n", b"\r\n"), heading) == 0
    assert first_marker(heading + b">>>>>>> x\n", heading) == 4


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (CONFLICT, 2),
        (CONFLICT.replace(b"\n", b"\r\n"), 2),
        (CONFLICT.replace(b"=======", b"||||||| base\nb\n======="), 2),
        (b"<<<<<<< alone\n" + CONFLICT, 3),
        (b"Title\n=======\n>>>>>>> quoted\n", 0),
        (b"<<<<<<< a\n>>>>>>> b\n=======\n", 0),
        (b"<<<<<<< a\n=======\n", 0),
    ],
)
def test_where_a_whole_conflict_begins(content: bytes, line: int) -> None:
    assert first_conflict(content) == line


def test_a_conflict_that_the_file_held_before_is_its_own() -> None:
    assert first_conflict(b"more\n" + CONFLICT, CONFLICT) == 0
