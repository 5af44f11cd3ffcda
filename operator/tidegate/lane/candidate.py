"""Candidates: the commit a lane would make its branch's new head. Same base, change and strategy: same commit.

All merging is `git merge-tree` on a bare repository; no work tree, no hook, no filter, no clock.
"""

from __future__ import annotations

import functools
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate.clients.git import Git, GitError
from tidegate.clients.git_objects import Commit, Objects, Person
from tidegate.clients.signing import SigningKey
from tidegate.lane.attributes import merge_attributes
from tidegate.lane.decide.model import Conflict, Formed, Nothing, Outcome
from tidegate.lane.messages import clean_name, with_trailers

REBASE = "Rebase"
SQUASH = "Squash"
MERGE_COMMIT = "MergeCommit"
FAST_FORWARD = "FastForward"
MAX_REPLAYED = 500  # commits of one change; beyond that it lands as one
COMMITTER = Person("Tidegate", "lane@tidegate.dev")


@dataclass(frozen=True, slots=True)
class Change:
    """What a job wants to land. `author` None keeps each commit's own author; `signer` None leaves commits unsigned."""

    source: str
    strategy: str = REBASE
    author: Person | None = None
    trailers: tuple[tuple[str, str], ...] = ()
    signer: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class _Merge:
    tree: str
    files: tuple[str, ...]


@functools.cache
def _git_version(executable_directory: str) -> tuple[int, int]:
    match = re.search(r"(\d+)\.(\d+)", Git(Path(executable_directory)).text("--version"))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def form(objects: Objects, base: str, change: Change) -> Outcome:
    """Build the candidate of a change on a base. Both commits must be in the repository. Raises GitError."""
    git = objects.git
    found = git.run("merge-base", "--all", base, change.source, ok=(0, 1)).text.split()
    if change.source in found:
        return Nothing(base, contained=True)
    if not found:
        return Conflict(base, (), "the source shares no history with the target branch")
    source, onto = objects.commit(change.source), objects.commit(base)
    if change.strategy == FAST_FORWARD and base in found:
        if source.tree == onto.tree:
            return Nothing(base)
        return Formed(source.oid, source.tree, base, FAST_FORWARD)
    attributes = merge_attributes(objects, found[0], base, change.source) if base not in found else None
    if attributes is not None and attributes.refused:
        return Conflict(base, attributes.refused, "the base's .gitattributes forbid merging these files as text")
    with tempfile.TemporaryDirectory(prefix="tidegate-attr-") as directory:
        merging = attributes.apply(git, Path(directory)) if attributes is not None and attributes.union else git
        merge = _merge(merging, base, change.source)
        if merge.files:
            return Conflict(base, merge.files)
        if merge.tree == onto.tree:
            return Nothing(base)
        return _commit(objects, merging, change, onto, source, merge.tree, tuple(found))


def _commit(objects: Objects, merging: Git, change: Change, onto: Commit, source: Commit, tree: str,
            bases: tuple[str, ...]) -> Formed:  # fmt: skip
    strategy = MERGE_COMMIT if change.strategy == FAST_FORWARD else change.strategy
    if strategy == MERGE_COMMIT:
        return Formed(_write(objects, change, source, tree, (onto.oid, source.oid)), tree, onto.oid, strategy)
    commits = _range(objects, source, bases)
    note = ""
    if strategy == REBASE:
        if commits is None:
            note = "landed as one commit: its history holds a merge or is too long to replay"
        else:
            tip = _replay(objects, merging, change, onto, commits, tree, bases)
            if tip is not None:
                return Formed(tip, tree, onto.oid, REBASE)
            note = "landed as one commit: replaying its commits gives other files than the merge"
    message = _squash_message(commits or [source])
    commit = _write(objects, change, source, tree, (onto.oid,), message, newest=max(onto.time, source.time))
    return Formed(commit, tree, onto.oid, SQUASH, note)


def _range(objects: Objects, source: Commit, bases: tuple[str, ...]) -> list[Commit] | None:
    """The source's commits since the merge base, oldest first; None where they are no single line."""
    commits: list[Commit] = []
    commit = source
    while commit.oid not in bases:
        if len(commit.parents) != 1 or len(commits) >= MAX_REPLAYED:
            return None
        commits.append(commit)
        commit = objects.commit(commit.parents[0])
    return commits[::-1]


def _replay(objects: Objects, merging: Git, change: Change, onto: Commit, commits: list[Commit], wanted: str,
            bases: tuple[str, ...]) -> str | None:  # fmt: skip
    """Each commit on top of the one before; None when one conflicts or the last tree isn't `wanted`."""
    tip, tree, time = onto.oid, onto.tree, onto.time
    for commit in commits:
        alone = len(commits) == 1 and len(bases) == 1
        merge = _Merge(wanted, ()) if alone else _pick(objects, merging, tip, tree, commit)
        if merge.files:
            return None
        time = max(time, commit.time)
        if merge.tree != tree:  # else it became empty
            tree = merge.tree
            tip = _write(objects, change, commit, tree, (tip,), newest=time)
    return tip if tree == wanted else None


def _pick(objects: Objects, merging: Git, tip: str, tip_tree: str, commit: Commit) -> _Merge:
    """The tree of `tip` with what `commit` changed against its parent."""
    parent = commit.parents[0]
    if _git_version(str(merging.directory)) >= (2, 40):
        return _merge(merging, tip, commit.oid, f"--merge-base={parent}")
    # Before `--merge-base` existed: a commit with the tip's tree and the parent has just that merge base.
    helper = objects.write_commit(tip_tree, (parent,), COMMITTER, COMMITTER, commit.time, "helper\n")
    return _merge(merging, helper, commit.oid)


def _merge(git: Git, ours: str, theirs: str, *flags: str) -> _Merge:
    """Three-way merge in memory. A conflict is believed only with the files that conflict."""
    command = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", *flags, ours, theirs)
    result = git.run(*command, ok=(0, 1))
    words = result.out.split(b"\0")
    tree = words[0].strip().decode()
    files = tuple(dict.fromkeys(word.decode("utf-8", "replace") for word in words[1:] if word.strip(b"\n")))
    if (result.code == 1) != bool(files) or len(tree) not in (40, 64):
        raise GitError(command, result.code, f"merge without a list of files: {result.err}")
    return _Merge(tree, files)


def _write(objects: Objects, change: Change, commit: Commit, tree: str, parents: tuple[str, ...], message: str = "",
           newest: int | None = None) -> str:  # fmt: skip
    author = change.author or commit.author
    author = Person(clean_name(author.name), clean_name(author.email))
    time = max(objects.commit(parents[0]).time, commit.time) if newest is None else newest
    text = with_trailers(message or commit.message, change.trailers)
    sign = change.signer.sign if change.signer is not None else None
    return objects.write_commit(tree, parents, author, COMMITTER, time, text, sign)


def _squash_message(commits: list[Commit]) -> str:
    """The message of the only commit, else the newest one's with the subjects of all."""
    newest = commits[-1].message
    if len(commits) == 1:
        return newest
    subjects = [f"- {commit.message.strip().splitlines()[0]}" for commit in commits if commit.message.strip()]
    return "\n".join([newest.strip(), "", "Commits in this change:", "", *subjects[:50]])
