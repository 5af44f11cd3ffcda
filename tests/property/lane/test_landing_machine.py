"""The real lane code, two replicas of it, over a real repository: whatever happens, the invariants hold.

`--hypothesis-profile=thorough` tries many more histories.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property.lane.checker import Violation
from tests.property.lane.machine import EDITS, FATES, PUSHES, STRATEGIES, TRAPS, VERDICTS, World, wander
from tests.property.lane.mistakes import MISTAKES, Mistake

WALKS = 12  # in which each mistake must show, and the code as it is must not fail
STEPS = 40

replicas = st.sampled_from(("one", "two"))
edits = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(EDITS), st.integers(0, 23)), min_size=1, max_size=3)


class LandingMachine(RuleBasedStateMachine):
    """Jobs come, replicas work, die and overlap, pushes are cut, held and lost, others push too."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def teardown(self) -> None:
        try:
            self.world.settle()
        finally:
            self.world.close()

    @initialize(edits=edits, strategy=st.sampled_from(STRATEGIES), scarce=st.booleans())
    def begin(self, edits: list[tuple[int, str, int]], strategy: str, scarce: bool) -> None:
        if scarce:  # several changes share a candidate's gates
            self.world.set_lane(window=4, gateSlots=2)
        self.world.submit(strategy, 0, edits)
        self.world.lead("one", alone=True)

    @rule(
        strategy=st.sampled_from(STRATEGIES), fork=st.integers(0, 9), edits=edits, twin=st.booleans(),
        trap=st.sampled_from(TRAPS),
    )  # fmt: skip
    def submit(self, strategy: str, fork: int, edits: list[tuple[int, str, int]], twin: bool, trap: str) -> None:
        self.world.submit(strategy, fork, edits, twin=twin and fork > 6, trap=trap)

    @rule(name=replicas, steps=st.integers(1, 25), news=st.booleans())
    def step(self, name: str, steps: int, news: bool) -> None:
        self.world.step(name, steps, news=news)

    @rule(name=replicas, verdicts=st.lists(st.sampled_from(VERDICTS), min_size=6, max_size=6))
    def work(self, name: str, verdicts: list[str]) -> None:
        """Gates end, and a round is done."""
        self.world.judge(lambda: verdicts.pop() if verdicts else "")
        self.world.work(name)

    @rule(name=replicas)
    def work_on_old_news(self, name: str) -> None:
        self.world.judge()
        self.world.work(name, news=False)

    @rule(name=replicas, alone=st.booleans())
    def lead(self, name: str, alone: bool) -> None:
        self.world.lead(name, alone=alone)

    @rule(name=replicas)
    def crash(self, name: str) -> None:
        self.world.crash(name)

    @rule(fate=st.sampled_from(FATES), overtake=st.integers(1, 60))
    def next_push(self, fate: str, overtake: int) -> None:
        self.world.fate, self.world.overtake = fate, overtake

    @rule(kind=st.sampled_from(PUSHES), job=st.integers(0, 5))
    def external(self, kind: str, job: int) -> None:
        self.world.external(kind, job)

    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        self.world.cancel(number)

    @precondition(lambda self: self.world.remote.held)
    @rule()
    def arrive(self) -> None:
        self.world.remote.release()

    @invariant()
    def holds(self) -> None:
        self.world.checker.check()


TestLandingMachine = LandingMachine.TestCase
TestLandingMachine.settings = settings(
    settings.get_profile(settings.get_current_profile_name()),
    max_examples=400 if settings.get_current_profile_name() == "thorough" else 8,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.mark.parametrize("scarce", [False, True])
@pytest.mark.parametrize("seed", range(WALKS))
def test_a_walk_breaks_nothing(world: World, seed: int, scarce: bool) -> None:
    if scarce:
        world.set_lane(window=4, gateSlots=2)
    wander(world, random.Random(seed), STEPS)
    world.settle()


@pytest.mark.parametrize(("mistake", "fates"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_each_mistake_in_the_real_code_is_found(mistake: Mistake, fates: tuple[str, ...]) -> None:
    assert any(finds(mistake, fates, seed) for seed in range(WALKS)), mistake.__doc__


def finds(mistake: Mistake, fates: tuple[str, ...], seed: int) -> bool:
    """Whether a walk with a mistake in the code breaks an invariant."""
    world = World()
    try:
        with mistake(world):
            wander(world, random.Random(seed), STEPS, fates)
            world.settle()
    except Violation:
        return True
    finally:
        world.close()
    return False


def land_up_to_the_intent(world: World, name: str) -> None:
    """A replica works until it has written an intent, and stands still before its push."""
    for _ in range(600):
        world.step(name, 1)
        if world.replicas[name].idle:
            world.judge()
        if any(job["status"].get("landing") for job in world.checker.jobs.values()):
            return
    pytest.fail("no intent was written")


def test_a_newer_holders_intent_is_left_alone(world: World) -> None:
    """A replica takes the lane and loses it again before it looks at the jobs: the intent that it then finds is not
    its own to decide, although it believes to lead and has the job's newest resourceVersion."""
    world.submit("Rebase", 0, [(0, "edit", 3)])
    world.lead("one", alone=True)
    for _ in range(4):
        world.work("one")
    world.judge()
    slow = world.replicas["two"]
    world.lead("two", alone=False)
    while not any(state.ledger for state in slow.lanes._states.values()):
        world.step("two", 1)
    world.step("two", 1)  # it has read the repository, and not yet the jobs
    world.clock += 60  # the other one looks at the repository, and takes the lane back
    land_up_to_the_intent(world, "one")
    world.cancel(0)
    world.step("two", 3)
    world.step("one", 10)
    world.checker.check()
    world.settle()
