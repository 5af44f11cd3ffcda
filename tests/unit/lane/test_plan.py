"""The planner, on hand-made snapshots: order, ladder, evidence, blame, conflicts, budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from tidegate.api import reasons
from tidegate.lane.decide.evidence import RUNNING, SUSPECT, weigh
from tidegate.lane.decide.model import (
    FAILED,
    INFRA,
    PASSED,
    Conflict,
    Count,
    Formed,
    Gate,
    Job,
    Nothing,
    Outcome,
    Plan,
    Run,
    Snapshot,
)
from tidegate.lane.decide.order import AGEING_SECONDS, ordered
from tidegate.lane.decide.plan import plan

TESTS = Gate("tests", "k-tests")
LINT = Gate("lint", "k-lint", tree_only=True)


@dataclass
class World:
    """A lane whose commits are names: job `a` on head `H` gives `H+a`."""

    jobs: list[Job] = field(default_factory=list)
    head: str = "H"
    window: int = 1
    slots: int = 8
    busy: int = 0
    now: float = 1000.0
    conflicts: set[tuple[str, str]] = field(default_factory=set)  # (job on the branch or ahead, job)
    nothing: dict[tuple[str, str], Nothing] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    every_commit: bool = False
    more: dict[str, object] = field(default_factory=dict)

    def job(self, name: str, **fields: object) -> Job:
        values = {"source": f"src-{name}", "gates": (TESTS,), "queued": float(len(self.jobs)), **fields}
        made = Job(uid=name, name=name, **values)  # type: ignore[arg-type]
        self.jobs.append(made)
        return made

    def link(self, parent: str, uid: str) -> Outcome:
        if (parent, uid) in self.nothing:
            return self.nothing[parent, uid]
        if any((member, uid) in self.conflicts for member in parent.split("+")):
            return Conflict(parent, (f"{uid}.txt",))
        return Formed(f"{parent}+{uid}", f"tree:{parent}+{uid}", parent, "Rebase")

    def run(self, subject: str, verdict: str, gate: Gate = TESTS) -> None:
        group = self.runs.setdefault((gate.key, subject), [])
        group.append(Run(f"{gate.name}:{subject}:{len(group) + 1}", len(group) + 1, verdict, self.now))

    def snapshot(self) -> Snapshot:
        links = {}
        parents = [self.head]
        for _ in range(5):
            for parent in parents:
                for job in self.jobs:
                    links[parent, job.uid] = self.link(parent, job.uid)
            parents = [out.commit for out in links.values() if isinstance(out, Formed) and out.commit not in parents][
                :400
            ]
        snapshot = Snapshot(
            head=self.head, head_tree=f"tree:{self.head}", jobs=tuple(self.jobs), links=links,
            runs={key: tuple(runs) for key, runs in self.runs.items()}, now=self.now, slots=self.slots, busy=self.busy,
            window=self.window, every_commit=self.every_commit,
        )  # fmt: skip
        return replace(snapshot, **self.more)  # type: ignore[arg-type]

    def plan(self) -> Plan:
        snapshot = self.snapshot()
        made = plan(snapshot)
        assert plan(snapshot) == made
        return made

    def started(self) -> list[str]:
        return [start.commit for start in self.plan().start]

    def landed(self) -> list[str]:
        return [rung.job.uid for rung in self.plan().land]

    def ended(self) -> dict[str, str]:
        return {ending.uid: ending.reason for ending in self.plan().endings}

    def place(self, uid: str) -> tuple[str, tuple[str, ...]]:
        found = next(place for place in self.plan().places if place.uid == uid)
        return found.reason, found.waiting_on


@pytest.fixture
def world() -> World:
    return World()


def test_an_empty_lane_has_nothing_to_do(world: World) -> None:
    assert world.plan() == Plan()


def test_the_first_job_is_gated_and_lands_when_it_passed(world: World) -> None:
    world.job("a")
    world.job("b")
    assert world.started() == ["H+a"]
    world.run("H+a", "")
    assert world.started() == []
    assert world.landed() == []
    world.runs.clear()
    world.run("H+a", PASSED)
    assert world.landed() == ["a"]


def test_what_is_not_formed_yet_is_asked_for_first(world: World) -> None:
    world.job("a")
    assert plan(replace(world.snapshot(), links={})).form == (("H", "a"),)


def test_all_gates_of_all_jobs_in_a_candidate_are_required(world: World) -> None:
    world.window = 2
    world.job("a", gates=(TESTS, LINT))
    world.job("b")
    world.run("H+a+b", PASSED)
    world.run("H+a", PASSED)
    world.run("tree:H+a", PASSED, LINT)
    assert world.landed() == ["a"]
    world.runs.pop((LINT.key, "tree:H+a"))
    assert world.landed() == []  # lint of `a` is missing everywhere
    world.run("tree:H+a+b", PASSED, LINT)
    assert world.landed() == []  # of `a` alone lint has no verdict yet
    world.run("tree:H+a", PASSED, LINT)
    assert world.landed() == ["a", "b"]


def test_evidence_of_gates_on_files_holds_for_the_tree(world: World) -> None:
    world.job("a", gates=(LINT,))
    world.run("tree:H+a", PASSED, LINT)
    assert world.landed() == ["a"]


def test_priority_then_age_and_ageing_bounds_overtaking(world: World) -> None:
    world.job("old", priority=5, queued=0)
    world.job("urgent", priority=1, queued=10)
    world.job("late", priority=1, queued=4 * AGEING_SECONDS + 1)
    assert [job.uid for job in ordered(world.jobs)] == ["urgent", "old", "late"]


def test_a_job_that_others_wait_for_is_as_urgent_as_they(world: World) -> None:
    world.job("base", priority=9)
    world.job("middle", priority=5)
    world.job("top", priority=1, waits_on=("base",))
    assert [job.uid for job in ordered(world.jobs)] == ["base", "top", "middle"]
    assert world.place("top") == (reasons.HELD, ("base",))


def test_newcomers_do_not_throw_away_work_under_way(world: World) -> None:
    world.job("a", priority=5)
    world.run("H+a", "")
    world.job("urgent", priority=1)
    assert world.plan().cancel == ()
    assert [rung.job.uid for rung in world.plan().ladder] == ["a"]


def test_a_ladder_gates_ahead_and_lands_the_deepest_that_passed(world: World) -> None:
    world.window = 3
    for name in "abcd":
        world.job(name)
    assert world.started() == ["H+a", "H+a+b", "H+a+b+c"]
    for commit in ("H+a", "H+a+b", "H+a+b+c"):
        world.run(commit, "")
    world.runs.pop((TESTS.key, "H+a+b"))
    world.run("H+a+b", PASSED)
    assert world.landed() == []  # one pass on top of `a` doesn't clear it
    assert world.started() == ["H+a+b+c+d"]  # what passed takes no slot
    world.runs.pop((TESTS.key, "H+a+b+c"))
    world.run("H+a+b+c", PASSED)
    assert world.landed() == ["a", "b", "c"]
    world.every_commit = True
    assert world.landed() == []
    world.runs.pop((TESTS.key, "H+a"))
    world.run("H+a", PASSED)
    assert world.landed() == ["a", "b", "c"]


def test_what_landed_below_keeps_what_stands_above(world: World) -> None:
    world.window = 3
    for name in "abc":
        world.job(name)
    world.run("H+a+b+c", "")
    world.head = "H+a"
    world.jobs.pop(0)
    plan_after = world.plan()
    assert [rung.link.commit for rung in plan_after.ladder] == ["H+a+b", "H+a+b+c"]
    assert plan_after.cancel == ()


def test_a_failed_gate_runs_again_alone_and_blocks_those_above_meanwhile(world: World) -> None:
    world.window = 3
    for name in "abc":
        world.job(name)
    world.run("H+a", FAILED)
    world.run("H+a+b", PASSED)
    world.run("H+a+b+c", "")
    made = world.plan()
    assert [(start.commit, start.number) for start in made.start] == [("H+a", 2)]
    assert made.land == ()
    assert made.endings == ()
    world.run("H+a", PASSED)
    assert world.landed() == ["a", "b"]


def test_twice_failed_on_the_head_is_ended_when_the_head_passes(world: World) -> None:
    world.job("a")
    world.job("b")
    for _ in range(2):
        world.run("H+a", FAILED)
    made = world.plan()
    assert made.endings == ()
    assert [start.commit for start in made.start] == ["H", "H+b"]
    world.run("H", PASSED)
    assert world.ended() == {"a": reasons.GATES_FAILED}


def test_failed_above_others_is_passed_over_and_tried_again_below(world: World) -> None:
    world.window = 3
    for name in "abc":
        world.job(name)
    world.run("H+a", "")
    for _ in range(2):
        world.run("H+a+b", FAILED)
    world.run("H+a+b+c", "")
    made = world.plan()
    assert [rung.link.commit for rung in made.ladder] == ["H+a", "H+a+c"]
    assert made.cancel == ("tests:H+a+b+c:1",)
    assert made.endings == ()
    assert world.place("b")[0] == reasons.WAITING
    world.head, world.jobs[:1] = "H+a", []  # `a` landed as it was tested: now the failure counts
    world.run("H+a", PASSED)
    assert world.ended() == {"b": reasons.GATES_FAILED}


def test_a_failure_behind_one_that_is_ended_does_not_count(world: World) -> None:
    world.window = 2
    world.job("a")
    world.job("b")
    for commit in ("H+a", "H+a+b"):
        for _ in range(2):
            world.run(commit, FAILED)
    world.run("H", PASSED)
    assert world.ended() == {"a": reasons.GATES_FAILED}
    world.jobs.pop(0)
    assert world.started() == ["H+b"]


def test_a_red_head_ends_nobody_and_one_candidate_at_a_time_is_tried(world: World) -> None:
    world.window = 4
    for name in "abc":
        world.job(name, fixer=name == "c")
    for commit in ("H+a", "H"):
        for _ in range(2):
            world.run(commit, FAILED)
    made = world.plan()
    assert made.red == ("tests",)
    assert made.never_passed == ("tests",)
    assert made.endings == ()
    assert [rung.link.commit for rung in made.ladder] == ["H+c"]  # Fixers first
    world.run("H+c", PASSED)
    assert world.landed() == ["c"]


def test_a_red_head_is_run_again_and_its_recovery_voids_earlier_failures(world: World) -> None:
    world.job("a")
    for commit in ("H+a", "H"):
        for _ in range(2):
            world.run(commit, FAILED)
    assert world.plan().again_after == 60.0
    world.now += 61
    assert world.started() == ["H"]
    world.run("H", PASSED)
    assert world.ended() == {}
    assert [(start.commit, start.number) for start in world.plan().start] == [("H+a", 3)]


def test_a_gate_that_nothing_ever_passed_is_named_and_ends_what_was_tried_in_vain(world: World) -> None:
    world.job("a")
    world.job("b")
    for commit in ("H+a", "H", "H"):
        world.run(commit, FAILED)
    world.run("H+a", FAILED)
    world.run("H", FAILED)
    assert world.ended() == {}  # `b` was not tried yet
    world.run("H+b", FAILED)
    world.run("H+b", FAILED)
    assert world.ended() == {"a": reasons.GATE_NEVER_PASSED, "b": reasons.GATE_NEVER_PASSED}
    world.run("before", PASSED)
    assert world.ended() == {}


def test_a_gate_that_passed_before_has_half_an_hour(world: World) -> None:
    world.job("a")
    world.run("before", PASSED)
    for _ in range(2):
        world.run("H+a", FAILED)
        world.run("H", FAILED)
    world.more = {"base_retry_seconds": 300.0}
    assert world.plan().again_after == 300.0
    for _ in range(5):
        world.now += 300
        world.run("H", FAILED)
    assert world.ended() == {}
    world.now += 300
    world.run("H", FAILED)
    assert world.ended() == {"a": reasons.BASE_RED}


def test_each_new_head_starts_afresh(world: World) -> None:
    world.job("a")
    for commit in ("H+a", "H"):
        for _ in range(2):
            world.run(commit, FAILED)
    world.head = "I"
    assert world.plan().red == ()
    assert world.started() == ["I+a"]


def test_infra_counts_for_nothing_and_then_sends_to_the_end(world: World) -> None:
    world.job("a")
    world.job("b")
    for _ in range(2):
        world.run("H+a", INFRA)
    made = world.plan()
    assert made.demote == ()
    assert made.start == ()
    assert made.again_after == 20.0
    world.run("H+a", INFRA)
    made = world.plan()
    assert made.demote == ("a",)
    assert [rung.job.uid for rung in made.ladder] == ["b"]
    world.jobs[0] = replace(world.jobs[0], demotions=1, queued=99.0)
    world.now += 60
    assert world.plan().demote == ()


def test_pods_never_exceed_the_slots_and_second_runs_come_first(world: World) -> None:
    world.window, world.slots = 3, 3
    for name in "abcd":
        world.job(name)
    world.run("H+a+b", FAILED)
    assert world.started() == ["H+a+b", "H+a", "H+a+b+c"]
    world.busy = 2
    assert world.started() == ["H+a+b"]
    world.busy = 5
    assert world.started() == []


def test_a_conflict_with_the_head_waits_for_another_head(world: World) -> None:
    world.job("a")
    world.job("b")
    world.conflicts.add(("H", "a"))
    assert world.ended() == {}
    assert world.place("a")[0] == reasons.MERGE_CONFLICT
    assert world.started() == ["H+b"]
    world.jobs[0] = replace(world.jobs[0], conflict_heads=("F", "G"))
    made = world.plan()
    assert [(ending.uid, ending.reason, ending.files) for ending in made.endings] == [
        ("a", reasons.MERGE_CONFLICT, ("a.txt",))
    ]


def test_the_same_head_counts_once(world: World) -> None:
    world.job("a", conflict_heads=("G", "H"))
    world.job("b")
    world.conflicts.add(("H", "a"))
    assert world.ended() == {}


def test_a_conflict_ends_at_once_when_no_other_head_can_come(world: World) -> None:
    world.job("a")
    world.job("b")
    world.conflicts |= {("H", "a"), ("H", "b")}
    assert world.ended() == {"a": reasons.MERGE_CONFLICT, "b": reasons.MERGE_CONFLICT}


def test_a_conflict_with_one_ahead_is_held_behind_it_by_name(world: World) -> None:
    world.window = 4
    for name in "abcd":
        world.job(name)
    world.conflicts.add(("b", "c"))
    made = world.plan()
    assert [rung.job.uid for rung in made.ladder] == ["a", "b", "d"]
    assert world.place("c") == (reasons.HELD, ("b",))


def test_nothing_left_to_land(world: World) -> None:
    world.job("a")
    world.job("b")
    world.nothing = {("H", "a"): Nothing("H"), ("H", "b"): Nothing("H", contained=True)}
    assert world.ended() == {"a": reasons.NOTHING_TO_LAND, "b": reasons.MERGED_ELSEWHERE}


def test_the_same_commit_twice_waits_and_stacks_fall_with_their_base(world: World) -> None:
    world.job("a", source="s")
    world.job("twin", source="s")
    world.job("top", broken_on="gone")
    assert world.place("twin") == (reasons.HELD, ("a",))
    assert world.ended() == {"top": reasons.STACKED_ON_UNMERGED}


def test_a_frozen_lane_and_a_runaway_start_nothing(world: World) -> None:
    world.job("a")
    world.run("H+a", PASSED)
    world.more = {"frozen": True}
    assert (world.plan().land, world.plan().start) == ((), ())
    world.more = {"fruitless": 50}
    assert world.plan().runaway
    assert world.plan().land == ()


@pytest.mark.parametrize(
    ("verdicts", "state", "start"),
    [
        ([], RUNNING, 1),
        ([""], RUNNING, 0),
        ([PASSED], PASSED, 0),
        ([FAILED], SUSPECT, 2),
        ([FAILED, ""], SUSPECT, 0),
        ([FAILED, FAILED], FAILED, 0),
        ([FAILED, PASSED], PASSED, 0),
        ([INFRA], RUNNING, 2),
        ([INFRA, FAILED], SUSPECT, 3),
        ([FAILED, INFRA, FAILED], FAILED, 0),
        ([INFRA] * 3, INFRA, 0),
    ],
)
def test_evidence(verdicts: list[str], state: str, start: int) -> None:
    runs = [Run(str(n), n, verdict, 1.0) for n, verdict in enumerate(verdicts, 1)]
    found = weigh(runs, infra_limit=3)
    assert (found.state, found.start) == (state, start)
    assert found.flaked == (verdicts == [FAILED, PASSED])


# -- protected paths


def test_a_change_of_protected_paths_waits_and_holds_nobody(world: World) -> None:
    for number in range(40):  # more than a round looks at
        world.job(f"p{number}", touches=("CLAUDE.md",), unapproved=("CLAUDE.md",))
    world.job("a")
    assert world.started() == ["H+a"]
    world.run("H+a", PASSED)
    assert world.landed() == ["a"]
    assert world.place("p0") == (reasons.NEEDS_APPROVAL, ())
    assert world.ended() == {}


def test_an_approved_change_goes_on_and_a_denied_one_ends(world: World) -> None:
    world.job("a", touches=("CLAUDE.md",), approved=True)
    world.job("b", touches=("CLAUDE.md",), denied="by ann: no")
    assert world.started() == ["H+a"]
    assert world.ended() == {"b": reasons.APPROVAL_DENIED}


def test_a_candidate_that_touches_more_than_its_change_waits(world: World) -> None:
    world.job("a")
    world.job("b")
    link = world.link("H", "a")
    assert isinstance(link, Formed)
    moved = replace(link, protected=("CODEOWNERS",))
    snapshot = world.snapshot()
    made = plan(replace(snapshot, links={**snapshot.links, ("H", "a"): moved}))
    assert [start.commit for start in made.start] == ["H+b"]
    assert {place.uid: place.protected for place in made.places} == {"a": ("CODEOWNERS",), "b": ()}
    approved = replace(snapshot.jobs[0], approved=True)
    made = plan(replace(snapshot, jobs=(approved, snapshot.jobs[1]), links={**snapshot.links, ("H", "a"): moved}))
    assert [start.commit for start in made.start] == ["H+a"]


def test_what_is_stacked_on_a_waiting_change_waits_for_it_by_name(world: World) -> None:
    world.job("a", touches=("CLAUDE.md",), unapproved=("CLAUDE.md",))
    world.job("b", waits_on=("a",))
    assert world.started() == []
    assert world.place("b") == (reasons.HELD, ("a",))


# -- bypass


def test_a_bypassed_job_lands_at_once_before_those_that_are_gated(world: World) -> None:
    world.job("a", priority=1)
    world.run("H+a", "")
    world.job("b", priority=10, gates=(), bypass="by ann: broken")
    assert world.landed() == ["b"]
    assert [rung.job.bypass for rung in world.plan().land] == ["by ann: broken"]


def test_a_bypassed_job_lands_on_a_red_head_and_takes_nobody_with_it(world: World) -> None:
    world.window = 4
    for _ in range(2):
        world.run("H", FAILED)
    world.job("a")
    world.job("b", gates=(), bypass="by ann: broken")
    world.job("c", fixer=True)
    assert world.landed() == ["b"]


def test_a_bypass_answers_for_no_protected_path_and_no_frozen_lane(world: World) -> None:
    world.job("a", gates=(), bypass="by ann: broken", touches=("CODEOWNERS",), unapproved=("CODEOWNERS",))
    assert world.landed() == []
    world.jobs.clear()
    world.job("b", gates=(), bypass="by ann: broken")
    world.more = {"frozen": True}
    assert world.landed() == []


# -- counted tests and services

COUNTED = Gate("tests", "k-counted", counts=True)


def counted(world: World, subject: str, ran: int, skipped: int = 0, verdict: str = PASSED) -> None:
    group = world.runs.setdefault((COUNTED.key, subject), [])
    number = len(group) + 1
    group.append(Run(f"{subject}:{number}", number, verdict, world.now, Count(ran, skipped)))


def test_the_head_is_counted_before_a_change_can_be_compared_with_it(world: World) -> None:
    world.job("a", gates=(COUNTED,))
    assert world.started() == ["H", "H+a"]
    counted(world, "H+a", 12)
    assert (world.landed(), world.started()) == ([], ["H"])
    counted(world, "H", 12)
    assert world.landed() == ["a"]


@pytest.mark.parametrize(
    ("ran", "skipped", "reason"),
    [
        (11, 1, "FewerTests"),
        (10, 0, "FewerTests"),
        (11, 2, "MoreSkipped"),
        (12, 2, "MoreSkipped"),
        (0, 13, "MoreSkipped"),
    ],
)
def test_fewer_tests_or_more_skipped_than_on_the_base_fail_after_a_second_run(
    world: World, ran: int, skipped: int, reason: str
) -> None:
    world.job("a", gates=(COUNTED,))
    counted(world, "H", 12, 1)
    counted(world, "H+a", ran, skipped)
    made = world.plan()
    assert [(start.commit, start.number) for start in made.start] == [("H+a", 2)]
    assert [(short.key, short.reason) for short in made.places[0].short] == [(COUNTED.key, reason)]
    counted(world, "H+a", ran, skipped)
    [ending] = world.plan().endings
    assert ending.reason == reasons.GATES_FAILED
    assert f"tests ({reason}: {ran} tests ran, 12 on the base; {skipped} were skipped, 1 on the base)" in ending.message
    assert [short.reason for short in ending.short] == [reason]


@pytest.mark.parametrize(("ran", "skipped"), [(12, 1), (13, 1), (12, 0), (20, 0)])
def test_as_many_tests_or_more_pass(world: World, ran: int, skipped: int) -> None:
    world.job("a", gates=(COUNTED,))
    counted(world, "H", 12, 1)
    counted(world, "H+a", ran, skipped)
    assert world.landed() == ["a"]


def test_a_person_may_allow_fewer_tests(world: World) -> None:
    world.job("a", gates=(COUNTED,), fewer_tests=True)
    assert world.started() == ["H+a"]
    counted(world, "H+a", 1, 50)
    assert world.landed() == ["a"]


def test_what_varies_on_the_base_is_not_held_against_a_change(world: World) -> None:
    world.job("a", gates=(COUNTED,))
    counted(world, "H", 12, 0)
    counted(world, "H", 11, 1)
    counted(world, "H+a", 11, 1)
    assert world.landed() == ["a"]


def test_a_second_run_with_enough_tests_is_a_flake(world: World) -> None:
    world.job("a", gates=(COUNTED,))
    counted(world, "H", 12)
    counted(world, "H+a", 11)
    counted(world, "H+a", 12)
    assert world.landed() == ["a"]


def test_each_change_is_compared_with_what_is_below_it(world: World) -> None:
    """What another change adds doesn't pay for tests that this one takes away."""
    world.window = 2
    world.job("a", gates=(COUNTED,))
    world.job("b", gates=(COUNTED,))
    counted(world, "H", 10)
    counted(world, "H+a+b", 12)
    assert world.landed() == []
    counted(world, "H+a", 15)
    assert world.landed() == ["a"]
    counted(world, "H+a+b", 12)
    assert (world.landed(), world.ended()) == (["a"], {})
    world.head, world.jobs = "H+a", world.jobs[1:]
    assert world.ended() == {"b": reasons.GATES_FAILED}


