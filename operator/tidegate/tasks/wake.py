"""Which tasks to look at again when something else changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import BuildView, GateRunView, LaneView, MergeJobView, PodView, TaskView
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.turns import Turns
from tidegate.tasks import states
from tidegate.tasks.objects import PURPOSE_TASK, branch_of
from tidegate.tasks.observe import JOBS_OF_TASK, OPEN_ATTEMPTS, PODS_OF_TASK, RUNS_OF_TASK, Observer

DEPENDENTS = "tasks-by-dependency"
OF_BUILD = "tasks-unfinished-by-build"
HELD = "tasks-held"  # may be waiting for a class, a profile, a Secret, a lane
HELD_ALL = "held"


def install(ctx: Context, observer: Observer, asked_to_go: set[str], turns: Iterable[Turns]) -> None:
    """Add the room's indexes and listeners to the cache."""
    ctx.cache.add_index("Pod", PODS_OF_TASK, _owner_of_pod)
    ctx.cache.add_index("MergeJob", JOBS_OF_TASK, _task_of_job)
    ctx.cache.add_index("GateRun", RUNS_OF_TASK, _owner_of_run)
    ctx.cache.add_index("AgentTask", OPEN_ATTEMPTS, lambda task: [task.meta.namespace] if task.attempt_open else [])
    ctx.cache.add_index("AgentTask", DEPENDENTS, _dependencies)
    ctx.cache.add_index("AgentTask", OF_BUILD, _unfinished)
    ctx.cache.add_index("AgentTask", HELD, _held)
    waker = _Waker(ctx, observer, asked_to_go, turns)
    ctx.cache.add_listener("AgentTask", waker.on_task)
    ctx.cache.add_listener("BuildRequest", waker.on_build)
    ctx.cache.add_listener("Pod", waker.on_pod)
    ctx.cache.add_listener("MergeJob", waker.on_job)
    ctx.cache.add_listener("MergeLane", waker.on_lane)
    ctx.cache.add_listener("AgentClass", waker.on_class)
    ctx.cache.add_listener("GateProfile", waker.on_class)
    ctx.cache.add_listener("GateRun", waker.on_run)


