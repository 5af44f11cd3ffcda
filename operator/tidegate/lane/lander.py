"""Landing as the cluster sees it: intents before the push, results after it, and recovery from the ledger."""

from __future__ import annotations

import logging

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import LaneView, MergeJobView
from tidegate.clients.git import GitThreads
from tidegate.errors import Conflict, NotFound, TransientError
from tidegate.lane import jobs
from tidegate.lane.account import Account
from tidegate.lane.bypass import bypass_of, was_bypassed
from tidegate.lane.decide.model import Rung
from tidegate.lane.index import lane_of_job
from tidegate.lane.jobs import Moment, Status
from tidegate.lane.landing import Declined, Landed, LandResult, Moved, Unknown, land
from tidegate.lane.ledger import Landing
from tidegate.lane.notes import NoteWriter, note_of
from tidegate.lane.observe import Seen, most_candidates, reviews_of, runs_on
from tidegate.lane.state import LaneState
from tidegate.runtime.context import Context, parse_time, rfc3339
from tidegate.runtime.keys import Key
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)


class Lander:
    """Writes MergeJobs' ends and lands them."""

    def __init__(self, ctx: Context, threads: GitThreads) -> None:
        self._ctx = ctx
        self._threads = threads
        self.notes = NoteWriter(ctx.writer.check)
        self.account = Account(ctx)

    def moment(self) -> Moment:
        """Now, for a status."""
        return Moment(rfc3339(self._ctx.now()))

    async def write(self, job: MergeJobView, status: Status) -> MergeJobView:
        """Write a status, provided that the job is as it was seen; raises Conflict."""
        key = Key("MergeJob", job.meta.namespace, job.meta.name)
        answer = await self._ctx.writer.patch_status(key, status, resource_version=job.meta.resource_version)
        return MergeJobView.from_object(answer)

    async def _finalizer(self, job: MergeJobView, *, present: bool) -> MergeJobView:
        others = [name for name in job.meta.finalizers if name != names.FINALIZER_LANDING]
        finalizers = [*others, names.FINALIZER_LANDING] if present else others
        if list(job.meta.finalizers) == finalizers:
            return job
        meta = {"finalizers": finalizers, "resourceVersion": str(job.meta.resource_version)}
        answer = await self._ctx.writer.patch("MergeJob", job.meta.namespace, job.meta.name, {"metadata": meta})
        return MergeJobView.from_object(answer)

    def _note(self, state: LaneState, landed: list[tuple[MergeJobView, str]]) -> None:
        """Tell of landings in git, for people. Nothing depends on it."""
        self.notes.add(state, [note_of(job, commit) for job, commit in landed])

    # -- ends

    async def finish(self, job: MergeJobView, status: Status, reason: str, note: str) -> None:
        """Write a job's end, tell people, and let it go."""
        try:
            written = await self.write(job, status)
            await self._finalizer(written, present=False)
        except NotFound:
            return
        metrics.MERGES.labels(reason).inc()
        metrics.QUEUE_SECONDS.observe(_age(self._ctx, job))
        type_ = "Normal" if status["state"] != jobs.FAILED else "Warning"
        await self._ctx.writer.event("MergeJob", job, type_, reason, note)
        if reason in (reasons.MERGED_BY_LANE, reasons.LANDED_BEFORE_CANCEL) and was_bypassed(job):
            await self._tell_of_bypass(job, status)

    async def _tell_of_bypass(self, job: MergeJobView, status: Status) -> None:
        """A landing without gates is told where it is looked for: on the job and on the lane."""
        lane_name = lane_of_job(job)
        order = bypass_of(job, lane_name)
        words = order.words if order is not None else ""
        note = f"MergeJob {job.meta.name} landed as {str(status['mergedCommit'])[:12]} without its gates, {words}"
        await self._ctx.writer.event("MergeJob", job, "Warning", reasons.GATES_BYPASSED, note)
        lane: LaneView | None = self._ctx.cache.get(Key("MergeLane", job.meta.namespace, lane_name))
        if lane is not None:
            await self._ctx.writer.event("MergeLane", lane, "Warning", reasons.GATES_BYPASSED, note)

    async def merged(self, job: MergeJobView, landing: Landing) -> None:
        """A job of which the ledger has a landing, its own or another's of the same commit."""
        cancelled = job.spec.get("desiredState") == "Cancelled"
        reason = reasons.LANDED_BEFORE_CANCEL if cancelled else reasons.MERGED_BY_LANE
        words = f"landed as {landing.candidate[:12]}"
        if landing.job != job.meta.uid:
            words = f"the same commit landed before as {landing.candidate[:12]}"
        status = jobs.merged(job, self.moment(), landing.candidate, reason, words)
        await self.finish(job, status, reason, words)

    async def cancel(self, job: MergeJobView) -> None:
        """A job that is to leave the queue."""
        message = "cancelled before it landed"
        status = jobs.ended(job, self.moment(), jobs.CANCELLED, reasons.CANCELLED, message)
        await self.finish(job, status, reasons.CANCELLED, message)

    async def withdraw(self, job: MergeJobView, message: str) -> None:
        """Take back an intent whose push is known not to have landed; a cancel that waited takes effect."""
        if job.spec.get("desiredState") == "Cancelled":
            await self.cancel(job)
            return
        try:
            await self._finalizer(await self.write(job, jobs.withdrawn(job, self.moment(), message)), present=False)
        except NotFound:
            return

    # -- recovery

    async def recover(self, state: LaneState, open_jobs: tuple[MergeJobView, ...]) -> bool:
        """Decide every job that the ledger speaks of, and every intent, after the lane was taken. The ledger alone is
        asked: whether a commit is contained says nothing about who landed it."""
        ledger = state.ledger
        assert ledger is not None
        changed = False
        for job in open_jobs:
            record = ledger.sources.get(job.spec["sourceCommit"])
            if record is not None:
                await self.merged(job, record)
                if record.job == job.meta.uid:
                    self._note(state, [(job, record.candidate)])
                changed = True
            elif job.status.get("landing"):
                await self.withdraw(job, "its push did not land")
                changed = True
        return changed

    # -- landing

    async def land(self, seen: Seen, state: LaneState, rungs: tuple[Rung, ...],
                   views: dict[str, MergeJobView]) -> None:  # fmt: skip
        """Intents, one push, results. Whatever is left open by a crash is decided by `recover`."""
        assert state.ledger is not None
        members = await self._intend(seen, state, rungs, views)
        if members is None:
            return
        landings = tuple(Landing(rung.job.uid, rung.job.source, rung.base, rung.link.commit) for rung in rungs)
        started = self._ctx.monotonic()
        self._ctx.writer.check()
        try:
            result = await self._threads.call(
                land, state.mirror, state.refs, state.ledger, self._ctx.holder.replace(" ", "_"), landings
            )
        except BaseException:
            state.drop()  # nobody knows what the push did: take the lane, then read
            raise
        metrics.LANDING_SECONDS.observe(self._ctx.monotonic() - started)
        self.account.pushed(seen, rungs, members, result)
        await self._conclude(seen.lane, state, rungs, members, result)

    async def _intend(self, seen: Seen, state: LaneState, rungs: tuple[Rung, ...],
                      views: dict[str, MergeJobView]) -> list[MergeJobView] | None:  # fmt: skip
        """Write every member's intent with its resourceVersion; None when one changed meanwhile, a cancel above all."""
        assert state.ledger is not None
        written: list[MergeJobView] = []
        for rung in rungs:
            job = views[rung.job.uid]
            try:
                held = await self._finalizer(job, present=True)
                runs = [*reviews_of(seen, rung.job.patch), *runs_on(seen, rung.tested.commit, rung.tested.tree)]
                gates = jobs.gate_results(runs)
                status = jobs.intent(
                    held, self.moment(), rung.link.commit, rungs[0].base, state.ledger.value, gates, rung.job.bypass
                )
                written.append(await self.write(held, status))
            except (Conflict, NotFound):
                for member in written:
                    await self.withdraw(member, "another change of the same landing was withdrawn")
                log.info("a landing is off", extra={"job": job.meta.name})
                raise
        if any(job.spec.get("desiredState") == "Cancelled" or job.meta.deleting for job in written):
            for member in written:
                await self.withdraw(member, "another change of the same landing was cancelled")
            return None
        return written

    async def _conclude(self, lane: LaneView, state: LaneState, rungs: tuple[Rung, ...], members: list[MergeJobView],
                        result: LandResult) -> None:  # fmt: skip
        match result:
            case Landed(ledger):
                state.ledger, state.reforms, state.declined = ledger, 0, None
                state.bore_fruit()
                state.widen(most_candidates(lane))
                await self._threads.call(state.moved, rungs[-1].link.commit)
                for rung, job in zip(rungs, members, strict=True):
                    words = f"landed as {rung.link.commit[:12]}" + (f"; {rung.link.note}" if rung.link.note else "")
                    status = jobs.merged(
                        job, self.moment(), rung.link.commit, reasons.MERGED_BY_LANE, words, bool(rung.link.note)
                    )
                    await self.finish(job, status, reasons.MERGED_BY_LANE, words)
                landed = [(job, rung.link.commit) for rung, job in zip(rungs, members, strict=True)]
                self._note(state, landed)
            case Moved(_, ours):
                if not ours:
                    state.drop()
                state.fetched = -1e9
                for job in members:
                    await self.withdraw(job, "the target branch moved: tried again on its new head")
            case Declined(text):
                state.declined = (text, lane.meta.generation, self._ctx.monotonic())
                for job in members:
                    await self.withdraw(job, "the remote declined the push")
                await self._ctx.writer.event("MergeLane", lane, "Warning", reasons.PUSH_DECLINED, text)
            case Unknown(text):
                state.drop()
                raise TransientError(f"nobody knows yet whether a push landed: {text}")


def _age(ctx: Context, job: MergeJobView) -> float:
    """Seconds since a job was made."""
    created = parse_time(job.meta.created)
    return max((ctx.now() - created).total_seconds(), 0.0) if created else 0.0
