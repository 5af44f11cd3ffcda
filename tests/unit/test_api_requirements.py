"""Where the platform requires gates: no spelling of a URL evades them."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.api.requirements import place_of, requires

SAME = (
    "https://git.example.org/team/repo",
    "https://git.example.org/team/repo.git",
    "https://git.example.org/team/repo.git/",
    "https://GIT.Example.org./team/Repo",
    "https://git.example.org:8443/team//repo",
    "https://git.example.org/other/../team/./repo",
    "https://git.example.org/te%61m/repo%2egit",
    "https://git.example.org/other/%2e%2e/team/repo",
    "ssh://git@git.example.org:2222/team/repo.git",
    "http://git.example.org/team/repo",
)


def profile(*required: dict[str, str]) -> dict[str, Any]:
    return {"gates": [], "requiredFor": list(required)}


@pytest.mark.parametrize("url", SAME)
def test_a_repository_has_one_place_however_it_is_spelled(url: str) -> None:
    assert place_of(url) == "git.example.org/team/repo"
    assert requires(profile({"repository": "git.example.org/team/*"}), url, "main")
    assert requires(profile({"repository": "Git.example.org/Team/repo.git"}), url, "main")


@pytest.mark.parametrize(
    ("repository", "wanted"),
    [
        ("git.example.org", True),
        ("git.example.org/team", True),
        ("git.example.org/*/repo", True),
        ("**", True),
        ("**/repo", True),
        ("git.example.org/tea", False),
        ("git.example.org/*", True),
        ("git.example.org/team/repo/more", False),
        ("evil.org/**", False),
        ("example.org/**", False),
    ],
)
def test_patterns(repository: str, wanted: bool) -> None:
    assert requires(profile({"repository": repository}), SAME[0], "main") is wanted


@pytest.mark.parametrize(
    ("branch", "wanted"), [("main", False), ("release/*", True), ("release", True), ("**", True), ("", True)]
)
def test_branches(branch: str, wanted: bool) -> None:
    entry = {"repository": "**", **({"branch": branch} if branch else {})}
    assert requires(profile(entry), SAME[0], "release/1.0") is wanted


def test_nothing_is_required_where_nobody_says_so() -> None:
    assert not requires({"gates": []}, SAME[0], "main")
    assert not requires({"gates": [], "requiredFor": None}, SAME[0], "main")
