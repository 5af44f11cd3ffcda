"""Merge queue policies beside each other: the lane's real planner, serial, batch-and-bisect, Zuul-like.

A change is bad with probability `bad`; a bad change makes a gate run that holds it fail with probability `share`; any
run fails for nothing with probability `flake`. A gate takes ten minutes (log-normal); a second run of a failed gate is
one gate of the set and takes 0.4 of that. A bad change that lands is mended at once, so that rows can be compared.

    python -m bench.lane_simulator            the tables of docs/lane-simulation.md
    python -m bench.lane_simulator --quick    fewer changes
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from tidegate.lane.decide.model import FAILED, PASSED, Formed, Gate, Job, Outcome, Plan, Run, Snapshot
from tidegate.lane.decide.plan import plan

MINUTE = 60.0
GATE_SECONDS = 10 * MINUTE
SPREAD = 0.25
RERUN = 0.4
THE_GATE = Gate("gates", "gates")
SHARING_WINDOW = 8  # of the ladder whose changes share candidates where slots are fewer


@dataclass(frozen=True)
class Setting:
    """One column of the table."""

    slots: int
    bad: float = 0.05
    flake: float = 0.02
    share: float = 1.0  # of the runs that a bad change fails
    changes: int = 200
    seed: int = 0


@dataclass
class Score:
    """What came out."""

    seconds: float = 0.0
    merged: list[int] = field(default_factory=list)
    ejected: list[int] = field(default_factory=list)
    runs: int = 0
    waits: list[float] = field(default_factory=list)


class Luck:
    """Which changes are bad, how long runs take and how they end: the same for every policy of a seed."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._random = random.Random(setting.seed)
        self.bad = [self._random.random() < setting.bad for _ in range(setting.changes)]

    def duration(self) -> float:
        return GATE_SECONDS * self._random.lognormvariate(-SPREAD * SPREAD / 2, SPREAD)

    def passes(self, members: frozenset[int]) -> bool:
        if self._random.random() < self._setting.flake:
            return False
        return not any(self.bad[n] and self._random.random() < self._setting.share for n in members)


class Ladder:
    """The lane's planner, driven event by event."""

    def __init__(self, setting: Setting, window: int) -> None:
        self._setting, self._window, self._luck = setting, window, Luck(setting)
        self._jobs = {
            str(n): Job(uid=str(n), name=str(n), source=str(n), gates=(THE_GATE,), queued=float(n))
            for n in range(setting.changes)
        }
        self._links: dict[tuple[str, str], Outcome] = {}
        self._members: dict[str, frozenset[int]] = {"head": frozenset()}
        self._runs: dict[tuple[str, str], list[Run]] = {}
        self._live: dict[str, tuple[tuple[str, str], frozenset[int]]] = {}
        self._head, self._now, self._serial = "head", 0.0, 0
        self._events: list[tuple[float, str]] = []
        self.score = Score()

    def run(self) -> Score:
        """Until the queue is empty."""
        self._settle()
        while self._events:
            self._now, name = heapq.heappop(self._events)
            live = self._live.pop(name, None)
            if live is not None:
                self._decide(name, *live)
            self._settle()
        self.score.seconds = self._now
        return self.score

    def _decide(self, name: str, key: tuple[str, str], members: frozenset[int]) -> None:
        verdict = PASSED if self._luck.passes(members) else FAILED
        group = self._runs[key]
        group[:] = [Run(r.name, r.number, verdict, self._now) if r.name == name else r for r in group]

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            head=self._head, head_tree="", jobs=tuple(self._jobs.values()), links=self._links,
            runs={key: tuple(group) for key, group in self._runs.items()}, now=self._now, slots=self._setting.slots,
            busy=len(self._live), window=self._window, fruitless_limit=10**9,
        )  # fmt: skip

    def _settle(self) -> None:
        """Carry out what the planner says until it says nothing more."""
        while self._jobs:
            made = plan(self._snapshot())
            if made.form:
                for parent, uid in made.form:
                    self._form(parent, uid)
            elif made.land or made.endings:
                self._end(made)
            else:
                self._change_runs(made)
                if made.again_after is not None:
                    heapq.heappush(self._events, (self._now + made.again_after, "timer"))
                return

    def _form(self, parent: str, uid: str) -> None:
        self._serial += 1
        commit = f"c{self._serial}"
        self._links[parent, uid] = Formed(commit, commit, parent, "Rebase")
        self._members[commit] = self._members[parent] | {int(uid)}

    def _end(self, made: Plan) -> None:
        if made.land:
            for rung in made.land:
                self.score.merged.append(int(rung.job.uid))
                self.score.waits.append(self._now)
                del self._jobs[rung.job.uid]
            self._head = made.land[-1].link.commit
        else:
            for ending in made.endings:
                self.score.ejected.append(int(ending.uid))
                del self._jobs[ending.uid]
        self._forget()

    def _forget(self) -> None:
        """Only what can follow the head still counts; what landed is no longer a member of anything."""
        reachable, landed = {self._head}, self._members[self._head]
        while (
            more := {
                out.commit
                for (parent, _), out in self._links.items()
                if parent in reachable and isinstance(out, Formed)
            }
            - reachable
        ):
            reachable |= more
        self._links = {key: out for key, out in self._links.items() if key[0] in reachable}
        self._members = {commit: held - landed for commit, held in self._members.items() if commit in reachable}
        gone = [key for key in self._runs if key[1] not in reachable]
        for key in gone:
            for run in self._runs.pop(key):
                self._live.pop(run.name, None)

    def _change_runs(self, made: Plan) -> None:
        for name in made.cancel:
            key, _ = self._live.pop(name)
            self._runs[key] = [run for run in self._runs[key] if run.name != name]
        for start in made.start:
            key = (start.gate.key, start.commit)
            group = self._runs.setdefault(key, [])
            self._serial += 1
            name = f"r{self._serial}"
            group.append(Run(name, start.number))
            again = any(run.verdict == FAILED for run in group)
            seconds = self._luck.duration() * (RERUN if again else 1.0)
            self._live[name] = (key, self._members[start.commit])
            heapq.heappush(self._events, (self._now + seconds, name))
            self.score.runs += 1


