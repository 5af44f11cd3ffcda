"""Which pairs of commits and changes a lane remembers: each is tried once, and they stay few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.repo import Repo
from tidegate.clients.git_objects import Objects, Person
from tidegate.lane import state as state_module
from tidegate.lane.candidate import Change, form
from tidegate.lane.decide.model import Conflict, Gate, Job, Plan, Snapshot
from tidegate.lane.decide.protect import protection
from tidegate.lane.landing import LaneRefs
from tidegate.lane.mirror import Mirror
from tidegate.lane.state import LaneState

GATES = (Gate("tests", "k"),)


class Lane:
    """A lane of a real repository with jobs that each edit a file; two of them the same."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repo = Repo(tmp_path / "repo")
        root = self.repo.commit({"same": "0\n"})
        self.repo.set("refs/heads/main", root)
        files = [{"same": "1\n"}, {"same": "2\n"}, *({"same": "0\n", f"f{n}": "x"} for n in range(3))]
        sources = {f"j{n}": self.repo.commit(one, root) for n, one in enumerate(files)}
        for uid, source in sources.items():
            self.repo.set(f"refs/heads/src-{uid}", source)
        self.changes = {uid: Change(source) for uid, source in sources.items()}
        self.state = LaneState(1, Mirror(tmp_path / "m", ("n", "", self.repo.url), "file"), LaneRefs("id", "main"))
        self.state.refresh()
        self.formed: list[tuple[str, str]] = []

        def counted(objects: Objects, base: str, change: Change) -> object:
            uid = next(uid for uid, one in self.changes.items() if one.source == change.source)
            self.formed.append((base, uid))
            return form(objects, base, change)

        monkeypatch.setattr(state_module, "form", counted)

    def plan(self, window: int = 8) -> Plan:
        jobs = tuple(
            Job(uid=uid, name=uid, source=change.source, gates=GATES, queued=float(n))
            for n, (uid, change) in enumerate(self.changes.items())
        )
        snapshot = Snapshot(
            head=self.state.head, head_tree=self.state.head_tree, jobs=jobs, links={}, runs={}, now=0.0, window=window
        )
        return self.state.plan(snapshot, self.changes)


@pytest.fixture
def lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lane:
    return Lane(tmp_path, monkeypatch)


def test_a_pair_is_tried_once_and_who_is_held_knows_for_whom(lane: Lane) -> None:
    made = lane.plan()
    assert [rung.job.uid for rung in made.ladder] == ["j0", "j2", "j3", "j4"]
    held = next(place for place in made.places if place.uid == "j1")
    assert (held.reason, held.waiting_on) == ("Held", ("j0",))
    assert "conflicts with j0" in held.message
    assert isinstance(lane.state.links[made.ladder[0].link.commit, "j1"], Conflict)
    tried = len(lane.formed)
    assert len(set(lane.formed)) == tried
    assert lane.plan() == made
    assert len(lane.formed) == tried


def test_a_change_that_comes_or_goes_costs_its_own_pairs_alone(lane: Lane) -> None:
    last = lane.changes.pop("j4")
    lane.plan()
    before = len(lane.formed)
    lane.changes["j4"] = last
    lane.plan()
    assert {uid for _, uid in lane.formed[before:]} == {"j4"}
    del lane.changes["j4"]
    lane.plan()
    assert "j4" not in {uid for _, uid in lane.state.links}


def test_what_a_commit_is_to_say_makes_it_anew(lane: Lane) -> None:
    first = lane.plan().ladder[0].link.commit
    lane.changes["j0"] = replace(lane.changes["j0"], author=Person("Team A", "team-a@example.org"))
    assert lane.plan().ladder[0].link.commit != first


def test_other_protected_paths_are_measured_anew(lane: Lane) -> None:
    assert all(not rung.link.protected for rung in lane.plan().ladder)
    lane.state.protect(protection(["f0"], "Add"))
    assert [rung.job.uid for rung in lane.plan().ladder] == ["j0", "j3", "j4"]  # j2 waits for a person


def test_they_stay_few(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lane.plan()
    monkeypatch.setattr(state_module, "MAX_LINKS", 10)
    lane.state.links |= {(f"{n:040x}", "j0"): Conflict("x", ()) for n in range(100)}
    assert lane.plan() == made
    assert len(lane.state.links) <= 20
