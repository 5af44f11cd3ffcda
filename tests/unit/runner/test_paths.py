"""Names and symlinks that an agent may not leave in a tree."""

from __future__ import annotations

import pytest

from tidegate.runner.paths import is_dot_git, link_refusal, name_refusal, show, twin_key


@pytest.mark.parametrize(
    "name",
    [".git", ".GIT", ".giT", ".git ", ".git.", ".git . .", ".g\u200cit", "\ufeff.git", ".gi\u206at", "git~1", "GIT~1",
     ".git::$INDEX_ALLOCATION", ".git:x", "a\\.git\\hooks", ".git\\x"],
)  # fmt: skip
def test_git_by_another_name(name: str) -> None:
    assert is_dot_git(name.encode())
    assert name_refusal(name.encode())


@pytest.mark.parametrize("name", [".github", ".gitignore", "git", "git~2", "a.git", ".gitx", "..git", ".gi", "git~10"])
def test_names_that_only_look_alike_are_fine(name: str) -> None:
    assert not is_dot_git(name.encode())
    assert not name_refusal(name.encode())


@pytest.mark.parametrize("name", [".gitmodules", ".GITMODULES", "gitmod~1", "GI7EBA~4", ".gitmodules ", "..\\x", ".."])
def test_other_names_that_are_refused(name: str) -> None:
    assert name_refusal(name.encode())


@pytest.mark.parametrize(("one", "other"), [("README", "readme"), ("café", "cafe\u0301"), ("Straße", "STRASSE")])
def test_twins(one: str, other: str) -> None:
    assert twin_key(one.encode()) == twin_key(other.encode())


def test_bytes_that_are_no_utf8_are_names_like_others() -> None:
    assert twin_key(b"\xff") != twin_key(b"\xfe")
    assert not name_refusal(b"\xff")


LINKS = {b"s": b"src", b"up": b".", b"deep/s": b"..", b"r1": b"r2", b"r2": b"r1", b"abs": b"/x"}


@pytest.mark.parametrize(
    ("path", "target", "allowed"),
    [
        (b"l", b"a", True),
        (b"a/b/l", b"../../c", True),
        (b"a/b/l", b"../../../c", False),
        (b"l", b"..", False),
        (b"l", b"a/../../x", False),
        (b"l", b"/etc/passwd", False),
        (b"l", b"./a//b/./c", True),
        (b"l", b"s/../x", True),
        (b"l", b"deep/s/../x", False),
        (b"a/l", b"../up/../x", False),
        (b"l", b"r1/x", False),
        (b"l", b"abs/x", False),
        (b"l", b".git/config", False),
        (b"l", b"x/.GIT/config", False),
        (b"l", b"l", False),
        (b"l", b"", True),
    ],
)
def test_symlinks_stay_inside_the_tree(path: bytes, target: bytes, allowed: bool) -> None:
    assert (link_refusal(path, {**LINKS, path: target}) == "") is allowed


def test_paths_are_shown_without_what_a_terminal_would_act_on() -> None:
    assert show("a\x1b[31m\u202eb\n".encode() + b"\xff") == "a\ufffd[31m\ufffdb\ufffd\ufffd"
