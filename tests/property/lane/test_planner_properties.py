"""Any queue, carried out as the planner says: slots are kept, ends are proven, all comes to an end, as in a row."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.api import reasons
from tidegate.lane.decide.model import (
    FAILED,
    INFRA,
    PASSED,
    Conflict,
    Count,
    Ending,
    Formed,
    Gate,
    Job,
    Nothing,
    Outcome,
    Plan,
    Run,
    Rung,
    Snapshot,
)
from tidegate.lane.decide.order import ordered
from tidegate.lane.decide.plan import plan

ROUNDS = 3000
HEAD = "head"
GATES = (Gate("lint", "lint"), Gate("tests", "tests", counts=True))
POLICY = Gate("policy", "policy", final=True)
REVIEW = Gate("review", "review", final=True)
REVIEW_SLOTS = 2
LINT_ALONE = 4  # each job of that number and its multiples asks for no tests

bounded = settings(
    settings.get_profile(settings.get_current_profile_name()),
    max_examples=5000 if settings.get_current_profile_name() == "thorough" else 250,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Setting:
    """A queue: what is in it, and how the world treats it."""

    jobs: int
    bad: frozenset[int]  # fail alone
    pairs: frozenset[tuple[int, int]]  # fail together
    clashes: frozenset[tuple[int, int]]  # conflict
    slots: int
    window: int
    every_commit: bool
    flake: float
    infra: float
    seed: int
    waiters: int = 0  # changes that wait for a person
    drops: frozenset[int] = frozenset()  # take tests away, each three
    allowed: frozenset[int] = frozenset()  # may do so
    reviewed: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()  # by their review, where they have one


@dataclass
class Lane:
    """Carries out what the planner says, and looks whether it may say so."""

    setting: Setting
    head: str = HEAD
    now: float = 1000.0
    serial: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    links: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    members: dict[str, frozenset[int]] = field(default_factory=lambda: {HEAD: frozenset()})
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    landed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.setting.seed)
        for number in range(self.setting.jobs):
            gates = GATES if number % 3 else GATES[1:]
            gates = GATES[:1] if number and number % LINT_ALONE == 0 else gates
            gates = (*gates, POLICY) if number % 5 == 2 else gates
            job = Job(str(number), f"job-{number}", f"source-{number}", gates, priority=5 - number % 2,
                      queued=float(number), fewer_tests=number in self.setting.allowed, patch=f"patch-{number // 2}",
                      reviews=(REVIEW,) if number in self.setting.reviewed else ())  # fmt: skip
            self.jobs[job.uid] = job

    # --- the truth

    def red(self, members: frozenset[int]) -> bool:
        return bool(members & self.setting.bad) or any({a, b} <= members for a, b in self.setting.pairs)

    def clash(self, members: frozenset[int], job: int) -> bool:
        return any((a == job and b in members) or (b == job and a in members) for a, b in self.setting.clashes)

    def tests(self, members: frozenset[int]) -> Count:
        """Each change brings one test; some take three away."""
        return Count(100 + len(members) - 4 * len(members & self.setting.drops))

    def unwelcome(self, number: int) -> bool:
        """Its review refuses it: two jobs in a row bring the same change."""
        return number in self.setting.reviewed and number // 2 in {one // 2 for one in self.setting.refused}

    def short(self, number: int) -> bool:
        counted = any(gate.counts for gate in self.jobs[str(number)].gates)
        return counted and number in self.setting.drops and number not in self.setting.allowed

    def in_a_row(self) -> set[int]:
        """What lands when one job after the other is tried, each once."""
        landed: frozenset[int] = frozenset()
        for job in ordered(self.jobs.values()):
            number = int(job.uid)
            welcome = not self.unwelcome(number) and not self.short(number)
            if welcome and not self.clash(landed, number) and not self.red(landed | {number}):
                landed |= {number}
        return set(landed)

    # --- carrying out

    def active(self) -> list[tuple[tuple[str, str], Run]]:
        return [(key, run) for key, runs in self.runs.items() for run in runs if not run.verdict]

    def gating(self) -> list[Run]:
        return [run for (gate, _), run in self.active() if gate != REVIEW.key]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            head=self.head, head_tree=self.head, jobs=tuple(self.jobs.values()), links=dict(self.links),
            runs={key: tuple(runs) for key, runs in self.runs.items()}, now=self.now, slots=self.setting.slots,
            busy=len(self.gating()), window=self.setting.window, every_commit=self.setting.every_commit,
            fruitless_limit=10**9, review_slots=REVIEW_SLOTS,
        )  # fmt: skip

    def work(self) -> None:
        """Until every job has ended; AssertionError when something is not as it must be."""
        for _ in range(ROUNDS):
            if not self.jobs:
                return
            snapshot = self.snapshot()
            made = plan(snapshot)
            assert plan(snapshot) == made, "I7: another plan from the same snapshot"
            self.look_at_waiters(snapshot, made)
            if made.form:
                for parent, uid in made.form:
                    self.form(parent, uid)
            elif made.land:
                self.land(made.land)
            elif made.endings:
                for ending in made.endings:
                    self.end(ending)
            else:
                self.change_runs(made)
                self.note_conflicts(made)
                if not made.cancel and not made.demote:
                    self.settle()
                self.go_on(made)
        raise AssertionError(f"I9: still waiting: {sorted(self.jobs)}")

    def look_at_waiters(self, snapshot: Snapshot, made: Plan) -> None:
        """Changes that wait for a person change nothing for the others, however many and urgent they are."""
        waiters = tuple(
            Job(
                f"w{n}",
                f"w{n}",
                f"w{n}",
                GATES,
                priority=1 + n % 10,
                touches=("CODEOWNERS",),
                unapproved=("CODEOWNERS",),
            )
            for n in range(self.setting.waiters)
        )
        beside = plan(replace(snapshot, jobs=(*waiters, *snapshot.jobs)))
        kept = tuple(replace(place, position=0) for place in made.places)
        others = tuple(replace(place, position=0) for place in beside.places if not place.uid.startswith("w"))
        assert others == kept, "somebody is held"
        assert replace(beside, places=()) == replace(made, places=()), "somebody is held"
        held = {place.reason for place in beside.places if place.uid.startswith("w")}
        assert held <= {reasons.NEEDS_APPROVAL}

    def settle(self) -> None:
        """A run that was started moves its job ahead of one that failed: the next plan may start another on top."""
        for _ in range(len(self.jobs)):
            made = plan(self.snapshot())
            if not made.start:
                return
            self.change_runs(made)
        raise AssertionError("I7: starts more and more when nothing has happened")

    def form(self, parent: str, uid: str) -> None:
        assert (parent, uid) not in self.links, "formed twice"
        number, before = int(uid), self.members[parent]
        if number in before:
            self.links[parent, uid] = Nothing(parent)
        elif self.clash(before, number):
            self.links[parent, uid] = Conflict(parent, ("file",))
        else:
            commit = f"{parent}.{uid}"
            self.links[parent, uid] = Formed(commit, commit, parent, "Rebase")
            self.members[commit] = before | {number}

    def verdicts(self, gate: Gate, subject: str | None) -> list[str]:
        return [run.verdict for run in self.runs.get((gate.key, subject or ""), ())]

    def all_verdicts(self, gate: Gate) -> list[str]:
        return [run.verdict for (key, _), runs in self.runs.items() if key == gate.key for run in runs]

    def land(self, rungs: tuple[Rung, ...]) -> None:
        tip = self.head
        for rung in rungs:
            assert rung.base == tip, "the ladder has a gap"
            tip = rung.link.commit
        for rung in rungs if self.setting.every_commit else rungs[-1:]:
            depth = rungs.index(rung) + 1
            for gate in {gate for one in rungs[:depth] for gate in one.job.gates}:
                assert PASSED in self.verdicts(gate, rung.link.commit), "I1: landed without a gate"
        assert not self.red(self.members[tip]), "I1: a red head"
        for rung in rungs:
            assert not rung.job.reviews or PASSED in self.verdicts(REVIEW, rung.job.patch), "landed without its review"
            asked = POLICY not in rung.job.gates or PASSED in self.verdicts(POLICY, rung.link.commit)
            assert asked, "landed before the service approved of it"
            red = self.verdicts(GATES[1], self.head).count(FAILED) >= 2  # a red head has no count
            assert red or not self.short(int(rung.job.uid)), "landed with fewer tests than its base has"
            self.landed.append(int(rung.job.uid))
            del self.jobs[rung.job.uid]
        self.head = tip
        self.forget()

    def end(self, ending: Ending) -> None:
        number, head = int(ending.uid), self.members[self.head]
        job = self.jobs.pop(ending.uid)
        self.failed[number] = ending.reason
        if ending.reason == reasons.GATES_FAILED:
            link = self.links[self.head, ending.uid]
            assert isinstance(link, Formed), "I5: ejected where it wasn't tried on the head"
            dropped = number in self.setting.drops - self.setting.allowed
            bad = {FAILED, *([PASSED] if dropped else [])}
            counts = [sum(verdict in bad for verdict in self.verdicts(gate, link.commit)) for gate in job.gates]
            once = POLICY in job.gates and FAILED in self.verdicts(POLICY, link.commit)
            assert once or max(counts) >= 2, "I5: ejected before it failed twice"
            assert self.setting.flake or self.red(head | {number}) or dropped, "I5: a good change was ejected"
        elif ending.reason == reasons.NOT_APPROVED:
            assert self.unwelcome(number), "refused without its review's word"
            assert self.verdicts(REVIEW, job.patch).count(FAILED) == 1, "a refusal is final"
        elif ending.reason == reasons.GATE_NEVER_PASSED:
            never = [gate for gate in job.gates if self.verdicts(gate, self.head).count(FAILED) >= 3]
            assert any(PASSED not in run_verdicts for run_verdicts in map(self.all_verdicts, never)), "I5: it passes"
        else:
            assert ending.reason == reasons.MERGE_CONFLICT, ending
            assert self.clash(head, number), "I5: a conflict with something that isn't on the branch"

    def forget(self) -> None:
        """Only what can follow the head still counts."""
        reachable = {commit for commit in self.members if commit == self.head or commit.startswith(f"{self.head}.")}
        self.links = {key: link for key, link in self.links.items() if key[0] in reachable}
        self.runs = {key: runs for key, runs in self.runs.items() if key[1] in reachable or key[0] == REVIEW.key}

    def change_runs(self, made: Plan) -> None:
        for uid in made.demote:
            job = self.jobs[uid]
            self.jobs[uid] = replace(job, queued=self.now, demotions=job.demotions + 1)
        for key, runs in self.runs.items():
            self.runs[key] = [run for run in runs if run.name not in made.cancel]
        for start in made.start:
            runs = self.runs.setdefault((start.gate.key, start.patch or start.commit), [])
            assert not start.patch or all(run.verdict == INFRA for run in runs), "a change is reviewed once"
            assert all(run.number != start.number for run in runs), "a run was started twice"
            self.serial += 1
            runs.append(Run(f"run-{self.serial}", start.number))
        assert len(self.gating()) <= self.setting.slots, "I10: more gates than slots"
        assert len(self.active()) - len(self.gating()) <= REVIEW_SLOTS, "I10: more reviews than may be"

    def note_conflicts(self, made: Plan) -> None:
        for place in made.places:
            if place.conflict is not None and place.reason == reasons.MERGE_CONFLICT:
                job = self.jobs[place.uid]
                if self.head not in job.conflict_heads:
                    self.jobs[place.uid] = replace(job, conflict_heads=(*job.conflict_heads, self.head))

    def go_on(self, made: Plan) -> None:
        """A run ends, or time passes."""
        self.now += 1
        active = self.active()
        if not active:
            if not made.demote and not made.cancel:
                assert made.again_after is not None, f"I9: nothing runs and nothing will: {made.places}"
                self.now += made.again_after
            return
        key, run = self.random.choice(active)
        chance = self.random.random()
        if key[0] == REVIEW.key:
            verdict = FAILED if key[1] in {f"patch-{one // 2}" for one in self.setting.refused} else PASSED
        else:
            verdict = FAILED if self.red(self.members[key[1]]) or chance < self.setting.flake else PASSED
        if chance > 1 - self.setting.infra:
            verdict = INFRA
        runs = self.runs[key]
        counts = self.tests(self.members[key[1]]) if verdict == PASSED and key[0] == GATES[1].key else None
        runs[runs.index(run)] = replace(run, verdict=verdict, ended=self.now, tests=counts)


def pairs(jobs: int) -> st.SearchStrategy[frozenset[tuple[int, int]]]:
    number = st.integers(0, jobs - 1)
    return st.frozensets(st.tuples(number, number).filter(lambda pair: pair[0] < pair[1]), max_size=3)


@st.composite
def queues(draw: st.DrawFn, *, flake: float = 0.0, infra: float = 0.0) -> Setting:
    jobs = draw(st.integers(2, 9))
    return Setting(
        jobs=jobs,
        bad=draw(st.frozensets(st.integers(0, jobs - 1), max_size=3)),
        pairs=draw(pairs(jobs)),
        clashes=draw(pairs(jobs)),
        slots=draw(st.integers(1, 6)),
        window=draw(st.integers(1, 6)),
        every_commit=draw(st.booleans()),
        flake=flake,
        infra=infra,
        seed=draw(st.integers(0, 2**20)),
        waiters=draw(st.sampled_from((0, 1, 40))),
        drops=draw(st.frozensets(st.integers(0, jobs - 1), max_size=2)),
        allowed=draw(st.frozensets(st.integers(0, jobs - 1), max_size=2)),
    )


@st.composite
def reviewed(draw: st.DrawFn, *, flake: float = 0.0, infra: float = 0.0) -> Setting:
    """Queues in which some changes are reviewed, by reviews that refuse some."""
    setting, numbers = draw(queues(flake=flake, infra=infra)), st.frozensets(st.integers(0, 8))
    return replace(setting, reviewed=draw(numbers), refused=draw(numbers))


@bounded
@given(setting=queues())
def test_without_flakes_the_same_lands_as_in_a_row(setting: Setting) -> None:
    lane = Lane(setting)
    expected = lane.in_a_row()
    lane.work()
    assert set(lane.landed) == expected, "I11"


@bounded
@given(setting=queues(flake=0.2, infra=0.1))
def test_with_flakes_all_ends_and_every_end_is_proven(setting: Setting) -> None:
    lane = Lane(setting)
    lane.work()
    assert len(lane.landed) + len(lane.failed) == setting.jobs


@bounded
@given(setting=reviewed(flake=0.2, infra=0.1))
def test_with_reviews_all_ends_and_every_end_is_proven(setting: Setting) -> None:
    lane = Lane(setting)
    lane.work()
    assert len(lane.landed) + len(lane.failed) == setting.jobs


@bounded
@given(setting=reviewed(infra=0.1))
def test_of_changes_that_get_along_just_those_land_that_pass_gates_and_review(setting: Setting) -> None:
    lane = Lane(replace(setting, pairs=frozenset(), clashes=frozenset(), drops=frozenset()))
    expected = lane.in_a_row()
    lane.work()
    assert set(lane.landed) == expected


@pytest.mark.parametrize("window", [1, 4])
def test_a_job_is_not_overtaken_for_ever(window: int) -> None:
    """Urgent jobs keep coming; one that waits long enough goes first."""
    lane = Lane(Setting(1, frozenset(), frozenset(), frozenset(), 2, window, False, 0.0, 0.0, 1))
    patient = replace(lane.jobs["0"], priority=9, queued=0.0)
    for number in range(1, 200):
        lane.jobs = {patient.uid: patient} if "0" in lane.jobs else {}
        if not lane.jobs:
            break
        lane.now = number * 600.0
        for one in range(2):
            uid = str(number * 10 + one)
            lane.jobs[uid] = Job(uid, uid, uid, GATES, priority=1, queued=lane.now)
        while len(lane.jobs) == 3:
            made = plan(lane.snapshot())
            if made.form:
                for parent, uid in made.form:
                    lane.form(parent, uid)
            elif made.land:
                lane.land(made.land)
            else:
                lane.change_runs(made)
                lane.go_on(made)
    assert 0 in lane.landed
