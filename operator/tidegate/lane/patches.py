"""What stands for the changes that are reviewed: the same change on another base is the same. All of it blocks."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidegate.api.review import MAX_MERGE_BASES
from tidegate.clients.git import Git, GitError, GitTimeoutError, Limits

MAX_PATCH = 16 * 1024 * 1024  # bytes; a longer change is known by its files' own names
MAX_RANGE = 1000  # commits of a source that are looked at for other jobs' sources
MAX_FOLLOWED = 1000  # commits by which the head moved
PATCH_SECONDS = 30.0
AT_ONCE = 64  # changes measured in one round
_DIFF = ("diff-tree", "-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index",
         "--ignore-submodules=none")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Patch:
    """A change against where it left the target branch. `bases` is empty where it shares no history with it."""

    bases: tuple[str, ...]
    patch_id: str  # 40 hexadecimal digits; empty where there are too many bases


@dataclass
class Patches:
    """The changes of a lane's jobs, by UID."""

    patches: dict[str, Patch] = field(default_factory=dict)
    _head: str = ""  # for which the merge bases hold
    _rewound: bool = False
    _known: dict[tuple[str, tuple[str, ...]], Patch] = field(default_factory=dict)

    def patch_id(self, uid: str) -> str | None:
        """What stands for a job's change; empty where nothing can, None where it isn't measured."""
        found = self.patches.get(uid)
        return found.patch_id if found is not None else None

    def measure(self, git: Git, head: str, sources: Mapping[str, str], ranges: Mapping[str, frozenset[str]]) -> None:
        """Find out what each source changes, by job UID; anew where the head took in some of it, and not all at once.
        `ranges`: commits that each source brings, or brought when the job came. Raises GitError."""
        if head != self._head:
            self._follow(git, head, ranges)
        for uid, source in [one for one in sources.items() if one[0] not in self.patches][:AT_ONCE]:
            bases = tuple(sorted(git.run("merge-base", "--all", head, source, ok=(0, 1)).text.split()))
            known = self._known.get((source, bases))
            self.patches[uid] = self._known[source, bases] = known or patch_of(git, source, bases)

    def _follow(self, git: Git, head: str, ranges: Mapping[str, frozenset[str]]) -> None:
        """The head moved. Merge bases stay where none of its new commits is one of the source's."""
        forward = bool(self._head) and git.run("merge-base", "--is-ancestor", self._head, head, ok=None).code == 0
        self._rewound |= bool(self._head) and not forward  # what a source brings was measured against another history
        kept: dict[str, Patch] = {}
        if forward and not self._rewound:
            new = set(git.text("rev-list", f"--max-count={MAX_FOLLOWED}", head, f"^{self._head}").split())
            if len(new) < MAX_FOLLOWED:
                whole = {uid: found for uid, found in ranges.items() if len(found) < MAX_RANGE}
                kept = {u: patch for u, patch in self.patches.items() if u in whole and not new & whole[u]}
        self.patches, self._head = kept, head

    def forget(self, kept: set[str]) -> None:
        """Drop what was measured of jobs that are gone."""
        self.patches = {uid: patch for uid, patch in self.patches.items() if uid in kept}
        held = set(self.patches.values())
        self._known = {key: patch for key, patch in self._known.items() if patch in held}


def patch_of(git: Git, source: str, bases: tuple[str, ...]) -> Patch:
    """The change of a source against each of its bases, with git's own verbatim patch id, paths and modes."""
    if len(bases) > MAX_MERGE_BASES:
        return Patch(bases[:MAX_MERGE_BASES], "")
    digest = hashlib.sha256()
    for base in bases or (git.text("hash-object", "-t", "tree", os.devnull),):
        digest.update(_identity(git, base, source))
    return Patch(bases, digest.hexdigest()[:40])


def _identity(git: Git, base: str, source: str) -> bytes:
    """Bytes that differ wherever two changes do. Where a patch id would overlook something, the files' own names in
    git stand beside it: such a change is reviewed anew on each base."""
    rows = git.run(*_DIFF, "--raw", "-z", base, f"{source}^{{tree}}").out
    patch = _patch(git, base, source)
    if patch is None or b"\0" in patch:  # `git patch-id` reads a line up to its first NUL
        return b"whole\0" + rows
    found = git.run("patch-id", "--verbatim", input=patch).out
    fields = rows.split(b"\0")
    places = [head[:14] + head[-1:] + b"\0" + path for head, path in zip(fields[::2], fields[1::2], strict=False)]
    return b"patch\0" + b"\0".join([found, *places])


def _patch(git: Git, base: str, source: str) -> bytes | None:
    """The patch as text, by way of a file since nobody knows its size before; None where it is too long."""
    with tempfile.TemporaryDirectory(prefix="tidegate-patch-") as directory:
        file = Path(directory) / "patch"
        bounded = replace(git, limits=Limits(file_bytes=MAX_PATCH))
        command = (*_DIFF, "-p", f"--output={file}", base, f"{source}^{{tree}}")
        try:
            done = bounded.run(*command, timeout=PATCH_SECONDS, ok=None)
        except GitTimeoutError:
            return None
        if done.code == 0:
            return file.read_bytes()
        if file.exists() and file.stat().st_size >= MAX_PATCH:
            return None
        raise GitError(command, done.code, done.err)
