"""BuildRequests: observe, decide, act."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import BuildView, GateRunView, LaneView
from tidegate.builds import status
from tidegate.builds.act import Actor
from tidegate.builds.decide.build import HELD_AGAIN, decide
from tidegate.builds.decide.decision import Decision, StatusUpdate
from tidegate.builds.decide.lifecycle import DELETION_LIMIT
from tidegate.builds.decide.world import World
from tidegate.builds.index import BuildIndex
from tidegate.builds.observe import FINISHED_INDEX, LANE_INDEX, SWEEP_INDEX, Observer
from tidegate.clients.git import GitThreads
from tidegate.clients.task_refs import delete_refs
from tidegate.errors import Forbidden, KubeError, PermanentError, TransientError
from tidegate.runtime.conditions import set_condition
from tidegate.runtime.context import Context, rfc3339
from tidegate.runtime.keys import Key
from tidegate.runtime.secrets import git_credentials
from tidegate.runtime.urls import git_protocols
from tidegate.telemetry import metrics

log = logging.getLogger(__name__)

MIN_INTERVAL = 0.1  # seconds between two rounds for one build
PURGE_AGAIN = 5.0
REFS_AGAIN = 10.0


class BuildReconciler:
    """One round for one build."""

    def __init__(self, ctx: Context, index: BuildIndex, git: GitThreads) -> None:
        self._ctx = ctx
        self._index = index
        self._git = git
        self._observer = Observer(ctx, index, git)
        self._actor = Actor(ctx, index)
        self._wrote: dict[Key, float] = {}  # when the build's status was written

    async def __call__(self, key: Key) -> float | None:
        """Observe, decide, act; returns when to look again."""
        view: BuildView | None = self._ctx.cache.get(key)
        if view is None:
            self._wrote.pop(key, None)
            return None
        try:
            return await self._round(view)
        except Forbidden as error:
            if not view.meta.deleting:
                raise
            # A namespace on its way out takes our rights with it, and all that is left in it.
            note = f"deleted without deleting its refs on the remote: {error.message}"
            await self._ctx.writer.event("BuildRequest", view, "Warning", reasons.REFS_NOT_DELETED, note)
            await self._actor.set_finalizer(view, present=False)
            return None

    async def _round(self, view: BuildView) -> float | None:
        try:
            world, decision = await self._decided(view)
            if decision.adopt and not decision.add_finalizer:
                await self._actor.adopt(world, decision)
                world, decision = await self._decided(view)  # an adopted task needn't wait a round for its slot
        except PermanentError as error:
            await self._stall(view, error)
            return HELD_AGAIN
        return await self._act(view, world, decision)

    async def _decided(self, view: BuildView) -> tuple[World, Decision]:
        world = await self._observer.world(view)
        return world, decide(world, self._index.mergeable(world.uid) if world.tasks.quiescent else ())

    async def _act(self, view: BuildView, world: World, decision: Decision) -> float | None:
        if decision.add_finalizer:
            await self._actor.set_finalizer(view, present=True)
            return 0.0
        if world.finalized and view.status.get("observedGeneration") != view.meta.generation:
            await self._acknowledge(view)
        await self._actor.stop_work(world, decision)
        problem: PermanentError | None = None
        try:
            await self._actor.make_children(world, decision)
        except PermanentError as error:
            problem = error
        if decision.status is not None:
            left = await self._write_status(view, world, decision, problem)
            times = [seconds for seconds in (left, decision.again) if seconds is not None]
            decision = replace(decision, again=min(times, default=None))
        for type_, reason, note in decision.events:
            await self._ctx.writer.event("BuildRequest", view, type_, reason, note)
        if problem is not None:
            return HELD_AGAIN
        return await self._clear_away(view, world, decision)

    async def _clear_away(self, view: BuildView, world: World, decision: Decision) -> float | None:
        """What follows the end: children, refs and the build itself go."""
        if decision.purge:
            await self._actor.purge(world)
        if decision.delete_build:
            await self._actor.delete_build(view)
        if decision.delete_refs and not await self._delete_refs(view, world):
            return REFS_AGAIN
        if decision.remove_finalizer:
            await self._actor.set_finalizer(view, present=False)
            return None
        return PURGE_AGAIN if decision.purge else decision.again

    async def _write_status(
        self, view: BuildView, world: World, decision: Decision, problem: PermanentError | None
    ) -> float | None:
        """Write what has changed; returns the seconds after which it is to be written where it may wait."""
        update = decision.status
        assert update is not None
        if problem is not None:
            # What was decided counted on the children: only slots and counts are written, and the reason.
            update = replace(
                update,
                planning=world.planning,
                sweep=world.sweep,
                finalization=world.finalization,
                verdict=None,
                conditions=((reasons.STALLED, "True", problem.reason, problem.message),),
                dropped=(),
            )
        made = status.status_of(world, update, view.status, view.meta.generation)
        if not status.differs(made, view.status):
            return None
        key, now = Key("BuildRequest", view.meta.namespace, view.meta.name), self._ctx.monotonic()
        if key in self._wrote and not decision.fence:
            left = self._wrote[key] + status.may_wait(made, view.status) - now
            if left > 0:
                return left
        await self._ctx.writer.patch_status(key, made, resource_version=view.meta.resource_version)
        self._wrote[key] = now
        self._measure(world, update)
        return None

    async def _acknowledge(self, view: BuildView) -> None:
        """An edit of a finished build was seen and changes nothing: else tools would wait for it for ever."""
        key = Key("BuildRequest", view.meta.namespace, view.meta.name)
        seen = {"observedGeneration": view.meta.generation}
        await self._ctx.writer.patch_status(key, seen, resource_version=view.meta.resource_version)

    def _measure(self, world: World, update: StatusUpdate) -> None:
        if update.swept:
            metrics.SWEEPS.labels(update.swept).inc()
        if update.planning.iteration > world.planning.iteration:
            metrics.PLANS.labels("applied").inc()
        if update.verdict is not None:
            metrics.FINALIZATIONS.labels(update.verdict.reason).inc()
            if world.start_time is not None:
                seconds = (world.now - world.start_time).total_seconds()
                metrics.BUILD_SECONDS.labels(update.verdict.reason).observe(seconds)

    async def _stall(self, view: BuildView, error: PermanentError) -> None:
        """Say what a person must change before anything more can be observed."""
        now = rfc3339(self._ctx.now())
        conditions: list[dict[str, Any]] = list(view.status.get("conditions") or [])
        conditions = set_condition(
            conditions, reasons.STALLED, "True", error.reason, error.message, now=now, generation=view.meta.generation
        )
        made = {"conditions": conditions, "observedGeneration": view.meta.generation}
        if status.differs(made, view.status):
            key = Key("BuildRequest", view.meta.namespace, view.meta.name)
            await self._ctx.writer.patch_status(key, made, resource_version=view.meta.resource_version)
            await self._ctx.writer.event("BuildRequest", view, "Warning", error.reason, error.message)

    async def _delete_refs(self, view: BuildView, world: World) -> bool:
        """Delete the tasks' refs at the remote. False: try again; after the limit it is given up, with an Event."""
        uids = [record.view.meta.uid for record in self._index.state(world.uid).records.values()]
        if not uids:
            return True
        try:
            secret = str(world.spec.repository.get("credentialsSecretName") or "")
            credentials = await git_credentials(self._ctx, world.namespace, secret, world.spec.url)
            self._ctx.writer.check()
            protocols = git_protocols(self._ctx.settings)
            await self._git.call(delete_refs, world.spec.url, credentials, uids, protocols=protocols)
        except Forbidden:
            raise
        except (TransientError, PermanentError, KubeError) as error:
            since = world.deletion_time or world.now
            if world.now - since < DELETION_LIMIT - timedelta(seconds=REFS_AGAIN):
                log.info("refs could not be deleted yet", extra={"build": str(view.meta.name), "error": str(error)})
                return False
            note = f"refs of {len(uids)} tasks under {names.REF_PREFIX}/ stay on the remote: {error}"
            await self._ctx.writer.event("BuildRequest", view, "Warning", reasons.REFS_NOT_DELETED, note)
        return True