def test_a_change_without_the_gate_below_is_passed_over_and_the_next_one_is_not_blamed(world: World) -> None:
    world.window = 2
    world.job("a", gates=(TESTS,))
    world.job("b", gates=(COUNTED,))
    counted(world, "H", 10)
    for _ in range(2):
        counted(world, "H+a+b", 8)
    assert world.ended() == {}
    world.run("H+a", PASSED)
    assert world.landed() == ["a"]
    world.head, world.jobs = "H+a", world.jobs[1:]
    assert world.started() == ["H+a"]
    counted(world, "H+a", 8)
    assert world.landed() == ["b"]


def test_a_red_head_has_no_count_and_what_passes_lands(world: World) -> None:
    world.job("a", gates=(COUNTED,))
    for _ in range(2):
        world.run("H", FAILED, COUNTED)
    counted(world, "H+a", 3)
    assert world.landed() == ["a"]


def test_candidates_on_top_do_not_prove_that_a_change_brings_enough_tests(world: World) -> None:
    """Two that hold a change clear it of failing, but what they are compared with already lacks its tests."""
    world.window = 3
    for name in "abc":
        world.job(name, gates=(COUNTED,))
    for subject, ran in (("H+a", 9), ("H+a+b", 9), ("H+a+b+c", 9)):
        counted(world, subject, ran)
    assert world.landed() == []
    counted(world, "H", 9)
    assert world.landed() == ["a", "b", "c"]


