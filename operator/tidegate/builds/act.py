"""A decision carried out. Every step can be done again: after a crash between any two the next round goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from itertools import islice
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import BuildView, GateRunView, MergeJobView, TaskView
from tidegate.builds import objects
from tidegate.builds.decide.decision import Decision
from tidegate.builds.decide.world import World
from tidegate.builds.index import BuildIndex
from tidegate.builds.observe import SWEEP_INDEX
from tidegate.errors import AlreadyExists, KubeError, NotFound, PermanentError
from tidegate.runtime.context import Context

log = logging.getLogger(__name__)

PARALLEL = 16  # requests of one round at once
BATCH = 500  # patches or deletions in one round
ADOPTIONS = 128  # in one round: the slots of those before come first
KEPT_SWEEPS = 3


class Actor:
    """Writes what decisions say."""

    def __init__(self, ctx: Context, index: BuildIndex) -> None:
        self._ctx = ctx
        self._index = index

    async def set_finalizer(self, view: BuildView, *, present: bool) -> None:
        """Add or remove the build's finalizer."""
        others = [name for name in view.meta.finalizers if name != names.FINALIZER_BUILD]
        finalizers = [*others, names.FINALIZER_BUILD] if present else others
        meta = {"finalizers": finalizers, "resourceVersion": str(view.meta.resource_version)}
        try:
            await self._ctx.writer.patch("BuildRequest", view.meta.namespace, view.meta.name, {"metadata": meta})
        except NotFound:
            log.debug("the build is gone already", extra={"build": view.meta.name})

    async def stop_work(self, world: World, decision: Decision) -> None:
        """Fence slots that are taken back, cancel what is open, delete sweep runs, as the decision says."""
        if decision.fence:
            await self.fence(world, decision.fence)
        if decision.cancel:
            await self.cancel(world)
        if decision.drop_sweep:
            await self.drop_sweep(world)
        if decision.start_sweep:
            await self._prune_sweeps(world, decision.start_sweep)

    async def fence(self, world: World, names_: tuple[str, ...]) -> None:
        """Move tasks that lose their slot: a start that another leader decided before this is refused then. Raises
        Conflict when one of them moved by itself: it may have started."""
        await self._all(self._fence(world, name) for name in names_)

    async def _fence(self, world: World, name: str) -> None:
        record = self._index.state(world.uid).records.get(name)
        if record is None:
            return
        meta = {
            "resourceVersion": str(record.view.meta.resource_version),
            "annotations": {names.ANNOTATION_SLOT_RELEASED: world.now.isoformat()},
        }
        try:
            await self._ctx.writer.patch("AgentTask", world.namespace, name, {"metadata": meta})
        except NotFound:
            return

    async def make_children(self, world: World, decision: Decision) -> None:
        """Create everything the decision asks for. Raises PermanentError(NameTaken) after all others were made."""
        if decision.make_lane:
            await self._create_shared("MergeLane", world, objects.lane(world))
        await self.adopt(world, decision)
        made: list[tuple[str, dict[str, Any], str]] = []
        made += [("AgentTask", objects.task(world, decision.iteration, t), world.uid) for t in decision.tasks]
        if decision.planner is not None and world.planning.source is not None:
            made.append(("AgentTask", objects.planner(world, world.planning.source, decision.planner), world.uid))
        made += [("AgentTask", objects.fixer(world, fix), world.uid) for fix in decision.fixes]
        for change in decision.resolve:
            original = await self._spec_of(world, change.task)
            made.append(("AgentTask", objects.resolver(world, change, original), world.uid))
        made += [("MergeJob", objects.merge_job(world, change, k), world.uid) for change, k in decision.requeue]
        if decision.start_sweep:
            runs = objects.sweep_runs(world, decision.start_sweep)
            made += [("GateRun", run, world.lane.uid) for run in runs]
        await self._all(self._create(kind, world, obj, owner) for kind, obj, owner in made)

    async def _spec_of(self, world: World, task: str) -> dict[str, Any]:
        """A task's whole spec: the cache keeps no prompt. Empty where it is gone."""
        try:
            found = await self._ctx.kube.get("AgentTask", world.namespace, task)
        except NotFound:
            return {}
        spec: dict[str, Any] = found.get("spec") or {}
        return spec

    async def adopt(self, world: World, decision: Decision) -> None:
        """Make hand-made tasks the build's own."""
        await self._all(self._adopt(world, name) for name in decision.adopt[:ADOPTIONS])

    async def cancel(self, world: World) -> None:
        """Ask every open task and MergeJob to end."""
        tasks = (t for t in self._index.unfinished(world.uid) if t.desired_state != "Cancelled")
        await self._all(self._cancel("AgentTask", task) for task in islice(tasks, BATCH))
        jobs = [j.view for j in self._index.state(world.uid).jobs.values() if not j.ended]
        wanted = [job for job in jobs if job.spec.get("desiredState") != "Cancelled"]
        await self._all(self._cancel("MergeJob", job) for job in wanted[:BATCH])

    async def drop_sweep(self, world: World) -> None:
        """Delete GateRuns of the build's sweeps that have no verdict yet."""
        runs = self._ctx.cache.indexed("GateRun", SWEEP_INDEX, world.uid)
        await self._all(self._delete("GateRun", run) for run in runs if not run.status.get("verdict"))

    async def _prune_sweeps(self, world: World, number: int) -> None:
        """Delete the runs of sweeps long ago: the lane owns them, and it outlives the build."""
        found: tuple[GateRunView, ...] = self._ctx.cache.indexed("GateRun", SWEEP_INDEX, world.uid)
        old = [run for run in found if int(run.spec.get("number") or 0) <= number - KEPT_SWEEPS]
        await self._all(self._delete("GateRun", run) for run in old[:BATCH])

    async def purge(self, world: World) -> None:
        """Delete the build's tasks, jobs and sweep runs; their Pods go with them."""
        state = self._index.state(world.uid)
        tasks = [record.view for record in islice(state.records.values(), BATCH)]
        jobs = [job.view for job in islice(state.jobs.values(), BATCH)]
        runs = self._ctx.cache.indexed("GateRun", SWEEP_INDEX, world.uid)
        pairs = [*(("MergeJob", j) for j in jobs), *(("AgentTask", t) for t in tasks), *(("GateRun", r) for r in runs)]
        await self._all(self._delete(kind, view) for kind, view in pairs if not view.meta.deleting)

    async def delete_build(self, view: BuildView) -> None:
        """Delete the BuildRequest itself."""
        await self._ctx.writer.delete("BuildRequest", view.meta.namespace, view.meta.name, uid=view.meta.uid)

    async def _create(self, kind: str, world: World, obj: dict[str, Any], owner: str) -> None:
        name = obj["metadata"]["name"]
        try:
            await self._ctx.writer.create(kind, world.namespace, obj)
        except AlreadyExists:
            found = await self._ctx.kube.get(kind, world.namespace, name)
            owners = found["metadata"].get("ownerReferences") or []
            if not any(reference.get("uid") == owner for reference in owners):
                raise PermanentError(
                    reasons.NAME_TAKEN, f"{kind} {name!r} is there and isn't this build's: delete or rename it"
                ) from None
            self._ctx.cache.offer(kind, found)

    async def _create_shared(self, kind: str, world: World, obj: dict[str, Any]) -> None:
        try:
            await self._ctx.writer.create(kind, world.namespace, obj)
        except AlreadyExists:
            found = await self._ctx.kube.get(kind, world.namespace, obj["metadata"]["name"])
            self._ctx.cache.offer(kind, found)

    async def _adopt(self, world: World, name: str) -> None:
        try:
            await self._ctx.writer.patch("AgentTask", world.namespace, name, objects.adoption(world))
        except NotFound:
            return  # gone before it was ours

    async def _cancel(self, kind: str, view: TaskView | MergeJobView) -> None:
        try:
            patch = {"spec": {"desiredState": "Cancelled"}}
            await self._ctx.writer.patch(kind, view.meta.namespace, view.meta.name, patch)
        except NotFound:
            return

    async def _delete(self, kind: str, view: Any) -> None:
        try:
            await self._ctx.writer.delete(kind, view.meta.namespace, view.meta.name, uid=view.meta.uid)
        except KubeError as error:
            if error.status != 409:  # another object of that name: not ours
                raise

    async def _all(self, calls: Iterable[Awaitable[None]]) -> None:
        """Await all calls, a few at once; the first error is raised after all have ended, passing ones first."""
        limit = asyncio.Semaphore(PARALLEL)

        async def one(call: Awaitable[None]) -> None:
            async with limit:
                await call

        results = await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise min(errors, key=lambda error: isinstance(error, PermanentError))
