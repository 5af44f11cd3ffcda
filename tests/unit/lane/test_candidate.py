"""Candidates on real bare repositories: what each strategy makes of each kind of change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.repo import Repo
from tidegate.clients.git_objects import Objects, Person
from tidegate.lane.candidate import (
    FAST_FORWARD,
    MERGE_COMMIT,
    REBASE,
    SQUASH,
    Change,
    form,
)
from tidegate.lane.decide.model import Conflict, Formed, Nothing, Outcome

LINES = "".join(f"line {n}\n" for n in range(20))
STRATEGIES = (REBASE, SQUASH, MERGE_COMMIT, FAST_FORWARD)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo")


def edit(text: str, line: int, new: str) -> str:
    lines = text.splitlines(keepends=True)
    lines[line] = new + "\n"
    return "".join(lines)


def formed(repo: Repo, base: str, change: Change) -> Outcome:
    with Objects(repo.client()) as objects:
        return form(objects, base, change)


def must(outcome: Outcome) -> Formed:
    assert isinstance(outcome, Formed), outcome
    return outcome


def diverged(repo: Repo) -> tuple[str, str]:
    """A base and a source of two commits that both moved on from one root."""
    root = repo.commit({"a": LINES, "b": "b\n"})
    base = repo.commit({"a": edit(LINES, 0, "base"), "b": "b\n"}, root)
    one = repo.commit({"a": edit(LINES, 19, "src"), "b": "b\n"}, root, message="First\n\nBody", author="Bob")
    two = repo.commit({"a": edit(LINES, 19, "src"), "b": "b\n", "c": "c\n"}, one, message="Second", author="Bob")
    return base, two


MERGED = {"a": edit(edit(LINES, 0, "base"), 19, "src"), "b": "b\n", "c": "c\n"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_three_way_merge(repo: Repo, strategy: str) -> None:
    base, source = diverged(repo)
    result = must(formed(repo, base, Change(source, strategy)))
    assert repo.files(result.commit) == {k: v.removesuffix("\n") for k, v in MERGED.items()}
    assert repo.contains(result.commit, base)
    assert repo.parents(result.commit)[0] == (base if strategy != REBASE else repo.parents(result.commit)[0])
    assert not result.note


def test_the_shape_of_history_is_the_strategys(repo: Repo) -> None:
    base, source = diverged(repo)
    rebased = must(formed(repo, base, Change(source, REBASE))).commit
    subjects = repo.git("log", "--format=%s|%an|%cn", f"{base}..{rebased}").splitlines()
    assert subjects == ["Second|Bob|Tidegate", "First|Bob|Tidegate"]
    squashed = must(formed(repo, base, Change(source, SQUASH))).commit
    assert repo.parents(squashed) == [base]
    assert "- First" in repo.git("log", "-1", "--format=%B", squashed)
    merged = must(formed(repo, base, Change(source, MERGE_COMMIT)))
    assert repo.parents(merged.commit) == [base, source]
    forward = must(formed(repo, base, Change(source, FAST_FORWARD)))
    assert forward.strategy == MERGE_COMMIT
    assert forward.commit == merged.commit


def test_fast_forward_lands_the_source_itself(repo: Repo) -> None:
    base = repo.commit({"a": "1"})
    source = repo.commit({"a": "2"}, base)
    assert must(formed(repo, base, Change(source, FAST_FORWARD))).commit == source


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_input_gives_the_same_commit(repo: Repo, tmp_path: Path, strategy: str) -> None:
    base, source = diverged(repo)
    first = must(formed(repo, base, Change(source, strategy, trailers=(("Tidegate-Job", "j"),))))
    copy = tmp_path / "copy"
    repo.set("refs/heads/b", base)
    repo.set("refs/heads/s", source)
    repo.git("clone", "-q", "--mirror", str(repo.directory), str(copy))
    second = must(formed(Repo(copy), base, Change(source, strategy, trailers=(("Tidegate-Job", "j"),))))
    assert first == second


def test_dates_are_the_later_of_base_and_source(repo: Repo) -> None:
    root = repo.commit({"a": "1"})
    source = repo.commit({"a": "1", "s": "s"}, root)
    base = repo.commit({"a": "1", "b": "b"}, root)
    commit = must(formed(repo, base, Change(source))).commit
    base_time = repo.git("log", "-1", "--format=%ct", base)
    assert repo.git("log", "-1", "--format=%at %ct %ci", commit).startswith(f"{base_time} {base_time} ")


def test_conflicts_come_with_their_files(repo: Repo) -> None:
    root = repo.commit({"a": "1\n", "d/b": "1\n", "c": "1\n"})
    base = repo.commit({"a": "2\n", "d/b": "2\n", "c": "1\n"}, root)
    source = repo.commit({"a": "3\n", "d/b": "3\n", "c": "3\n"}, root)
    for strategy in STRATEGIES:
        result = formed(repo, base, Change(source, strategy))
        assert isinstance(result, Conflict)
        assert result.files == ("a", "d/b")


def test_changed_here_deleted_there_is_a_conflict(repo: Repo) -> None:
    root = repo.commit({"a": LINES, "b": "b"})
    base = repo.commit({"b": "b"}, root)
    source = repo.commit({"a": edit(LINES, 1, "x"), "b": "b"}, root)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert result.files == ("a",)


def test_a_rename_here_and_an_edit_there_merge(repo: Repo) -> None:
    root = repo.commit({"a": LINES, "b": "b"})
    base = repo.commit({"moved/a": LINES, "b": "b"}, root)
    source = repo.commit({"a": edit(LINES, 3, "x"), "b": "b"}, root)
    result = must(formed(repo, base, Change(source)))
    assert repo.files(result.commit)["moved/a"] == edit(LINES, 3, "x").removesuffix("\n")


def test_a_directory_rename_does_not_move_new_files(repo: Repo) -> None:
    root = repo.commit({"old/a": LINES, "old/b": LINES + "b"})
    base = repo.commit({"new/a": LINES, "new/b": LINES + "b"}, root)
    source = repo.commit({"old/a": LINES, "old/b": LINES + "b", "old/c": "c"}, root)
    assert "old/c" in repo.files(must(formed(repo, base, Change(source))).commit)


def test_modes_symlinks_and_submodules_are_kept(repo: Repo) -> None:
    root = repo.commit({"a": "#!/bin/sh\n", "b": "b"})
    base = repo.commit({"a": "#!/bin/sh\n", "b": "bb"}, root)
    source = repo.commit({"a": ("100755", "#!/bin/sh\n"), "b": "b", "l": ("120000", "a"), "m": ("160000", root)}, root)
    commit = must(formed(repo, base, Change(source))).commit
    modes = {line.split("\t")[1]: line[:6] for line in repo.git("ls-tree", commit).splitlines()}
    assert modes == {"a": "100755", "b": "100644", "l": "120000", "m": "160000"}


def modes(repo: Repo, commit: str) -> dict[str, str]:
    return {line.split("\t")[1]: line[:6] for line in repo.git("ls-tree", "-r", commit).splitlines()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_mode_changed_here_and_a_text_there_both_count(repo: Repo, strategy: str) -> None:
    root = repo.commit({"a": LINES, "o": "o"})
    base = repo.commit({"a": edit(LINES, 3, "x"), "o": "o"}, root)
    source = repo.commit({"a": ("100755", LINES), "o": "o"}, root)
    commit = must(formed(repo, base, Change(source, strategy))).commit
    assert modes(repo, commit) == {"a": "100755", "o": "100644"}
    assert repo.files(commit)["a"] == edit(LINES, 3, "x").removesuffix("\n")


def test_a_mode_alone_is_a_change(repo: Repo) -> None:
    root = repo.commit({"a": "a"})
    for strategy in STRATEGIES:
        commit = must(formed(repo, root, Change(repo.commit({"a": ("100755", "a")}, root), strategy))).commit
        assert modes(repo, commit) == {"a": "100755"}


@pytest.mark.parametrize("other", [("120000", "b"), ("160000", "1" * 40)])
def test_a_file_that_became_something_else_conflicts_with_an_edit(repo: Repo, other: tuple[str, str]) -> None:
    root = repo.commit({"a": LINES, "b": "b"})
    base = repo.commit({"a": edit(LINES, 3, "x"), "b": "b"}, root)
    source = repo.commit({"a": other, "b": "b"}, root)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert any(file.startswith("a") for file in result.files)


def test_renamed_to_two_names_conflicts(repo: Repo) -> None:
    root = repo.commit({"a": LINES})
    base, source = repo.commit({"here": LINES}, root), repo.commit({"there": LINES}, root)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert {"here", "there"} <= set(result.files)


def test_a_submodule_moves_with_the_change(repo: Repo) -> None:
    root = repo.commit({"m": ("160000", "1" * 40), "a": "a"})
    base = repo.commit({"m": ("160000", "1" * 40), "a": "b"}, root)
    source = repo.commit({"m": ("160000", "2" * 40), "a": "a"}, root)
    for strategy in STRATEGIES:
        commit = must(formed(repo, base, Change(source, strategy))).commit
        assert repo.git("rev-parse", f"{commit}:m") == "2" * 40
        assert repo.git("show", f"{commit}:a") == "b"
    gone = must(formed(repo, base, Change(repo.commit({"a": "a"}, root)))).commit
    assert list(repo.files(gone)) == ["a"]


def test_submodules_moved_on_both_sides_conflict(repo: Repo) -> None:
    root = repo.commit({"m": ("160000", "1" * 40), "a": "a"})
    base = repo.commit({"m": ("160000", "2" * 40), "a": "a"}, root)
    source = repo.commit({"m": ("160000", "3" * 40), "a": "a"}, root)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert result.files == ("m",)


def test_what_the_base_already_has_does_not_land(repo: Repo) -> None:
    root = repo.commit({"a": "1"})
    base = repo.commit({"a": "1", "b": "same"}, root)
    source = repo.commit({"a": "1", "b": "same"}, root, message="Again")
    for strategy in STRATEGIES:
        assert formed(repo, base, Change(source, strategy)) == Nothing(base)
    assert formed(repo, base, Change(root)) == Nothing(base, contained=True)
    assert formed(repo, base, Change(base)) == Nothing(base, contained=True)


def test_commits_that_become_empty_are_dropped(repo: Repo) -> None:
    root = repo.commit({"a": "1\n"})
    base = repo.commit({"a": "1\n", "b": "b"}, root)
    one = repo.commit({"a": "1\n", "b": "b"}, root, message="Same as the base")
    two = repo.commit({"a": "1\n", "b": "b", "c": "c"}, one, message="More")
    result = must(formed(repo, base, Change(two)))
    assert repo.git("log", "--format=%s", f"{base}..{result.commit}") == "More"


def test_commits_that_were_empty_from_the_start_are_dropped(repo: Repo) -> None:
    root = repo.commit({"a": "1"})
    base = repo.commit({"a": "1", "b": "b"}, root)
    empty = repo.commit({"a": "1"}, root, message="Empty")
    assert formed(repo, base, Change(empty)) == Nothing(base)
    more = repo.commit({"a": "1", "c": "c"}, empty, message="More")
    result = must(formed(repo, base, Change(more)))
    assert repo.git("log", "--format=%s", f"{base}..{result.commit}") == "More"
    for strategy in STRATEGIES:  # of a source right on the base too
        assert formed(repo, root, Change(empty, strategy)) == Nothing(root)


def test_a_change_and_its_revert_land_nothing(repo: Repo) -> None:
    root = repo.commit({"a": "1"})
    there = repo.commit({"a": "2"}, root)
    back = repo.commit({"a": "1"}, there)
    for strategy in STRATEGIES:
        assert formed(repo, root, Change(back, strategy)) == Nothing(root)


def test_a_commit_and_its_revert_do_not_bring_back_what_the_base_changed(repo: Repo) -> None:
    # Replaying commits one after the other is not the same as the merge: here the replay conflicts.
    root = repo.commit({"a": "1\n", "x": "x"})
    base = repo.commit({"a": "2\n", "x": "x"}, root)
    one = repo.commit({"a": "3\n", "x": "x"}, root, message="Try")
    two = repo.commit({"a": "1\n", "x": "x", "n": "n"}, one, message="Back, and new")
    result = must(formed(repo, base, Change(two)))
    assert result.strategy == SQUASH
    assert "one commit" in result.note
    assert repo.files(result.commit) == {"a": "2", "x": "x", "n": "n"}


def test_replay_uses_each_commits_own_parent(repo: Repo) -> None:
    # The plain loop merges the tip with the commit's whole history and loses the base's revert.
    root = repo.commit({"a": LINES})
    one = repo.commit({"a": edit(LINES, 5, "one")}, root, message="One")
    two = repo.commit({"a": edit(edit(LINES, 5, "one"), 15, "two")}, one, message="Two")
    base = repo.commit({"a": edit(LINES, 0, "base")}, root)
    result = must(formed(repo, base, Change(two)))
    assert result.strategy == REBASE
    first = repo.parents(result.commit)[0]
    assert repo.files(first)["a"] == edit(edit(LINES, 0, "base"), 5, "one").removesuffix("\n")


def test_a_merge_in_the_range_lands_as_one_commit_and_says_so(repo: Repo) -> None:
    root = repo.commit({"a": "a"})
    side = repo.commit({"a": "a", "s": "s"}, root)
    one = repo.commit({"a": "a", "o": "o"}, root)
    source = repo.commit({"a": "a", "s": "s", "o": "o"}, one, side, message="Merge side")
    base = repo.commit({"a": "a", "b": "b"}, root)
    result = must(formed(repo, base, Change(source)))
    assert (result.strategy, repo.parents(result.commit)) == (SQUASH, [base])
    assert "merge" in result.note


@pytest.mark.parametrize("strategy", [MERGE_COMMIT, FAST_FORWARD, SQUASH])
def test_a_merge_in_the_range_is_kept_where_history_is(repo: Repo, strategy: str) -> None:
    root = repo.commit({"a": "a"})
    side = repo.commit({"a": "a", "s": "s"}, root)
    one = repo.commit({"a": "a", "o": "o"}, root)
    source = repo.commit({"a": "a", "s": "s", "o": "o"}, one, side, message="Merge side")
    result = must(formed(repo, root, Change(source, strategy)))
    assert not result.note
    assert repo.contains(result.commit, side) is (strategy != SQUASH)
    assert (result.commit == source) is (strategy == FAST_FORWARD)


def test_a_source_that_merged_the_base_in_lands_as_one_commit(repo: Repo) -> None:
    root = repo.commit({"a": LINES})
    own = repo.commit({"a": edit(LINES, 3, "own")}, root)
    base = repo.commit({"a": edit(LINES, 15, "base")}, root)
    both = edit(edit(LINES, 3, "own"), 15, "base")
    source = repo.commit({"a": both}, own, base, message="Merge the branch")
    result = must(formed(repo, base, Change(source)))
    assert (result.strategy, repo.parents(result.commit)) == (SQUASH, [base])
    assert repo.files(result.commit) == {"a": both.removesuffix("\n")}


def test_unrelated_histories_do_not_merge(repo: Repo) -> None:
    result = formed(repo, repo.commit({"a": "a"}), Change(repo.commit({"b": "b"})))
    assert isinstance(result, Conflict)
    assert "history" in result.note


@pytest.mark.parametrize("rule", ["*.bin -merge", "*.bin binary", "*.bin merge=ours-only", "*.bin merge=binary"])
def test_paths_that_no_text_merge_may_touch_conflict(repo: Repo, rule: str) -> None:
    shared = {".gitattributes": rule + "\n", "t.txt": "t"}
    root = repo.commit({**shared, "d/x.bin": LINES})
    base = repo.commit({**shared, "d/x.bin": edit(LINES, 0, "base")}, root)
    source = repo.commit({**shared, "d/x.bin": edit(LINES, 19, "source")}, root)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert result.files == ("d/x.bin",)
    untouched = repo.commit({**shared, "d/x.bin": LINES, "new": "n"}, root)
    assert isinstance(formed(repo, base, Change(untouched)), Formed)


@pytest.mark.parametrize("mover", ["base", "source"])
@pytest.mark.parametrize("place", ["d/y.bin", "e/x.bin"])
def test_a_rename_on_one_side_does_not_evade_attributes(repo: Repo, mover: str, place: str) -> None:
    """Git follows the rename and would merge the two as text, since it reads no attributes here."""
    shared = {".gitattributes": "*.bin -merge\n"}
    root = repo.commit({**shared, "d/x.bin": LINES})
    moved = repo.commit({**shared, place: edit(LINES, 0, "moved")}, root)
    edited = repo.commit({**shared, "d/x.bin": edit(LINES, 19, "edited")}, root)
    base, source = (moved, edited) if mover == "base" else (edited, moved)
    result = formed(repo, base, Change(source))
    assert isinstance(result, Conflict)
    assert result.files == ("d/x.bin",)


def test_a_rename_without_an_edit_on_the_other_side_merges(repo: Repo) -> None:
    shared = {".gitattributes": "*.bin -merge\n"}
    root = repo.commit({**shared, "d/x.bin": LINES, "o": "1"})
    base = repo.commit({**shared, "e/y.bin": LINES, "o": "1"}, root)
    source = repo.commit({**shared, "d/x.bin": LINES, "o": "2"}, root)
    commit = must(formed(repo, base, Change(source))).commit
    assert repo.files(commit) == {".gitattributes": "*.bin -merge", "e/y.bin": LINES.removesuffix("\n"), "o": "2"}


def test_attributes_are_the_bases_not_the_changes(repo: Repo) -> None:
    root = repo.commit({"d/.gitattributes": "x -merge\n", "d/x": LINES})
    base = repo.commit({"d/.gitattributes": "x -merge\n", "d/x": edit(LINES, 0, "base")}, root)
    source = repo.commit({"d/x": edit(LINES, 19, "source")}, root)
    assert isinstance(formed(repo, base, Change(source)), Conflict)


@pytest.mark.parametrize("name", ["log.txt", "we ird[1]*.txt", 'quo"te.txt', "back\\slash.txt", "ümlaut.txt"])
def test_union_is_honoured(repo: Repo, name: str) -> None:
    shared = {".gitattributes": "*.txt merge=union\n"}
    root = repo.commit({**shared, name: "0\n", "o.md": "0\n"})
    base = repo.commit({**shared, name: "0\nbase\n", "o.md": "0\n"}, root)
    source = repo.commit({**shared, name: "0\nsource\n", "o.md": "0\n"}, root)
    result = must(formed(repo, base, Change(source)))
    assert repo.files(result.commit)[name] == "0\nbase\nsource"


def test_an_agents_tidegate_trailers_are_removed_and_ours_added(repo: Repo) -> None:
    root = repo.commit({"a": "a"})
    message = "Do it\n\ntidegate-job: forged\n  continued\nReviewed-by: A <a@b>\nTidegate-Gates: all\x1b[31m\u202e\n"
    source = repo.commit({"a": "a", "s": "s"}, root, message=message)
    base = repo.commit({"a": "a", "b": "b"}, root)
    change = Change(source, author=Person("Team <x>\n", "team@example.org"), trailers=(("Tidegate-Job", "ns/real"),))
    commit = must(formed(repo, base, change)).commit
    assert repo.git("log", "-1", "--format=%B", commit) == ("Do it\n\nReviewed-by: A <a@b>\nTidegate-Job: ns/real\n")
    assert repo.git("log", "-1", "--format=%an <%ae>", commit) == "Team x <team@example.org>"


def test_candidates_pass_strict_fsck(repo: Repo) -> None:
    base, source = diverged(repo)
    for strategy in STRATEGIES:
        repo.set(f"refs/heads/{strategy}", must(formed(repo, base, Change(source, strategy))).commit)
    repo.git("fsck", "--strict")
