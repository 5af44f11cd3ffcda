"""What stands for the changes that are reviewed: the same change on another base is the same. All of it blocks."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.api.review import MAX_CHANGE_BYTES, MAX_MERGE_BASES
from tidegate.clients.git import Git
from tidegate.clients.git_change import change_text

MAX_RANGE = 1000  # commits of a source that are looked at for other jobs' sources
MAX_FOLLOWED = 1000  # commits by which the head moved
PATCH_SECONDS = 30.0
AT_ONCE = 64  # changes measured in one round
_ROWS = ("diff-tree", "-r", "--no-renames", "--raw", "-z", "--ignore-submodules=none")
_PLACES = re.compile(rb"^(index) [0-9a-f]+\.\.[0-9a-f]+|^(@@) .*$", re.MULTILINE)  # a line of content begins otherwise


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
    """The change of a source against each of its bases."""
    if len(bases) > MAX_MERGE_BASES:
        return Patch(bases[:MAX_MERGE_BASES], "")
    digest = hashlib.sha256()
    for base in bases or (git.text("hash-object", "-t", "tree", os.devnull),):
        digest.update(hashlib.sha256(_identity(git, base, source)).digest())
    return Patch(bases, digest.hexdigest()[:40])


def _identity(git: Git, base: str, source: str) -> bytes:
    """Bytes that differ wherever two changes do. As for `git patch-id --verbatim`, all that a review sees counts but
    line numbers and the files' names in git. Those names stand for a change that is too long.

    Not that program's own id: it adds up the hashes of files, and somebody with many files can make a sum come out.
    """
    text = change_text(git, base, source, MAX_CHANGE_BYTES, PATCH_SECONDS)
    if text is None:
        return b"rows\0" + git.run(*_ROWS, base, f"{source}^{{tree}}").out
    return b"text\0" + _PLACES.sub(rb"\1\2", text)