def install(ctx: Context) -> None:
    """Put the builds room into the machine room: indexes, listeners, the reconciler of BuildRequests."""
    index = BuildIndex(ctx.cache)
    ctx.cache.add_index("GateRun", SWEEP_INDEX, _sweep_of)
    ctx.cache.add_index("BuildRequest", LANE_INDEX, _lane_of)
    ctx.cache.add_index("BuildRequest", FINISHED_INDEX, lambda view: [str(status.is_finalized(view.status))])

    def queue(builds: list[tuple[str, str]]) -> None:
        for namespace, name in builds:
            ctx.queue.add(Key("BuildRequest", namespace, name))

    def on_lane(key: Key, _old: LaneView | None, _new: LaneView | None) -> None:
        views: tuple[BuildView, ...] = ctx.cache.indexed("BuildRequest", LANE_INDEX, f"{key.namespace}/{key.name}")
        queue([(view.meta.namespace, view.meta.name) for view in views if not status.is_finalized(view.status)])

    def on_gate_run(key: Key, old: GateRunView | None, new: GateRunView | None) -> None:
        view = new or old
        labels = (view.meta.labels or {}) if view is not None else {}
        if labels.get(names.LABEL_PURPOSE) == "sweep" and names.LABEL_BUILD in labels:
            queue([(key.namespace, labels[names.LABEL_BUILD])])

    def on_profile(_key: Key, _old: Any, _new: Any) -> None:
        views: tuple[BuildView, ...] = ctx.cache.indexed("BuildRequest", FINISHED_INDEX, "False")
        queue([(view.meta.namespace, view.meta.name) for view in views])

    ctx.cache.add_listener("AgentTask", lambda key, old, new: queue(index.on_task(key, old, new)))
    ctx.cache.add_listener("MergeJob", lambda key, old, new: queue(index.on_job(key, old, new)))
    ctx.cache.add_listener("Pod", lambda key, old, new: queue(index.on_pod(key, old, new)))
    ctx.cache.add_listener("MergeLane", on_lane)
    ctx.cache.add_listener("GateRun", on_gate_run)
    ctx.cache.add_listener("GateProfile", on_profile)
    index.rebuild()
    ctx.reconciler("BuildRequest", BuildReconciler(ctx, index, GitThreads(4)), MIN_INTERVAL)


def _sweep_of(view: GateRunView) -> list[str]:
    labels = view.meta.labels or {}
    uid = labels.get(names.LABEL_BUILD_UID)
    return [uid] if uid and labels.get(names.LABEL_PURPOSE) == "sweep" else []


def _lane_of(view: BuildView) -> list[str]:
    return [f"{view.meta.namespace}/{names.lane_name(view.url, view.target_branch)}"]
