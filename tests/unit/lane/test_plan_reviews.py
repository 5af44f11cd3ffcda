"""The planner and reviews, on hand-made snapshots: before the window, once for each change, never passed silently."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.lane.test_plan import TESTS, World
from tidegate.api import reasons
from tidegate.lane.decide.model import FAILED, INFRA, PASSED, Gate, Run
from tidegate.lane.decide.plan import plan

REVIEW = Gate("review", "k-review", final=True)
OTHER = Gate("other", "k-other", final=True)


@pytest.fixture
def world() -> World:
    return World()


def reviewed(world: World, name: str, *gates: Gate, patch: str | None = "p", **fields: object) -> None:
    world.job(name, reviews=gates or (REVIEW,), patch=patch, **fields)


def test_a_change_under_review_has_no_candidate_and_holds_nobody(world: World) -> None:
    reviewed(world, "a")
    world.job("b")
    made = world.plan()
    assert [(start.gate, start.patch, start.commit) for start in made.start] == [
        (TESTS, "", "H+b"),
        (REVIEW, "p", "src-a"),
    ]
    assert world.place("a") == (reasons.REVIEWING, ())
    assert [rung.job.uid for rung in made.ladder] == ["b"]


def test_all_reviews_must_approve(world: World) -> None:
    reviewed(world, "a", REVIEW, OTHER)
    world.run("p", PASSED, REVIEW)
    assert [start.gate for start in world.plan().start] == [OTHER]
    world.run("p", PASSED, OTHER)
    assert world.started() == ["H+a"]


def test_one_refusal_is_final(world: World) -> None:
    reviewed(world, "a")
    world.run("p", FAILED, REVIEW)
    [ending] = world.plan().endings
    assert (ending.reason, ending.message.split()[0]) == (reasons.NOT_APPROVED, "review")


def test_a_missing_verdict_ends_its_job_and_is_not_held_against_the_change_later(world: World) -> None:
    reviewed(world, "a", queued=1.0)
    reviewed(world, "later", queued=9.0, source="other")
    world.runs[REVIEW.key, "p"] = [Run("r1", 1, FAILED, 5.0, silent=True)]
    made = world.plan()
    assert [ending.uid for ending in made.endings] == ["a"]
    assert [(start.job, start.number) for start in made.start] == [("later", 2)]
    world.runs[REVIEW.key, "p"] = [Run("r1", 1, FAILED, 5.0)]
    assert set(world.ended()) == {"a", "later"}


def test_jobs_that_bring_the_same_change_share_its_review(world: World) -> None:
    reviewed(world, "a")
    reviewed(world, "b")
    assert [start.job for start in world.plan().start] == ["a"]


def test_a_review_that_nobody_wants_any_more_is_ended_and_one_that_is_wanted_is_not(world: World) -> None:
    reviewed(world, "a")
    world.run("p", "", REVIEW)
    world.run("gone", "", REVIEW)
    assert world.plan().cancel == ("review:gone:1",)


def test_reviews_take_no_slots_of_gates_and_have_their_own(world: World) -> None:
    world.slots, world.more = 0, {"review_slots": 2}
    for name in "abc":
        reviewed(world, name, patch=name)
    assert [start.job for start in world.plan().start] == ["a", "b"]
    world.run("a", "", REVIEW)
    assert [start.job for start in world.plan().start] == ["b"]


def test_what_cant_be_told_apart_or_is_not_known_yet_is_never_passed(world: World) -> None:
    reviewed(world, "a", patch="")
    reviewed(world, "b", patch=None)
    made = world.plan()
    assert [(ending.uid, ending.reason) for ending in made.endings] == [("a", reasons.REVIEW_MISSING)]
    assert (made.start, made.ladder, made.again_after) == ((), (), 0.0)


def test_a_new_leader_ends_nothing_before_it_knows_each_change(world: World) -> None:
    reviewed(world, "a", patch=None)
    world.run("p", PASSED, REVIEW)
    world.run("H+a", "")
    world.run("q", "", REVIEW)
    made = world.plan()
    assert (made.cancel, made.start, made.again_after) == ((), (), 0.0)
    world.jobs[0] = replace(world.jobs[0], patch="p")
    assert world.plan().cancel == ("review:q:1",)


def test_the_cluster_s_failures_are_tried_again_with_a_pause_and_then_at_the_end_of_the_queue(world: World) -> None:
    reviewed(world, "a")
    world.runs[REVIEW.key, "p"] = [Run("r1", 1, INFRA, world.now)]
    made = world.plan()
    assert (made.start, made.again_after) == ((), 10.0)
    world.now += 10
    assert [start.number for start in world.plan().start] == [2]
    world.runs[REVIEW.key, "p"] = [Run(f"r{n}", n, INFRA, 0.0) for n in (1, 2, 3)]
    made = world.plan()
    assert (made.demote, made.endings, made.start) == (("a",), (), ())


def test_a_frozen_lane_starts_none_and_ends_none(world: World) -> None:
    reviewed(world, "a")
    reviewed(world, "b", patch="q")
    world.run("p", "", REVIEW)
    made = plan(replace(world.snapshot(), frozen=True))
    assert (made.start, made.cancel) == ((), ())


def test_a_red_head_ends_nobody_while_a_review_may_bring_its_cure(world: World) -> None:
    world.job("a")
    reviewed(world, "cure", priority=9)
    for subject in ("H", "H+a"):
        for _ in range(40):
            world.run(subject, FAILED)
    assert world.ended() == {}
    assert world.place("a")[0] == reasons.BASE_RED


def test_a_change_that_waits_for_a_person_is_not_reviewed_yet(world: World) -> None:
    reviewed(world, "a", touches=("CODEOWNERS",), unapproved=("CODEOWNERS",))
    made = world.plan()
    assert (made.start, made.places[0].reason) == ((), reasons.NEEDS_APPROVAL)