def batch_and_bisect(setting: Setting, most: int = 8) -> Score:
    """One batch at a time; a failed one is halved; a failed single change is out. No second run."""
    luck, score = Luck(setting), Score()
    waiting: list[list[int]] = [[n] for n in range(setting.changes)]
    now = 0.0
    halves: list[list[int]] = []
    while waiting or halves:
        batch = halves.pop(0) if halves else [n for group in waiting[:most] for n in group]
        if not halves and batch and waiting and batch[0] == waiting[0][0]:
            waiting = waiting[most:]
        now += luck.duration()
        score.runs += 1
        if luck.passes(frozenset(batch)):
            score.merged += batch
            score.waits += [now] * len(batch)
        elif len(batch) == 1:
            score.ejected += batch
        else:
            middle = len(batch) // 2
            halves = [batch[:middle], batch[middle:], *halves]
    score.seconds = now
    return score


def zuul_like(setting: Setting) -> Score:
    """Each change on all ahead of it; a failure resets those behind; out once nothing is ahead. No second run."""
    luck, score = Luck(setting), Score()
    queue = list(range(setting.changes))
    now = 0.0
    running: dict[int, tuple[float, frozenset[int], bool]] = {}  # change to its end, what it holds, whether it passed
    failed: dict[int, frozenset[int]] = {}
    passed: dict[int, frozenset[int]] = {}

    while queue:
        ahead: list[int] = []
        for change in queue[: setting.slots]:
            holds = frozenset([*ahead, change])
            for known in (failed, passed):
                if change in known and known[change] != holds:
                    del known[change]
            if change in running and running[change][1] != holds:
                del running[change]
            if change not in failed and change not in passed and change not in running:
                running[change] = (now + luck.duration(), holds, luck.passes(holds))
                score.runs += 1
            if change not in failed:
                ahead.append(change)
        first = queue[0]
        if first in passed or first in failed:
            queue.pop(0)
            if first in passed:
                score.merged.append(first)
                score.waits.append(now)
                failed = {change: holds - {first} for change, holds in failed.items()}
                passed = {change: holds - {first} for change, holds in passed.items()}
                running = {c: (end, holds - {first}, good) for c, (end, holds, good) in running.items()}
            else:
                score.ejected.append(first)
                del failed[first]
            continue
        change = min(running, key=lambda one: running[one][0])
        now, holds, good = running.pop(change)
        (passed if good else failed)[change] = holds
    score.seconds = now
    return score


