"""What stands for a change under review, on real repositories: the same for the same change, for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.repo import File, Repo
from tidegate.clients import git_change
from tidegate.clients.git import GitError
from tidegate.lane import patches as module
from tidegate.lane.patches import Patches, patch_of

LINES = "".join(f"line {n}\n" for n in range(40))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo.git")


def identity(repo: Repo, before: dict[str, File], after: dict[str, File], *, on: str = "") -> str:
    base = repo.commit(before, *([on] if on else []))
    return patch_of(repo.client(), repo.commit(after, base), (base,)).patch_id


def test_the_same_change_on_another_base_is_the_same(repo: Repo) -> None:
    first = identity(repo, {"a": LINES}, {"a": LINES.replace("line 30", "new")})
    assert len(first) == 40
    moved = "top\n" * 5 + LINES
    assert identity(repo, {"a": moved, "b": "x"}, {"a": moved.replace("line 30", "new"), "b": "x"}) == first


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": "if x:\n    y()\n    z()\n"}, {"a": "if x:\n    y()\nz()\n"}),
        ({"a": "if x:\n    y()\n    z()\n"}, {"a": "if x:\n    y()\n\tz()\n"}),
        ({"a": "x"}, {"a": ("100755", "x")}),
        ({"a": "x"}, {"a": ("120000", "x")}),
        ({"a": "x"}, {"b": "x"}),
        ({"a": "x"}, {"a": "x", "b": ""}),
        ({"a": "x"}, {"a": "x", "c": ""}),
        ({"a": "\0" + LINES}, {"a": "\0\1" + LINES}),
        ({"a": "\0" + LINES}, {"a": "\0\2" + LINES}),
        ({"a": LINES * 300 + "x\0y\n"}, {"a": LINES * 300 + "x\0z\n"}),
        ({"a": LINES * 300 + "x\0y\n"}, {"a": LINES * 300 + "x\0Z\n"}),
        ({"a": ("120000", "x")}, {"a": ("120000", "z")}),
        ({"a": LINES}, {"a": LINES.replace("line 5\n", "index 1..2\n@@ x\n")}),
    ],
)
def test_whatever_differs_makes_another_change(repo: Repo, before: dict[str, File], after: dict[str, File]) -> None:
    others: list[tuple[dict[str, File], dict[str, File]]] = [
        ({"a": "if x:\n    y()\n    z()\n"}, {"a": "if x:\n    y()\n  z()\n"}),
        ({"a": "x"}, {"a": "x", "d": ""}),
        ({"a": "\0" + LINES}, {"a": "\0\3" + LINES}),
        ({"a": LINES * 300 + "x\0y\n"}, {"a": LINES * 300 + "x\0w\n"}),
        ({"a": "x"}, {"a": "z"}),
        ({"a": LINES}, {"a": LINES.replace("line 5\n", "index 3..4\n@@ y\n")}),
    ]
    own = identity(repo, before, after)
    assert identity(repo, before, after) == own
    assert own not in {identity(repo, *other) for other in others}


def test_attributes_of_the_change_hide_nothing(repo: Repo) -> None:
    base: dict[str, File] = {"a": LINES}
    hidden: dict[str, File] = {".gitattributes": "* binary\n"}
    first = identity(repo, base, {**hidden, "a": LINES + "one\n"})
    assert first != identity(repo, base, {**hidden, "a": LINES + "two\n"})


def test_without_a_common_history_the_whole_tree_counts(repo: Repo) -> None:
    one, other = (patch_of(repo.client(), repo.commit({"a": text}), ()) for text in ("x", "y"))
    assert one.patch_id != other.patch_id
    assert one.bases == ()


def test_each_base_of_a_criss_cross_history_counts(repo: Repo) -> None:
    base = repo.commit({"a": "1", "b": "1"})
    left, right = repo.commit({"a": "2", "b": "1"}, base), repo.commit({"a": "1", "b": "2"}, base)
    head, source = repo.commit({"a": "2", "b": "2"}, left, right), repo.commit({"a": "2", "b": "1"}, right, left)
    patches = Patches()
    patches.measure(repo.client(), head, {"u": source}, {})
    assert set(patches.patches["u"].bases) == {left, right}
    assert patches.patch_id("u") != patch_of(repo.client(), source, (left,)).patch_id


def test_more_bases_than_can_be_reviewed_give_no_identity(repo: Repo) -> None:
    commit = repo.commit({"a": "1"})
    assert patch_of(repo.client(), commit, tuple(f"{n:040}" for n in range(9))).patch_id == ""


def test_the_same_lines_at_another_place_are_another_change(repo: Repo) -> None:
    """Two places alike in the three lines around them, as git shows by itself."""
    body = "".join(f"    {name}\n" for name in "abcdefg")
    functions = [f"def {name}():\n{body}" for name in "xy"]
    edited = [one.replace("    d\n", "    D\n") for one in functions]
    before, one, other = functions, [edited[0], functions[1]], [functions[0], edited[1]]
    first, second = (identity(repo, {"a": "".join(before)}, {"a": "".join(after)}) for after in (one, other))
    assert first != second


def test_a_long_change_is_known_by_its_files(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANGE_BYTES", 4096)
    first = identity(repo, {"a": LINES}, {"a": "x\n" * 20_000})
    assert identity(repo, {"a": LINES, "b": ""}, {"a": "x\n" * 20_000, "b": ""}) == first
    assert identity(repo, {"a": LINES}, {"a": "x\n" * 20_000 + "y\n"}) != first


def test_a_change_that_takes_too_much_memory_or_time_is_known_by_its_files(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "\n" * 6_000_000
    base, source = repo.commit({"a": many}), repo.commit({"a": many + "x\n"})
    assert git_change.change_text(repo.client(), base, source, 4096, 30) is None
    small = repo.commit({"a": "1\n"}), repo.commit({"a": "2\n"})
    assert b"+2" in (git_change.change_text(repo.client(), *small, 4096, 30) or b"")
    assert git_change.change_text(repo.client(), *small, 4096, 0) is None
    monkeypatch.setattr(module, "PATCH_SECONDS", 0)
    assert patch_of(repo.client(), small[1], small[:1]).patch_id


def test_a_base_that_is_not_there_is_an_error(repo: Repo) -> None:
    with pytest.raises(GitError):
        patch_of(repo.client(), repo.commit({"a": "1"}), ("1" * 40,))


def test_a_head_that_takes_in_a_part_of_it_makes_another_change_of_it(repo: Repo) -> None:
    git = repo.client()
    root = repo.commit({"a": "1"})
    part = repo.commit({"a": "1", "b": "1"}, root)
    source = repo.commit({"a": "1", "b": "1", "c": "1"}, part)
    ranges = {"u": frozenset({part, source})}
    patches = Patches()
    patches.measure(git, root, {"u": source}, ranges)
    whole = patches.patches["u"]
    assert whole.bases == (root,)
    other = repo.commit({"a": "1", "z": "1"}, root)
    patches.measure(git, other, {"u": source}, ranges)
    assert patches.patches["u"] is whole
    taken = repo.commit({"a": "1", "b": "1", "z": "1"}, other, part)
    patches.measure(git, taken, {"u": source}, ranges)
    assert patches.patches["u"].bases == (part,)
    assert patches.patch_id("u") != whole.patch_id
    patches.measure(git, root, {"u": source}, ranges)  # somebody took it back: it brings all of it again
    assert patches.patches["u"] == whole
    patches.measure(git, other, {"u": source}, ranges)
    assert patches.patches["u"].bases == (root,)
    patches.forget(set())
    assert patches.patch_id("u") is None


def test_not_all_are_measured_at_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    base = repo.commit({"a": "1"})
    sources = {str(n): repo.commit({"a": str(n + 2)}, base) for n in range(5)}
    patches = Patches()
    for known in (2, 4, 5, 5):
        patches.measure(repo.client(), base, sources, {})
        assert sum(patches.patch_id(uid) is not None for uid in sources) == known
    assert len({patches.patch_id(uid) for uid in sources}) == 5


def test_a_submodule_that_moves_is_a_change_whatever_gitmodules_says(repo: Repo) -> None:
    modules = '[submodule "m"]\n\tpath = m\n\turl = https://a.b/m\n\tignore = all\n'
    base: dict[str, File] = {".gitmodules": modules, "m": ("160000", "1" * 40)}
    repo.set("HEAD", repo.commit(base))
    one = identity(repo, base, {**base, "m": ("160000", "2" * 40)})
    assert one != identity(repo, base, {**base, "m": ("160000", "3" * 40)})
