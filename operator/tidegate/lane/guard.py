"""Which protected paths jobs and candidates touch, measured once each. Everything here blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tidegate.clients.git_objects import Objects
from tidegate.lane.changes import changed_paths
from tidegate.lane.decide.model import Formed, Outcome
from tidegate.lane.decide.protect import Protection


@dataclass
class Guard:
    """A lane's protection, and what was found by it."""

    protection: Protection = field(default_factory=Protection)
    touched: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by job UID: paths of its own change

    def measure(self, objects: Objects, uid: str, head: str, source: str) -> None:
        """Find out what a source itself changes, against where it left the branch. Raises GitError."""
        bases = objects.git.run("merge-base", "--all", head, source, ok=(0, 1)).text.split()
        after = objects.commit(source).tree
        found: dict[str, None] = {}
        for base in bases:  # of a criss-cross history each counts
            found |= dict.fromkeys(self._between(objects, objects.commit(base).tree, after))
        self.touched[uid] = tuple(found)

    def checked(self, objects: Objects, outcome: Outcome) -> Outcome:
        """The outcome of forming a candidate, with the protected paths that it changes on its base."""
        if not isinstance(outcome, Formed):
            return outcome
        return replace(outcome, protected=self._between(objects, objects.commit(outcome.base).tree, outcome.tree))

    def forget(self, kept: set[str]) -> None:
        """Drop what was measured of jobs that are gone."""
        self.touched = {uid: found for uid, found in self.touched.items() if uid in kept}

    def _between(self, objects: Objects, before: str, after: str) -> tuple[str, ...]:
        return self.protection.touched(changed_paths(objects, before, after))