POLICIES: dict[str, Callable[[Setting], Score]] = {
    "serial": lambda setting: Ladder(setting, 1).run(),
    "batch of 8, bisect": batch_and_bisect,
    "Zuul-like": zuul_like,
    "ladder": lambda setting: Ladder(setting, setting.slots).run(),
    "ladder, window 8": lambda setting: Ladder(setting, SHARING_WINDOW).run(),
}


def policies(slots: int) -> list[str]:
    """Those that differ at that number of slots."""
    return [name for name in POLICIES if slots < SHARING_WINDOW or name != "ladder, window 8"]


@dataclass(frozen=True)
class Row:
    """The figures of one policy at one setting, over all seeds."""

    per_hour: float
    runs_per_merge: float
    false_ejections: float
    bad_landed: float
    wait_p50: float
    wait_p95: float


def measure(policy: str, setting: Setting, seeds: int) -> Row:
    """Run a policy over several seeds."""
    merged = runs = false = good = landed = bad = 0
    seconds = 0.0
    waits: list[float] = []
    for seed in range(seeds):
        one = Setting(setting.slots, setting.bad, setting.flake, setting.share, setting.changes, seed)
        truth, score = Luck(one).bad, POLICIES[policy](one)
        merged += len(score.merged)
        runs += score.runs
        seconds += score.seconds
        false += sum(not truth[n] for n in score.ejected)
        good += sum(not is_bad for is_bad in truth)
        landed += sum(truth[n] for n in score.merged)
        bad += sum(truth)
        waits += score.waits
    ordered = sorted(waits)
    return Row(
        per_hour=merged / seconds * 3600,
        runs_per_merge=runs / max(merged, 1),
        false_ejections=false / max(good, 1),
        bad_landed=landed / max(bad, 1),
        wait_p50=statistics.median(ordered) / MINUTE if ordered else math.nan,
        wait_p95=ordered[int(len(ordered) * 0.95)] / MINUTE if ordered else math.nan,
    )


def figures(changes: int, seeds: int) -> dict[str, float]:
    """What is asked of the ladder at eight slots, and what batches give at one."""
    serial, ladder = (measure(policy, Setting(8, changes=changes), seeds) for policy in ("serial", "ladder"))
    sharing = measure("ladder, window 8", Setting(1, changes=changes), seeds)
    nine_in_ten = measure("ladder", Setting(8, bad=0.2, share=0.9, changes=changes), seeds)
    return {
        "ladder_ratio_to_serial": ladder.per_hour / serial.per_hour,
        "ladder_false_ejections": ladder.false_ejections,
        "landed_share_of_failing_9_in_10": nine_in_ten.bad_landed,
        "batches_ratio_to_serial_at_one_slot": sharing.per_hour / serial.per_hour,
    }


def main() -> int:
    """Print the tables in Markdown and the figures that are checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer changes and seeds")
    arguments = parser.parse_args()
    changes, seeds = (80, 2) if arguments.quick else (200, 4)
    print("| slots | policy | merges/h | gate runs/merge | good changes ejected | wait p50 | p95 (min) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for slots in (1, 2, 4, 8, 16):
        for policy in policies(slots):
            row = measure(policy, Setting(slots, changes=changes), seeds)
            print(
                f"| {slots} | {policy} | {row.per_hour:.1f} | {row.runs_per_merge:.2f} | {row.false_ejections:.2%} | "
                f"{row.wait_p50:.0f} | {row.wait_p95:.0f} |",
                flush=True,
            )
    print("\n| a bad change fails | slots | policy | merges/h | bad changes that landed | good changes ejected |")
    print("| --- | --- | --- | --- | --- | --- |")
    for share in (0.5, 0.8, 0.9, 1.0):
        for slots, names in ((2, ["ladder, window 8"]), (8, policies(8))):
            for policy in names:
                row = measure(policy, Setting(slots, bad=0.2, share=share, changes=changes), seeds)
                shares = f"{row.per_hour:.1f} | {row.bad_landed:.0%} | {row.false_ejections:.2%}"
                print(f"| {share:.0%} of runs | {slots} | {policy} | {shares} |", flush=True)
    print()
    for name, value in figures(changes, seeds).items():
        print(f"{name} = {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