class _Waker:
    """Cache listeners: fast, without I/O."""

    def __init__(self, ctx: Context, observer: Observer, asked_to_go: set[str], turns: Iterable[Turns]) -> None:
        self._ctx = ctx
        self._observer = observer
        self._asked_to_go = asked_to_go
        self._turns = tuple(turns)

    def on_task(self, key: Key, old: TaskView | None, new: TaskView | None) -> None:
        """Dependents wait for the end of a task and for its merge."""
        if new is None and old is not None:
            self._observer.vanished.pop(old.meta.uid, None)
            self._observer.foreign_runs.pop(old.meta.uid, None)
            self._forget(old.meta.uid)
        if _stage(old) != _stage(new):
            self._queue(self._ctx.cache.indexed("AgentTask", DEPENDENTS, f"{key.namespace}/{key.name}"))

    def on_build(self, key: Key, old: BuildView | None, new: BuildView | None) -> None:
        """A new slot starts a task, before others are looked at; a new build, or a cancel, concerns all its tasks."""
        if old is None or new is None or old.meta.uid != new.meta.uid or old.desired_state != new.desired_state:
            self._queue(self._ctx.cache.indexed("AgentTask", OF_BUILD, f"{key.namespace}/{key.name}"))
            return
        if new.slots != old.slots:
            for name in set(new.slots).difference(old.slots):
                self._ctx.queue.add(Key("AgentTask", key.namespace, name), urgent=True)

    def on_pod(self, key: Key, old: PodView | None, new: PodView | None) -> None:
        """What happens to a Pod concerns its task. An ended Pod that is removed is kept until it was judged."""
        pod = new or old
        if pod is None or pod.component != names.COMPONENT_AGENT:
            return
        if old is not None and (new is None or new.meta.uid != old.meta.uid):
            self._forget(old.meta.uid)
        task = self._task_of(key.namespace, pod.task, pod.meta.owner_uid)
        if task is None:
            return
        if new is None and pod.terminal and task.attempt_open and task.attempt == pod.attempt:
            self._observer.vanished[task.meta.uid] = pod
        self._ctx.queue.add(Key("AgentTask", key.namespace, task.meta.name))

    def on_run(self, key: Key, old: GateRunView | None, new: GateRunView | None) -> None:
        """The verdict of one of its own gates, or the loss of one, concerns a task."""
        run = new or old
        if run is None or not _owner_of_run(run):
            return
        if old is not None and (new is None or new.meta.uid != old.meta.uid):
            self._forget(old.meta.uid)
        if old is not None and new is not None and old.status.get("verdict") == new.status.get("verdict"):
            return
        task = self._task_of(key.namespace, (run.meta.labels or {}).get(names.LABEL_TASK, ""), run.meta.owner_uid)
        if task is not None:
            self._ctx.queue.add(Key("AgentTask", key.namespace, task.meta.name))

    def on_job(self, key: Key, old: MergeJobView | None, new: MergeJobView | None) -> None:
        """The end of a MergeJob, or its loss, concerns its task."""
        job = new or old
        if job is not None and _result(old) != _result(new):
            for ref in _refs(job):
                self._ctx.queue.add(Key("AgentTask", key.namespace, ref["name"]))

    def on_lane(self, key: Key, old: LaneView | None, new: LaneView | None) -> None:
        """Tasks that stand alone wait until their lane is ready."""
        if (old and old.condition_status(reasons.READY)) != (new and new.condition_status(reasons.READY)):
            self._queue(self._ctx.cache.indexed("AgentTask", HELD, f"{key.namespace}/{key.name}"))

    def on_class(self, _key: Key, old: Any, new: Any) -> None:
        """A class or profile that appears or changes may free tasks that were stalled."""
        if (old and old.meta.generation) != (new and new.meta.generation):
            self._queue(self._ctx.cache.indexed("AgentTask", HELD, HELD_ALL))

    def _forget(self, uid: str) -> None:
        """An object is gone."""
        self._asked_to_go.discard(uid)
        for turns in self._turns:
            turns.forget(uid)

    def _queue(self, tasks: Iterable[TaskView]) -> None:
        for task in tasks:
            self._ctx.queue.add(Key("AgentTask", task.meta.namespace, task.meta.name))

    def _task_of(self, namespace: str, label: str, owner_uid: str) -> TaskView | None:
        """The task that owns a Pod or a GateRun. Its label is cut where the name is too long for one."""
        named: TaskView | None = self._ctx.cache.get(Key("AgentTask", namespace, label))
        if named is not None and named.meta.uid == owner_uid:
            return named
        if len(label) < names.MAX_NAME:
            return None
        tasks: Iterable[TaskView] = self._ctx.cache.all("AgentTask", namespace)
        return next((task for task in tasks if task.meta.uid == owner_uid), None)


def _owner_of_pod(pod: PodView) -> list[str]:
    return [pod.meta.owner_uid] if pod.component == names.COMPONENT_AGENT and pod.meta.owner_uid else []


def _owner_of_run(run: GateRunView) -> list[str]:
    return [run.meta.owner_uid] if run.spec.get("purpose") == PURPOSE_TASK and run.meta.owner_uid else []


def _task_of_job(job: MergeJobView) -> list[str]:
    return [str(ref["uid"]) for ref in _refs(job)]


def _refs(job: MergeJobView) -> list[dict[str, Any]]:
    """The task whose change it brings, and the one in whose stead it comes."""
    refs = (job.spec.get("taskRef"), (job.spec.get("replaces") or {}).get("taskRef"))
    return [ref for ref in refs if ref]


def _dependencies(task: TaskView) -> list[str]:
    if task.state in states.TERMINAL:
        return []
    return [f"{task.meta.namespace}/{name}" for name, _ in task.depends_on]


def _unfinished(task: TaskView) -> list[str]:
    waits = task.state not in states.TERMINAL or (task.state == states.COMPLETE and not task.merged)
    return [f"{task.meta.namespace}/{task.build}"] if task.build and waits else []


def _held(task: TaskView) -> list[str]:
    """Tasks that stand alone, under their lane and under all; tasks of builds only while a time ahead holds them."""
    if task.attempt_open or task.state in states.TERMINAL:
        return []
    if task.build:
        return [HELD_ALL] if task.next_attempt_time or task.state == states.GATING else []
    repository = task.repository or {}
    lane = names.lane_name(str(repository.get("url") or ""), branch_of(repository))
    return [HELD_ALL, f"{task.meta.namespace}/{lane}"]


def _stage(task: TaskView | None) -> tuple[str, str, bool]:
    return ("", "", False) if task is None else (task.meta.uid, task.state, task.merged)


def _result(job: MergeJobView | None) -> tuple[str, str] | None:
    if job is None:
        return None
    return job.condition_status(reasons.SUCCEEDED), job.condition_status(reasons.MERGED)