POLICY = Gate("policy", "k-policy", final=True)


def test_a_refusal_of_a_service_is_final_and_the_head_is_not_asked_about(world: World) -> None:
    world.job("a", gates=(POLICY,))
    assert [(start.commit, start.job) for start in world.plan().start] == [("H+a", "a")]
    world.run("H+a", FAILED, POLICY)
    assert world.started() == []
    assert world.ended() == {"a": reasons.GATES_FAILED}


def test_a_service_that_does_not_answer_refuses_nobody(world: World) -> None:
    world.job("a", gates=(POLICY,))
    for _ in range(2):
        world.run("H+a", INFRA, POLICY)
    assert (world.ended(), world.landed()) == ({}, [])
    world.run("H+a", INFRA, POLICY)
    assert world.plan().demote == ("a",)


def test_what_a_service_refuses_on_top_of_others_is_asked_again_alone(world: World) -> None:
    world.window = 2
    world.job("a")
    world.job("b", gates=(POLICY,))
    world.run("H+a+b", FAILED, POLICY)
    assert world.ended() == {}
    world.head, world.jobs = "H+a", world.jobs[1:]
    assert world.ended() == {"b": reasons.GATES_FAILED}


def test_a_change_does_not_land_before_the_service_approved_of_it_itself(world: World) -> None:
    world.window = 3
    for name in "abc":
        world.job(name, gates=(POLICY,))
    world.run("H+a+b", PASSED, POLICY)
    world.run("H+a+b+c", PASSED, POLICY)
    assert world.landed() == []
    world.run("H+a", PASSED, POLICY)
    assert world.landed() == ["a", "b", "c"]


def test_runs_that_the_cluster_ended_are_tried_again_later_and_send_the_job_back_at_the_third(world: World) -> None:
    world.job("a")
    world.job("b")
    for number, pause in ((1, 10.0), (2, 20.0)):
        world.run("H+a", INFRA)
        assert (world.started(), world.plan().again_after) == ([], pause)
        world.now += pause
        assert [(start.commit, start.number) for start in world.plan().start] == [("H+a", number + 1)]
    world.run("H+a", INFRA)
    made = world.plan()
    assert (made.demote, world.ended()) == (("a",), {})
    assert [start.commit for start in made.start] == ["H+b"]
    world.jobs = [replace(world.jobs[0], demotions=1, queued=world.now), world.jobs[1]]
    world.jobs.pop()
    world.now += 300
    assert [start.number for start in world.plan().start] == [4]  # three more before it is sent back again


def test_what_the_cluster_ended_is_no_failure_of_the_change(world: World) -> None:
    world.job("a")
    for verdict in (INFRA, FAILED, INFRA):
        world.run("H+a", verdict)
    assert (world.ended(), world.plan().demote) == ({}, ())
    world.now += 300
    world.run("H+a", PASSED)
    assert world.landed() == ["a"]
