"""How long one decision of the lane's planner takes with a long queue."""

from __future__ import annotations

import statistics
import time

from tidegate.lane.decide.model import PASSED, Formed, Gate, Job, Outcome, Run, Snapshot
from tidegate.lane.decide.plan import plan

JOBS = 1000
WINDOW = 8
TIMES = 50
GATES = (Gate("lint", "lint"), Gate("types", "types"), Gate("tests", "tests"))


def snapshot() -> Snapshot:
    """A full ladder: of each candidate the first gate passed, the others run; every other job waits."""
    jobs = tuple(
        Job(uid=f"u{n}", name=f"job-{n}", source=f"s{n}", gates=GATES, queued=float(n), priority=1 + n % 10)
        for n in range(JOBS)
    )
    links: dict[tuple[str, str], Outcome] = {}
    runs: dict[tuple[str, str], tuple[Run, ...]] = {}
    first = Snapshot(head="head", head_tree="t", jobs=jobs, links=links, runs=runs, now=1e4, slots=24, busy=0,
                     window=WINDOW)  # fmt: skip
    while True:
        made = plan(first)
        for parent, uid in made.form:
            links[parent, uid] = Formed(f"c-{parent[-6:]}-{uid}", f"t-{uid}", parent, "Rebase")
        for start in made.start:
            verdict, ended = (PASSED, 9e3) if start.gate.name == "lint" else ("", 0.0)
            runs[start.gate.key, start.gate.subject(start.commit, start.tree)] = (
                Run(f"{start.gate.name}-{start.commit}", 1, verdict, ended),
            )
        if not made.form and not made.start:
            return first


def milliseconds() -> float:
    """The median of many decisions on the same snapshot."""
    found, taken = snapshot(), []
    for _ in range(TIMES):
        began = time.perf_counter()
        plan(found)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)
