"""What a lane's work cost and what it waited for, as metrics. Nothing is decided by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tidegate.api import reasons
from tidegate.api.views import GateRunView, MergeJobView, condition
from tidegate.lane.decide.model import Place, Plan, Rung
from tidegate.lane.index import JOBS, lane_of_job
from tidegate.lane.landing import Declined, Landed, LandResult, Moved
from tidegate.lane.observe import Seen, runs_on
from tidegate.lane.state import LaneState
from tidegate.runtime.context import Context, parse_time
from tidegate.runtime.keys import Key
from tidegate.telemetry import metrics

LONGEST_ROUND = 60.0  # seconds that are counted between two looks at a lane


class Account:
    """Counts as the lane's rounds go by."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._looked: dict[Key, float] = {}  # monotonic
        self._red: dict[Key, str] = {}  # the last head that was counted as red

    def round(self, key: Key, seen: Seen, state: LaneState, plan: Plan) -> None:
        """What each job has waited for since the last round, and whether a head that the lane made is red."""
        now = self._ctx.monotonic()
        passed = min(now - self._looked.get(key, now), LONGEST_ROUND)
        self._looked[key] = now
        for cause, jobs in Counter(_cause(place, seen) for place in plan.places).items():
            metrics.WAITING_SECONDS.labels(cause).inc(jobs * passed)
        landed = state.ledger.baseline if state.ledger is not None else ""
        if plan.red and state.head == landed and self._red.get(key) != landed:
            self._red[key] = landed
            metrics.RED_HEADS.inc()

    def pushed(self, seen: Seen, rungs: tuple[Rung, ...], members: Iterable[MergeJobView], result: LandResult) -> None:
        """What became of a push, and what the landed candidates' gates took."""
        metrics.LANDINGS.labels(_outcome(result)).inc()
        if not isinstance(result, Landed):
            return
        for tested in {rung.tested.commit: rung.tested for rung in rungs}.values():
            metrics.GATE_LANDED_SECONDS.inc(sum(_seconds(run) for run in runs_on(seen, tested.commit, tested.tree)))
        for rung, job in zip(rungs, members, strict=True):
            own = _from_start_to_end(runs_on(seen, rung.tested.commit, rung.tested.tree))
            created = parse_time(job.meta.created)
            waited = (self._ctx.now() - created).total_seconds() if created else 0.0
            metrics.OVERHEAD_SECONDS.observe(max(waited - own, 0.0))
            if self._was_ejected(job):
                metrics.FALSE_EJECTIONS.inc()

    def cancelled(self, runs: Iterable[GateRunView]) -> None:
        """Gate runs that are of no use any more and are ended."""
        for run in runs:
            started = parse_time(run.status.get("startTime") or "")
            seconds = (self._ctx.now() - started).total_seconds() if started else 0.0
            metrics.GATE_CANCELLED_SECONDS.inc(max(seconds, 0.0))

    def _was_ejected(self, job: MergeJobView) -> bool:
        """Whether the same commit was out for its gates before, which it has passed now."""
        value = f"{job.meta.namespace}/{lane_of_job(job)}"
        others: tuple[MergeJobView, ...] = self._ctx.cache.indexed("MergeJob", JOBS, value)
        return any(
            one.spec["sourceCommit"] == job.spec["sourceCommit"]
            and (condition(one.status, reasons.SUCCEEDED) or {}).get("reason") == reasons.GATES_FAILED
            for one in others
        )


def _cause(place: Place, seen: Seen) -> str:
    if place.reason != reasons.GATING:
        return place.reason
    under_way = [run for run in runs_on(seen, place.commit, place.tree) if not run.status.get("verdict")]
    return place.reason if any(run.status.get("startTime") for run in under_way) else reasons.WAITING_FOR_SLOT


def _outcome(result: LandResult) -> str:
    match result:
        case Landed():
            return "Landed"
        case Moved(_, ours):
            return "TargetMoved" if ours else "LedgerMoved"
        case Declined():
            return reasons.PUSH_DECLINED
        case _:
            return "Unknown"


def _seconds(run: GateRunView) -> float:
    started, ended = (parse_time(run.status.get(key) or "") for key in ("startTime", "endTime"))
    return max((ended - started).total_seconds(), 0.0) if started and ended else 0.0


def _from_start_to_end(runs: Iterable[GateRunView]) -> float:
    times = [(run.status.get("startTime"), run.status.get("endTime")) for run in runs]
    started = [parse_time(start) for start, end in times if start and end]
    ended = [parse_time(end) for start, end in times if start and end]
    first, last = (min(filter(None, started), default=None), max(filter(None, ended), default=None))
    return (last - first).total_seconds() if first and last else 0.0
