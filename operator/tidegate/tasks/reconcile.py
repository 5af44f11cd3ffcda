"""AgentTasks: observe, decide, act."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import GateRunView, PodView, TaskView
from tidegate.clients.git import GitThreads
from tidegate.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.turns import Turns
from tidegate.runtime.urls import git_protocols
from tidegate.tasks import measure, wake
from tidegate.tasks.continuation import Continuation
from tidegate.tasks.decide import decide
from tidegate.tasks.model import Decision, Notice, Observed, Problem, RunDeletion, RunStart, Timer
from tidegate.tasks.objects import merge_job, merge_lane, own_gate_run, repository_of
from tidegate.tasks.observe import Observer
from tidegate.tasks.pod import Platform, PodPlan, agent_pod

log = logging.getLogger(__name__)

MAX_STEPS = 8  # of one round; more come with the next
MAX_LOOKS = 4
# What the API server is asked only as fast as work that somebody waits for doesn't suffer from it.
REMOVALS_PER_SECOND, REMOVALS_AT_ONCE = 2.0, 20  # of ended Pods
WAITS_PER_SECOND, WAITS_AT_ONCE = 10.0, 50  # notices of what tasks wait for
STARTS_PER_SECOND, STARTS_AT_ONCE = 5.0, 50  # notices that tasks run
Object = dict[str, Any]


class TaskReconciler:
    """One round for one task. Every step is decided from what is there: it may end between any two of them."""

    def __init__(self, ctx: Context, observer: Observer) -> None:
        self._ctx = ctx
        self._observer = observer
        settings = ctx.settings
        self._platform = Platform(
            settings.runner_image, settings.image_pull_policy, settings.gateway_url, git_protocols(settings)
        )
        self.asked_to_go: set[str] = set()  # UIDs of Pods and GateRuns that were deleted and are still in the cache
        self.removals = Turns(REMOVALS_PER_SECOND, REMOVALS_AT_ONCE, ctx.monotonic)  # by UID of the Pod
        self.notices = {  # by UID of the task
            Notice.WAITS: Turns(WAITS_PER_SECOND, WAITS_AT_ONCE, ctx.monotonic),
            Notice.RUNS: Turns(STARTS_PER_SECOND, STARTS_AT_ONCE, ctx.monotonic),
        }

    async def __call__(self, key: Key) -> float | None:
        """Observe, decide, act, until nothing is left to do; returns when to look again."""
        spec: Object | None = None
        for _ in range(MAX_STEPS):
            task: TaskView | None = self._ctx.cache.get(key)
            if task is None:
                return None
            seen, decision = await self._decided(self._observer.world(task))
            before = self._ctx.cache.get(key)
            if before is not task:
                continue  # it moved while we looked: decide from what is there now
            decision = self._due(seen, decision)
            if not decision.acts:
                return decision.again_after
            spec = await self._act(key, seen, decision, spec)
            if not (decision.status or decision.create_pod or decision.ensure_lane or _creates(decision)):
                return decision.again_after
        return 0.0

    async def _decided(self, seen: Observed) -> tuple[Observed, Decision]:
        decision = decide(seen)
        for _ in range(MAX_LOOKS):
            if not decision.needs:
                return seen, decision
            seen = await self._observer.look(seen, decision.needs)
            decision = decide(seen)
        raise RuntimeError(f"task {seen.task.meta.name}: a closer look at {sorted(decision.needs)} settles nothing")

    def _due(self, seen: Observed, decision: Decision) -> Decision:
        """The decision without deletions that were asked for before, and without what has its turn later."""
        runs = tuple(run for run in decision.delete_runs if run.uid not in self.asked_to_go)
        pods, timer, status = [], Timer(decision.again_after), decision.status
        for notice, turns in self.notices.items():
            if notice is not decision.notice:
                turns.forget(seen.task.meta.uid)
            elif (wait := turns.wait(seen.task.meta.uid)) > 0:
                timer.within(wait)
                status = None
        for pod in decision.delete_pods:
            if pod.uid in self.asked_to_go:
                continue
            if pod.tidying and (wait := self.removals.wait(pod.uid)) > 0:
                timer.within(wait)
            else:
                pods.append(pod)
        return replace(decision, status=status, delete_pods=tuple(pods), delete_runs=runs, again_after=timer.seconds)

    async def _act(self, key: Key, seen: Observed, decision: Decision, spec: Object | None) -> Object | None:
        """Carry the decision out; returns the task's whole spec where an answer brought it."""
        if decision.ensure_lane:
            await self._ensure_lane(seen)
        if decision.status is not None:
            spec = await self._write(key, seen, dict(decision.status))
        if decision.create_pod is not None:
            refused = await self._create_pod(key, seen, spec)
            if refused is not None:
                return await self._act(key, refused, self._due(refused, decide(refused)), spec)
        for pod in decision.delete_pods:
            await self._delete_pod(key.namespace, pod.name, pod.uid)
        await self._own_gates(key, seen, decision)
        if decision.create_job:
            taken = await self._create_job(seen)
            if taken is not None:
                return await self._act(key, taken, self._due(taken, decide(taken)), spec)
        for name in decision.cancel_jobs:
            await self._ctx.writer.patch("MergeJob", key.namespace, name, {"spec": {"desiredState": "Cancelled"}})
        for note in decision.notes:
            await self._ctx.writer.event("AgentTask", seen.task, note.type, note.reason, note.text)
        return spec

    async def _write(self, key: Key, seen: Observed, status: Object) -> Object:
        answer = await self._ctx.writer.patch_status(key, status, resource_version=seen.task.meta.resource_version)
        after = TaskView.from_object(answer)
        if seen.task.attempt_open and not after.attempt_open:
            self._observer.vanished.pop(after.meta.uid, None)
            measure.attempt_ended(seen, after)
        measure.own_gates_ended(seen, after)
        found: Object = answer.get("spec") or {}
        return found

    # -- Pods

    async def _create_pod(self, key: Key, seen: Observed, spec: Object | None) -> Observed | None:
        """Create the newest attempt's Pod. Where it can't be: the world with the reason, to decide again."""
        problem = await self._observer.preflight(seen)
        if problem.reason:
            return replace(seen, refusal=problem)
        if spec is None:
            spec = await self._live_spec(key, seen)
        plan = self._plan(seen, spec, await self._observer.continuation(seen.task))
        if self._moved(key, seen):
            return None  # cancelled meanwhile, for example: the next step is decided anew
        try:
            await self._ctx.writer.create("Pod", key.namespace, agent_pod(plan))
        except AlreadyExists:
            found = PodView.from_object(await self._live_pod(key, seen))
            if found.meta.owner_uid != seen.task.meta.uid or found.attempt != seen.task.attempt:
                return replace(seen, foreign_pod=True)
            return None
        except Forbidden as error:
            reason = reasons.QUOTA_EXCEEDED if error.quota else reasons.POD_REFUSED
            return replace(seen, refusal=Problem(reason, error.message))
        except Invalid as error:
            return replace(seen, refusal=Problem(reasons.POD_REFUSED, error.message))
        measure.pod_created(seen)
        return None

    def _moved(self, key: Key, seen: Observed) -> bool:
        task: TaskView | None = self._ctx.cache.get(key)
        return task is None or task.meta.resource_version != seen.task.meta.resource_version

    async def _live_spec(self, key: Key, seen: Observed) -> Object:
        """The task's whole spec. Raises Conflict when the task isn't any more what was decided on."""
        found = await self._ctx.kube.get("AgentTask", key.namespace, key.name)
        self._ctx.cache.offer("AgentTask", found)
        if TaskView.from_object(found).meta.resource_version != seen.task.meta.resource_version:
            raise Conflict(409, "Conflict", "the task has moved since it was looked at")
        spec: Object = found["spec"]
        return spec

    async def _live_pod(self, key: Key, seen: Observed) -> Object:
        name = names.pod_name(key.name, seen.task.attempt)
        try:
            found = await self._ctx.kube.get("Pod", key.namespace, name)
        except NotFound:
            raise Conflict(409, "Conflict", f"Pod {name} came and went") from None
        if PodView.from_object(found).meta.owner_uid == seen.task.meta.uid:
            self._ctx.cache.offer("Pod", found)
        return found

    def _plan(self, seen: Observed, spec: Object, continuation: Continuation | None) -> PodPlan:
        assert seen.agent_class is not None
        meta, build = seen.task.meta, seen.build
        return PodPlan(
            namespace=meta.namespace,
            task=meta.name,
            task_uid=meta.uid,
            attempt=seen.task.attempt,
            spec=spec,
            repository=repository_of(seen.task, build),
            agent_class=seen.agent_class_name,
            class_spec=seen.agent_class.spec,
            platform=self._platform,
            build=seen.task.build,
            build_uid=build.meta.uid if build is not None else "",
            workers=build.spec.get("workers") if build is not None else None,
            continuation=continuation,
        )

    async def _delete_pod(self, namespace: str, name: str, uid: str) -> None:
        try:
            await self._ctx.writer.delete("Pod", namespace, name, uid=uid)
        except Conflict:
            log.info("a Pod of that name has another UID now", extra={"pod": name, "namespace": namespace})
        if any(pod.meta.uid == uid for pod in self._pods(namespace, name)):
            self.asked_to_go.add(uid)

    def _pods(self, namespace: str, name: str) -> tuple[PodView, ...]:
        view: PodView | None = self._ctx.cache.get(Key("Pod", namespace, name))
        return (view,) if view is not None else ()

    # -- own gates

    async def _own_gates(self, key: Key, seen: Observed, decision: Decision) -> None:
        for start in decision.create_runs:
            await self._create_run(seen, start)
        for run in decision.delete_runs:
            await self._delete_run(key.namespace, run)

    async def _create_run(self, seen: Observed, start: RunStart) -> None:
        """Create a GateRun; where another's is in the way, the next decision knows."""
        namespace = seen.task.meta.namespace
        try:
            await self._ctx.writer.create("GateRun", namespace, own_gate_run(seen.task, seen.build, start))
        except AlreadyExists:
            try:
                found = await self._ctx.kube.get("GateRun", namespace, start.name)
            except NotFound:
                return  # its deletion brings the task back
            self._ctx.cache.offer("GateRun", found)
            if GateRunView.from_object(found).meta.owner_uid != seen.task.meta.uid:
                self._observer.foreign_runs[seen.task.meta.uid] = start.name

    async def _delete_run(self, namespace: str, run: RunDeletion) -> None:
        try:
            await self._ctx.writer.delete("GateRun", namespace, run.name, uid=run.uid)
        except Conflict:
            log.info("a GateRun of that name has another UID now", extra={"run": run.name, "namespace": namespace})
        if self._ctx.cache.get(Key("GateRun", namespace, run.name)) is not None:
            self.asked_to_go.add(run.uid)

    # -- the lane

    async def _ensure_lane(self, seen: Observed) -> None:
        namespace = seen.task.meta.namespace
        lane = merge_lane(repository_of(seen.task, seen.build))
        try:
            await self._ctx.writer.create("MergeLane", namespace, lane)
        except AlreadyExists:
            self._ctx.cache.offer(
                "MergeLane", await self._ctx.kube.get("MergeLane", namespace, lane["metadata"]["name"])
            )

    async def _create_job(self, seen: Observed) -> Observed | None:
        """Create the MergeJob; where another's is in the way, the world with that fact."""
        namespace = seen.task.meta.namespace
        job = merge_job(seen.task, seen.build)
        try:
            await self._ctx.writer.create("MergeJob", namespace, job)
        except AlreadyExists:
            found = await self._ctx.kube.get("MergeJob", namespace, job["metadata"]["name"])
            self._ctx.cache.offer("MergeJob", found)
            if (found["spec"].get("taskRef") or {}).get("uid") != seen.task.meta.uid:
                return replace(seen, foreign_job=True)
        return None


def _creates(decision: Decision) -> bool:
    return bool(decision.create_job or decision.create_runs)


def install(ctx: Context) -> None:
    """Put the tasks room into the machine room: indexes, listeners, the reconciler of AgentTasks."""
    observer = Observer(ctx, GitThreads(4))
    reconciler = TaskReconciler(ctx, observer)
    wake.install(ctx, observer, reconciler.asked_to_go, (reconciler.removals, *reconciler.notices.values()))
    ctx.reconciler("AgentTask", reconciler)
