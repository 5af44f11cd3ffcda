"""MergeLanes: take, observe, plan, act. The lane is the unit of work; its MergeJobs only queue its key.

Order of a round: take the lane and decide open intents by the ledger; end what is cancelled; plan; then land, or write
endings, or start gates. Whatever a crash leaves behind, the next round finds it in git or in a status.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import LaneView, MergeJobView
from tidegate.clients.git import GitThreads
from tidegate.errors import AlreadyExists, Conflict, NotFound, PermanentError, TransientError
from tidegate.lane import jobs, story
from tidegate.lane.access import Access
from tidegate.lane.decide.model import Ending, Place, Plan, Snapshot
from tidegate.lane.freeze import FRUITLESS_LIMIT, freeze
from tidegate.lane.gaterun import GateRuns
from tidegate.lane.gates import run_name
from tidegate.lane.index import JOBS, install_indexes, lane_of_job, needed
from tidegate.lane.lander import Lander
from tidegate.lane.landing import LaneRefs, LostRaceError, probe, take
from tidegate.lane.mirror import Mirror
from tidegate.lane.observe import (
    Gates,
    Seen,
    answers,
    gate_run,
    gates_for,
    most_candidates,
    protection_of,
    reviews_of,
    runs_on,
    see,
    snapshot,
    wanted,
)
from tidegate.lane.prune import outdated
from tidegate.lane.report import LaneReport, lane_status
from tidegate.lane.signing import Signers
from tidegate.lane.state import LaneState
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.urls import git_protocols
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

FETCH_SECONDS = 15.0
FRESH_SECONDS = 2.0  # a head younger than this is good enough to build on
BLOCKED_SECONDS = 20.0  # until a lane that can't work looks again
GIT_THREADS = 32  # they mostly wait: as many dead remotes delay nobody else
GIVE_UP_SECONDS = 300.0  # a deleted job in an undecided landing is let go after this
LET_GO_SECONDS = 10.0  # between two looks at such jobs where their lane is gone


class Lanes:
    """Reconciles MergeLanes."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._threads = GitThreads(GIT_THREADS)
        self._states: dict[Key, LaneState] = {}
        self._mirrors: dict[tuple[str, str, str], Mirror] = {}
        self._lander = Lander(ctx, self._threads)
        self._signers = Signers(ctx, self._threads)
        self._access = Access(ctx)
        self._deleting: dict[str, float] = {}  # UID of a deleted job that is held by its intent, since when

    async def reconcile(self, key: Key) -> float | None:
        """One round for one lane."""
        view: LaneView | None = self._ctx.cache.get(key)
        held = await self._let_go(key)
        if view is None or view.meta.deleting:
            self._states.pop(key, None)
            again = await self._make(key) if view is None else None
            return LET_GO_SECONDS if held and again is None else again
        seen = see(self._ctx, view)
        if not seen.open and not needed(self._ctx, view) and view.condition_status(reasons.READY) != "Unknown":
            return await self._idle(key)
        try:
            state = await self._ready(key, view, seen)
            now = see(self._ctx, view)
            if _intents(now) - _intents(seen):
                return 0.0  # written after the lane was taken, perhaps by a newer holder: take it again, then decide
            return await self._work(key, now, state)
        except PermanentError as error:
            await self._block(key, view, error.reason, error.message)
            return BLOCKED_SECONDS
        except LostRaceError:
            self._ctx.writer.check()
            raise
        except TransientError as error:
            await self._block(key, view, reasons.REMOTE_UNREACHABLE, str(error))
            raise

    # -- the lane itself

    async def _make(self, key: Key) -> float | None:
        """A lane is made on first use."""
        found: tuple[MergeJobView, ...] = self._ctx.cache.indexed("MergeJob", JOBS, f"{key.namespace}/{key.name}")
        job = next((one for one in found if not one.status.get("completionTime") and not one.meta.deleting), None)
        if job is None:
            return None
        repository = {k: v for k, v in job.spec["repository"].items() if k in ("url", "credentialsSecretName")}
        labels = {names.LABEL_MANAGED_BY: names.OPERATOR, names.LABEL_PART_OF: names.OPERATOR}
        spec = {"repository": repository, "targetBranch": job.spec.get("targetBranch") or "main"}
        obj = {"metadata": {"name": key.name, "labels": labels}, "spec": spec}
        try:
            await self._ctx.writer.create("MergeLane", key.namespace, obj)
        except AlreadyExists:
            return 1.0
        return None

    async def _idle(self, key: Key) -> float | None:
        """Nobody needs the lane: its refs are cleared away."""
        state = self._states.get(key)
        if state is not None and state.ledger is not None and state.term == self._ctx.term:
            await self._threads.call(state.tidy, set(), set(), at_least=1)
            await self._report(key, state, LaneReport(plan=Plan()))
        return None

    async def _let_go(self, key: Key) -> bool:
        """Jobs that carry our finalizer without an undecided landing; and, after a while, deleted ones with one. True
        where any is still held."""
        found = self._ctx.cache.indexed("MergeJob", JOBS, f"{key.namespace}/{key.name}")
        held = False
        for job in [one for one in found if names.FINALIZER_LANDING in one.meta.finalizers]:
            since = self._deleting.setdefault(job.meta.uid, self._ctx.monotonic()) if job.meta.deleting else None
            late = since is not None and self._ctx.monotonic() - since > GIVE_UP_SECONDS
            if job.status.get("landing") and not late:
                held = True
                continue
            finalizers = [name for name in job.meta.finalizers if name != names.FINALIZER_LANDING]
            meta = {"finalizers": finalizers, "resourceVersion": str(job.meta.resource_version)}
            try:
                await self._ctx.writer.patch("MergeJob", job.meta.namespace, job.meta.name, {"metadata": meta})
            except (NotFound, Conflict):
                continue
            if late:
                note = "deleted before its landing was decided: the remote could not be asked for five minutes"
                await self._ctx.writer.event("MergeJob", job, "Warning", reasons.REMOTE_UNREACHABLE, note)
        return held

    # -- getting ready

    async def _ready(self, key: Key, view: LaneView, seen: Seen) -> LaneState:
        """The lane's state, taken in this term, fresh enough. Raises PermanentError, TransientError."""
        expected = names.lane_name(view.spec["repository"]["url"], view.spec.get("targetBranch") or "main")
        if view.meta.name != expected:
            raise PermanentError(
                reasons.NAME_TAKEN, f"the lane of this repository and branch must be named {expected!r}: make it anew"
            )
        credentials, mark = await self._access.of(view)
        state = self._state(key, view)
        state.mirror.credentials = credentials
        state.signer = await self._signers.of(view)
        call = self._threads.call
        if state.ledger is None:
            self._ctx.writer.check()
            await call(state.refresh)
            await self._probe(key, view, state, mark)
            self._ctx.writer.check()
            state.ledger = await call(take, state.mirror, state.refs, self._ctx.holder.replace(" ", "_"))
            await call(state.refresh)
        elif any(job.status.get("landing") for job in seen.open):
            state.drop()  # an intent whose end nobody wrote down: take the lane, then ask the ledger
            return await self._ready(key, view, seen)
        else:
            if self._stale(state, seen):
                await call(state.refresh)
            await self._probe(key, view, state, mark)
        return state

    async def _probe(self, key: Key, view: LaneView, state: LaneState, mark: str) -> None:
        """Try the remote at first use and on new credentials. Raises PermanentError, RemoteError."""
        if view.status.get("probedCredentials") == mark:
            return
        self._ctx.writer.check()
        await self._threads.call(probe, state.mirror, state.refs, state.head)
        await self._ctx.writer.patch_status(key, {"probedCredentials": mark})

    def _stale(self, state: LaneState, seen: Seen) -> bool:
        age = self._ctx.monotonic() - state.fetched
        fresh_jobs = any(job.meta.uid not in state.pinned for job in seen.open)
        return age > (FRESH_SECONDS if fresh_jobs else FETCH_SECONDS)

    def _state(self, key: Key, view: LaneView) -> LaneState:
        state = self._states.get(key)
        if state is not None and state.term == self._ctx.term:
            return state
        url, secret = view.spec["repository"]["url"], view.spec["repository"].get("credentialsSecretName") or ""
        identity = (key.namespace, secret, url)
        if identity not in self._mirrors:
            root = Path(self._ctx.settings.mirror_dir)
            self._mirrors[identity] = Mirror(root, identity, git_protocols(self._ctx.settings))
        branch = view.spec.get("targetBranch") or "main"
        refs = LaneRefs(self._lane_id(key, url, branch), branch, view.spec.get("refPrefix") or names.REF_PREFIX)
        made = self._states[key] = LaneState(self._ctx.term, self._mirrors[identity], refs)
        made.window = int(view.status.get("window") or most_candidates(view))
        made.reforms = int(view.status.get("reforms") or 0)
        made.tried_before = int(view.status.get("fruitless") or 0)
        return made

    def _lane_id(self, key: Key, url: str, branch: str) -> str:
        settings = self._ctx.settings
        words = (settings.operator_namespace, settings.lease_name, key.namespace, names.normalise_url(url), branch)
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]

    # -- work

    async def _work(self, key: Key, seen: Seen, state: LaneState) -> float | None:
        if await self._lander.recover(state, seen.open):
            return 0.0
        cancelled = [job for job in seen.open if job.spec.get("desiredState") == "Cancelled"]
        for job in cancelled:
            await self._lander.cancel(job)
        open_jobs = tuple(job for job in seen.open if job not in cancelled and not job.meta.deleting)
        state.protect(protection_of(seen.lane))
        open_jobs = await self._admit(seen.lane, state, open_jobs)
        seen = replace(seen, open=open_jobs)
        gates = gates_for(self._ctx, seen.lane, open_jobs)
        reviewed = {job.meta.uid: job.spec["sourceCommit"] for job in open_jobs if gates.reviews.get(job.meta.uid)}
        await self._threads.call(state.measure_changes, reviewed)
        report = LaneReport(frozen=await freeze(self._ctx, self._threads, seen.lane, state))
        report.notes = self._lander.notes.problem(state)
        snap = snapshot(self._ctx, seen, state, gates, report.frozen is not None, FRUITLESS_LIMIT)
        plan = await self._threads.call(state.plan, snap, {job.meta.uid: wanted(job).change for job in open_jobs})
        self._lander.account.round(key, seen, state, plan)
        again = await self._act(seen, state, gates, snap, plan, report)
        await self._report(key, state, report)
        return again

    async def _admit(self, lane: LaneView, state: LaneState, open_jobs: tuple[MergeJobView, ...]
                     ) -> tuple[MergeJobView, ...]:  # fmt: skip
        """Refuse strategies that the lane doesn't allow, pin new sources, end jobs whose source is nowhere."""
        allowed = lane.spec.get("strategies") or ()
        kept = []
        for job in open_jobs:
            strategy = job.spec.get("strategy") or "Rebase"
            if allowed and strategy not in allowed:
                message = f"the lane allows {', '.join(allowed)}, not {strategy}: choose one in merge.strategy"
                await self._fail(job, reasons.STRATEGY_NOT_ALLOWED, message)
            else:
                kept.append(job)
        asked = [wanted(job) for job in kept]
        missing, later = await self._threads.call(state.admit, asked)
        for job in [one for one in kept if one.meta.uid in missing]:
            message = f"{job.spec['sourceRef']} at the remote doesn't hold {job.spec['sourceCommit']}"
            await self._fail(job, reasons.SOURCE_MISSING, message)
        there = [one for one in asked if one.uid not in missing | later]
        await self._threads.call(state.measure, there)
        return tuple(job for job in kept if job.meta.uid in {one.uid for one in there})

    async def _fail(self, job: MergeJobView, reason: str, message: str, files: tuple[str, ...] = ()) -> None:
        status = jobs.ended(job, self._lander.moment(), jobs.FAILED, reason, message, files)
        await self._lander.finish(job, status, reason, message)

    async def _act(self, seen: Seen, state: LaneState, gates: Gates, snap: Snapshot, plan: Plan,
                   report: LaneReport) -> float | None:  # fmt: skip
        views = {job.meta.uid: job for job in seen.open}
        report.plan = plan
        if plan.land:
            await self._lander.land(seen, state, plan.land, views)
            return 0.0
        for ending in plan.endings:
            await self._end(views[ending.uid], state, ending)
        if plan.endings:
            state.bore_fruit()
            if any(ending.reason == reasons.GATES_FAILED for ending in plan.endings):
                state.narrow(most_candidates(seen.lane))
                metrics.RESETS.labels("Ejected").inc()
            return 0.0
        for uid in plan.demote:
            await self._demote(views[uid])
        self._lander.account.cancelled(run for run in seen.runs if run.meta.name in plan.cancel)
        for name in plan.cancel:
            await self._ctx.writer.delete("GateRun", seen.lane.meta.namespace, name)
        await self._start(seen, state, gates, plan)
        await self._place(seen, state, gates, plan)
        await self._prune(seen, state, snap, plan)
        waits = [FETCH_SECONDS, *([plan.again_after] if plan.again_after is not None else [])]
        return 0.2 if plan.demote else max(min(waits), 0.2)

    async def _end(self, job: MergeJobView, state: LaneState, ending: Ending) -> None:
        reason, message = ending.reason, ending.message
        if ending.outcome == jobs.MERGED:
            status = jobs.merged(job, self._lander.moment(), state.head, reason, message)
            await self._lander.finish(job, status, reason, message)
            return
        status = jobs.ended(job, self._lander.moment(), jobs.FAILED, reason, message, ending.files)
        if reason == reasons.MERGE_CONFLICT:  # finalization queues it again on another head only
            heads = [head for head in job.status.get("conflictHeads") or () if head != state.head]
            status["conflictHeads"] = [*heads, state.head][-21:]
        seen = see(self._ctx, self._ctx.cache.get(Key("MergeLane", job.meta.namespace, lane_of_job(job))))
        reviews = reviews_of(seen, state.reviews.patch_id(job.meta.uid))
        if runs := [*reviews, *runs_on(seen, job.status.get("candidateCommit") or "")]:
            status["gates"] = jobs.gate_results(runs, ending.short)[: jobs.MAX_GATES]
        await self._lander.finish(job, status, reason, message)

    async def _demote(self, job: MergeJobView) -> None:
        moment = self._lander.moment()
        status: dict[str, Any] = {"queuedTime": moment.now, "infraRuns": int(job.status.get("infraRuns") or 0) + 1}
        await self._lander.write(job, status)
        note = "the cluster ended its gate runs too often: it went to the end of the queue"
        await self._ctx.writer.event("MergeJob", job, "Warning", reasons.INFRA, note)

    async def _start(self, seen: Seen, state: LaneState, gates: Gates, plan: Plan) -> None:
        if not plan.start:
            return
        await self._threads.call(state.publish_candidates, {start.commit for start in plan.start if not start.patch})
        job_names = {job.meta.uid: job.meta.name for job in seen.open}
        known = {run.spec["commit"] for run in seen.runs}
        for start in plan.start:
            name = run_name(seen.lane.meta.name, start.gate, start.patch or start.commit, start.number)
            definition = gates.definitions[start.gate.key]
            changed = None
            if start.gate.final and start.base:
                changed = await self._threads.call(state.changed_paths, start.base, start.commit)
            obj = gate_run(seen.lane, state, definition, start, name, job_names.get(start.job, ""), changed)
            if start.commit != state.head and not start.patch and start.commit not in known:
                metrics.CANDIDATES.inc(start.commit not in state.tried)
                state.tried.add(start.commit)
            try:
                await self._ctx.writer.create("GateRun", seen.lane.meta.namespace, obj)
            except AlreadyExists:
                log.debug("a gate run exists already", extra={"run": name})

    async def _place(self, seen: Seen, state: LaneState, gates: Gates, plan: Plan) -> None:
        """Tell each job where it stands, when that has changed."""
        places = {place.uid: place for place in plan.places}
        said = answers(seen)
        for number, job in enumerate(seen.open, len(places) + 1):
            if job.meta.uid in plan.demote:
                continue
            place = places.get(job.meta.uid)
            if place is None:
                reason, message = gates.problems.get(job.meta.uid, (reasons.WAITING, "waits for its turn"))
                place = Place(job.meta.uid, number, reason, message)
            runs = [*reviews_of(seen, state.reviews.patch_id(job.meta.uid)), *runs_on(seen, place.commit, place.tree)]
            results, answer = jobs.gate_results(runs, place.short), said.get(job.meta.uid)
            status = jobs.placed(job, self._lander.moment(), seen.lane.meta.name, place, results, answer)
            if jobs.differs(job.status, status):
                try:
                    await self._lander.write(job, status)
                except (Conflict, NotFound):
                    log.debug("a job changed meanwhile", extra={"job": job.meta.name})
                    continue
                if (told := story.turn(job, place)) is not None:
                    await self._ctx.writer.event("MergeJob", job, *told)

    async def _prune(self, seen: Seen, state: LaneState, snap: Snapshot, plan: Plan) -> None:
        """Evidence and refs that no plan will ask for again."""
        commits = {state.head, *(rung.link.commit for rung in plan.ladder), *(place.commit for place in plan.places)}
        used = {run.spec["commit"] for run in seen.runs if not run.status.get("verdict")} | commits
        trees = {state.head_tree, *(rung.link.tree for rung in plan.ladder)}
        here = {state.reviews.patch_id(job.uid) for job in snap.jobs}
        for run in outdated(chain(seen.runs, *seen.reviews.values()), used, trees, here):
            await self._ctx.writer.delete("GateRun", run.meta.namespace, run.meta.name, uid=run.meta.uid)
        await self._threads.call(state.tidy, {job.uid for job in snap.jobs}, used, at_least=20)

    # -- status

    async def _block(self, key: Key, view: LaneView, reason: str, message: str) -> None:
        """Say why the lane can't work."""
        await self._report(key, self._states.get(key), LaneReport(blocked=(reason, message)))
        await self._ctx.writer.event("MergeLane", view, "Warning", reason, message)

    async def _report(self, key: Key, state: LaneState | None, report: LaneReport) -> None:
        found = self._ctx.cache.indexed("MergeJob", JOBS, f"{key.namespace}/{key.name}")
        lane: LaneView | None = self._ctx.cache.get(key)
        if lane is None:
            return
        status = lane_status(lane, found, state, report, self._ctx.holder, self._lander.moment())
        if jobs.differs(lane.status, status):
            try:
                await self._ctx.writer.patch_status(key, status)
            except NotFound:
                log.debug("the lane is gone", extra={"lane": key.name})


def _intents(seen: Seen) -> set[tuple[str, str]]:
    """Jobs in the middle of landing, each with the ledger value that its push starts from."""
    landings = ((job.meta.uid, job.status.get("landing")) for job in seen.open)
    return {(uid, landing.get("ledger") or "") for uid, landing in landings if landing}


def install(ctx: Context) -> None:
    """Plug the room in."""
    install_indexes(ctx)
    lanes, runs = Lanes(ctx), GateRuns(ctx)
    ctx.reconciler("MergeLane", lanes.reconcile, min_interval=0.05)
    ctx.reconciler("GateRun", runs.reconcile)
