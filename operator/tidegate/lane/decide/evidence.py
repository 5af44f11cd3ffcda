"""From runs to what they prove. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.lane.decide.model import FAILED, INFRA, PASSED, Gate, Run

RUNNING = "Running"  # under way, or to be started
SUSPECT = "Suspect"  # failed once; the second run decides
INFRA_PAUSE = 10.0  # seconds after the first run that the cluster ended
INFRA_PAUSE_MOST = 300.0
_WORST_FIRST = (FAILED, INFRA, SUSPECT, RUNNING, PASSED)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the runs of one gate on one subject prove. `start`: number of the run to start, 0 for none, from the time
    `not_before` on."""

    state: str
    start: int = 0
    not_before: float = 0.0
    flaked: bool = False
    decisive: str = ""  # name of the run that decided


def weigh(runs: Iterable[Run], *, infra_limit: int, void_before: float = 0.0) -> Finding:
    """Two failures fail, one pass passes; a run that the cluster ended counts for nothing but its own limit.

    Failures that ended at or before `void_before` are not held against the subject: the base was red then.
    """
    known = sorted(runs, key=lambda run: run.number)
    following = known[-1].number + 1 if known else 1
    failures = [run for run in known if run.verdict == FAILED and (not void_before or run.ended > void_before)]
    passed = next((run for run in known if run.verdict == PASSED), None)
    if passed is not None:
        return Finding(PASSED, flaked=any(run.verdict == FAILED for run in known), decisive=passed.name)
    if len(failures) >= 2:
        return Finding(FAILED, decisive=failures[-1].name)
    state = SUSPECT if failures else RUNNING
    if any(not run.verdict for run in known):
        return Finding(state)
    broken = [run for run in known if run.verdict == INFRA]
    if len(broken) >= infra_limit:
        return Finding(INFRA, decisive=known[-1].name)
    pause = min(INFRA_PAUSE * 2 ** (len(broken) - 1), INFRA_PAUSE_MOST) if broken else 0.0
    return Finding(state, start=following, not_before=broken[-1].ended + pause if broken else 0.0)


def worst(findings: Iterable[Finding]) -> str:
    """The state of a candidate: Passed only when each gate passed."""
    states = {finding.state for finding in findings}
    return next(state for state in _WORST_FIRST if state in states or state == PASSED)


def union(*groups: Iterable[Gate]) -> tuple[Gate, ...]:
    """Each gate once, in order of first appearance."""
    return tuple({gate.key: gate for group in groups for gate in group}.values())
