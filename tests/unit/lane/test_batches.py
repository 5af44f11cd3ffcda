"""Where slots are scarce, several changes share one candidate's gates; nobody is blamed for another."""

from __future__ import annotations

import pytest

from tests.unit.lane.test_plan import LINT, TESTS, World
from tidegate.api import reasons
from tidegate.lane.decide.model import FAILED, PASSED, Count, Gate, Run

COUNTED = Gate("tests", "k-counted", counts=True)
POLICY = Gate("policy", "k-policy", final=True)


@pytest.fixture
def world() -> World:
    made = World(window=8, slots=1)
    for name in "abcde":
        made.job(name)
    return made


def counted(world: World, subject: str, ran: int) -> None:
    group = world.runs.setdefault((COUNTED.key, subject), [])
    group.append(Run(f"{subject}:{len(group) + 1}", len(group) + 1, PASSED, world.now, Count(ran)))


def test_one_candidate_is_gated_for_four_changes_and_lands_them(world: World) -> None:
    made = world.plan()
    assert [start.commit for start in made.start] == ["H+a+b+c+d"]
    assert made.start[0].base == "H"  # what it judges begins at the head
    assert [rung.job.name for rung in made.ladder] == ["a", "b", "c", "d"]
    assert {rung.tested.commit for rung in made.ladder} == {"H+a+b+c+d"}
    sharing = next(place for place in made.places if place.uid == "b")
    assert (sharing.reason, sharing.commit, sharing.waiting_on) == (reasons.GATING, "H+a+b+c+d", ())
    assert "candidate of d" in sharing.message
    assert world.place("e") == (reasons.WAITING, ())
    world.run("H+a+b+c+d", "")
    assert world.started() == []
    world.runs.clear()
    world.run("H+a+b+c+d", PASSED)
    assert world.landed() == ["a", "b", "c", "d"]


def test_fewer_than_may_share_do_not_wait_for_more(world: World) -> None:
    del world.jobs[3:]
    assert world.started() == ["H+a+b+c"]
    del world.jobs[1:]
    assert world.started() == ["H+a"]


@pytest.mark.parametrize(
    ("slots", "commits"),
    [
        (2, ["H+a+b+c", "H+a+b+c+d+e"]),
        (3, ["H+a+b", "H+a+b+c+d", "H+a+b+c+d+e"]),
        (5, ["H+a", "H+a+b", "H+a+b+c", "H+a+b+c+d", "H+a+b+c+d+e"]),
    ],
)
def test_the_more_slots_the_fewer_share(world: World, slots: int, commits: list[str]) -> None:
    world.slots = slots
    assert world.started() == commits


def test_a_gate_set_takes_as_many_slots_as_it_has_gates(world: World) -> None:
    world.jobs.clear()
    for name in "abcde":
        world.job(name, gates=(TESTS, LINT))
    world.slots = 2
    assert world.started() == ["H+a+b+c+d", "H+a+b+c+d"]


@pytest.mark.parametrize("verdicts", [[FAILED], [FAILED, FAILED]])
def test_when_they_fail_together_each_is_tried_alone_and_nobody_is_blamed(world: World, verdicts: list[str]) -> None:
    for verdict in verdicts:
        world.run("H+a+b+c+d", verdict)
    assert world.started() == ["H+a"]
    assert world.ended() == {}
    assert world.landed() == []
    world.run("H+a", PASSED)
    assert world.landed() == ["a"]


def test_the_bad_one_alone_is_ended(world: World) -> None:
    world.run("H+a+b+c+d", FAILED)
    for _ in range(2):
        world.run("H+a", FAILED)
    assert world.ended() == {}
    world.run("H", PASSED)
    assert world.ended() == {"a": reasons.GATES_FAILED}


def test_a_newcomer_throws_no_shared_work_away(world: World) -> None:
    world.run("H+a+b+c+d", "")
    world.job("z", priority=1, queued=-9e9)
    made = world.plan()
    assert [rung.job.name for rung in made.ladder] == ["a", "b", "c", "d"]
    assert made.cancel == ()


def test_a_newcomer_with_more_gates_takes_no_slot_from_others(world: World) -> None:
    world.slots = 4
    posts = ["H+a+b", "H+a+b+c+d", "H+a+b+c+d+e"]
    assert world.started() == posts
    for commit in posts:
        world.run(commit, "")
    world.busy = 3
    world.job("z", priority=1, queued=-9e9, gates=tuple(Gate(f"g{n}", f"k{n}") for n in range(4)))
    made = world.plan()
    assert made.cancel == ()
    assert [rung.job.name for rung in made.ladder] == list("abcde")


def test_a_change_in_conflict_is_held_and_the_others_share(world: World) -> None:
    world.conflicts.add(("a", "b"))
    assert world.started() == ["H+a+c+d+e"]
    assert world.place("b") == (reasons.HELD, ("a",))


def test_what_was_gated_alone_goes_on(world: World) -> None:
    """More changes come while the first one is gated."""
    world.run("H+a", "")
    made = world.plan()
    assert (made.cancel, made.start) == ((), ())
    assert [rung.job.name for rung in made.ladder] == ["a"]


@pytest.mark.parametrize("gate", [COUNTED, POLICY])
def test_gates_that_judge_each_change_run_on_each(world: World, gate: Gate) -> None:
    world.jobs.clear()
    for name in "abc":
        world.job(name, gates=(TESTS, gate))
    world.slots, world.window = 3, 8
    world.more = {"runs": {(COUNTED.key, "H"): (Run("h", 1, PASSED, 1.0, Count(5)),)}}
    started = {(start.gate.key, start.commit, start.base) for start in world.plan().start}
    assert (gate.key, "H+a", "H") in started
    assert (gate.key, "H+a+b", "H+a") in started
    assert (TESTS.key, "H+a", "H") not in started


def test_a_change_with_fewer_tests_does_not_hide_behind_another(world: World) -> None:
    world.jobs.clear()
    for name in "ab":
        world.job(name, gates=(TESTS, COUNTED))
    world.window, world.slots = 4, 2
    counted(world, "H", 5)
    world.run("H+a+b", PASSED)
    counted(world, "H+a+b", 9)  # b brings more than a takes away
    counted(world, "H+a", 3)
    assert world.landed() == []
    counted(world, "H+a", 3)
    assert world.ended() == {"a": reasons.GATES_FAILED}


def test_each_is_gated_alone_where_it_must_be(world: World) -> None:
    world.every_commit = True
    assert world.started() == ["H+a"]
    world.every_commit, world.window = False, 1
    assert world.started() == ["H+a"]
    world.window = 8
    for _ in range(2):
        world.run("H", FAILED)  # a red head
    assert world.started() == ["H+a"]
