"""From runs to what they prove. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tidegate.api import reasons
from tidegate.lane.decide.model import FAILED, INFRA, PASSED, Count, Gate, Run, Rung, Short

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
    short: tuple[str, str] | None = None  # reason and message, where the newest failure is one of too few tests


@dataclass(frozen=True, slots=True)
class Floor:
    """What a candidate's tests are compared with: the same gate on its base. Nothing where `tests` is None and known;
    while it isn't known yet, nothing passes."""

    tests: Count | None = None
    known: bool = True


def floor_of(runs: Iterable[Run]) -> Floor:
    """The least that a base's own runs showed: what varies there is not held against a change."""
    found = [run.tests for run in runs if run.verdict == PASSED and run.tests is not None]
    if not found:
        return Floor(known=False)
    return Floor(Count(min(one.ran for one in found), max(one.skipped for one in found)))


def floor_below(
    gate: Gate,
    ladder: Sequence[Rung],
    runs: Callable[[Gate, str, str], Iterable[Run]],
    head: Iterable[Run],
    *,
    red: bool,
) -> Floor:
    """The floor of a candidate on top of a ladder: the nearest rung that has the gate, else the head, unless red."""
    below = next((rung.link for rung in reversed(ladder) if gate in rung.gates), None)
    if below is not None:
        return floor_of(runs(gate, below.commit, below.tree))
    found = floor_of(head)
    return Floor() if red and not found.known else found


def shortfall(run: Run, floor: Floor) -> tuple[str, str] | None:
    """Reason and message where a run that passed has fewer tests than the base, or skipped more."""
    base = floor.tests
    if base is None or run.verdict != PASSED:
        return None
    own = run.tests or Count(0)
    if own.ran >= base.ran and own.skipped <= base.skipped:
        return None
    gone = own.ran + own.skipped < base.ran + base.skipped or own.skipped <= base.skipped
    message = f"{own.ran} tests ran, {base.ran} on the base; {own.skipped} were skipped, {base.skipped} on the base"
    return (reasons.FEWER_TESTS if gone else reasons.MORE_SKIPPED), message


def weigh(
    runs: Iterable[Run],
    *,
    infra_limit: int,
    void_before: float = 0.0,
    floor: Floor = Floor(),
    final: bool = False,
) -> Finding:
    """Two failures fail (one, where the gate is final), one pass passes; a run that the cluster ended counts for
    nothing but its own limit. A pass with too few tests is a failure.

    Failures that ended at or before `void_before` are not held against the subject: the base was red then.
    """
    known = sorted(runs, key=lambda run: run.number)
    following = known[-1].number + 1 if known else 1
    bad = {run.name: short for run in known if (short := shortfall(run, floor)) or run.verdict == FAILED}
    failures = [run for run in known if run.name in bad and (not void_before or run.ended > void_before)]
    passed = next((run for run in known if run.verdict == PASSED and run.name not in bad), None)
    if passed is not None and floor.known:
        return Finding(PASSED, flaked=bool(bad), decisive=passed.name)
    short = bad[failures[-1].name] if failures else None
    if len(failures) >= (1 if final else 2):
        return Finding(FAILED, decisive=failures[-1].name, short=short)
    state = SUSPECT if failures else RUNNING
    if passed is not None or any(not run.verdict for run in known):
        return Finding(state, short=short)
    broken = [run for run in known if run.verdict == INFRA]
    if len(broken) >= infra_limit:
        return Finding(INFRA, decisive=known[-1].name)
    pause = min(INFRA_PAUSE * 2 ** (len(broken) - 1), INFRA_PAUSE_MOST) if broken else 0.0
    return Finding(state, start=following, not_before=broken[-1].ended + pause if broken else 0.0, short=short)


def worst(findings: Iterable[Finding]) -> str:
    """The state of a candidate: Passed only when each gate passed."""
    states = {finding.state for finding in findings}
    return next(state for state in _WORST_FIRST if state in states or state == PASSED)


def named(gates: Iterable[Gate], short: Iterable[Short]) -> str:
    """Gates for people, with what those of them that have too few tests lack."""
    told = {one.key: f" ({one.reason}: {one.message})" for one in short}
    return ", ".join(gate.name + told.get(gate.key, "") for gate in gates)


def listed(files: tuple[str, ...]) -> str:
    """Files for people: five of them at most."""
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    return ", ".join(files[:5]) + more


def union(*groups: Iterable[Gate]) -> tuple[Gate, ...]:
    """Each gate once, in order of first appearance."""
    return tuple({gate.key: gate for group in groups for gate in group}.values())
