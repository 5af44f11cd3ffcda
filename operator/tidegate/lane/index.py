"""The cache's indexes and wake-up calls of the lane's room."""

from __future__ import annotations

from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.gates import about_change
from tidegate.api.views import BuildView, GateRunView, LaneView, MergeJobView, PodView, TaskView
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key

JOBS = "lane-jobs"  # MergeJob by <namespace>/<lane>
RUNS = "lane-runs"  # GateRun by <namespace>/<lane>
URGENT = "lane-urgent-runs"  # GateRun without a verdict that needs a Pod and isn't a task's, by <namespace>/<lane>
GATE_PODS = "lane-gate-pods"  # Pod by <namespace>/<lane>
POD_OF_RUN = "pod-of-gate-run"  # Pod by UID of the GateRun
BUILDS = "lane-builds"  # unfinished BuildRequest by <namespace>/<lane>
TASKS = "lane-tasks"  # unfinished task that stands alone, by <namespace>/<lane>

CANDIDATE, TASK = "Candidate", "Task"  # purposes of GateRuns
ENDED = ("Merged", "Failed", "Cancelled")
_TASK_ENDED = ("Complete", "Partial", "Blocked", "Failed", "Cancelled")


def lane_of_job(job: MergeJobView) -> str:
    """The name of the lane that a MergeJob belongs to."""
    return names.lane_name(job.spec["repository"]["url"], job.spec.get("targetBranch") or "main")


def has_ended(job: MergeJobView) -> bool:
    """Whether a MergeJob is in a terminal state."""
    return job.status.get("state") in ENDED


def _job(job: MergeJobView) -> list[str]:
    return [f"{job.meta.namespace}/{lane_of_job(job)}"]


def _run(run: GateRunView) -> list[str]:
    lane = (run.spec.get("laneRef") or {}).get("name")
    return [f"{run.meta.namespace}/{lane}"] if lane else []


def _urgent(run: GateRunView) -> list[str]:
    waits = not (run.status.get("verdict") or run.meta.deleting or about_change(run.spec["gate"]))
    return _run(run) if waits and run.spec.get("purpose") != TASK else []


def _gate_pod(pod: PodView) -> list[str]:
    if pod.component != names.COMPONENT_GATE:
        return []
    return [f"{pod.meta.namespace}/{(pod.meta.labels or {}).get(names.LABEL_LANE, '')}"]


def _pod_of_run(pod: PodView) -> list[str]:
    return [pod.meta.owner_uid] if pod.component == names.COMPONENT_GATE else []


def _build(build: BuildView) -> list[str]:
    if build.condition_status(reasons.SUCCEEDED) != "Unknown":
        return []
    return [f"{build.meta.namespace}/{names.lane_name(build.url, build.target_branch)}"]


def _task(task: TaskView) -> list[str]:
    if task.repository is None or task.state in _TASK_ENDED:
        return []
    url, branch = task.repository.get("url") or "", task.repository.get("targetBranch") or "main"
    return [f"{task.meta.namespace}/{names.lane_name(url, branch)}"]


def install_indexes(ctx: Context) -> None:
    """Add the room's indexes and listeners."""
    cache = ctx.cache
    cache.add_index("MergeJob", JOBS, _job)
    cache.add_index("GateRun", RUNS, _run)
    cache.add_index("GateRun", URGENT, _urgent)
    cache.add_index("Pod", GATE_PODS, _gate_pod)
    cache.add_index("Pod", POD_OF_RUN, _pod_of_run)
    cache.add_index("BuildRequest", BUILDS, _build)
    cache.add_index("AgentTask", TASKS, _task)
    waker = _Waker(ctx)
    cache.add_listener("MergeJob", waker.on_job)
    cache.add_listener("GateRun", waker.on_run)
    cache.add_listener("Pod", waker.on_pod)
    cache.add_listener("BuildRequest", waker.on_need)
    cache.add_listener("AgentTask", waker.on_need)
    cache.add_listener("AgentTask", waker.on_review)
    cache.add_listener("GateProfile", waker.on_profile)


class _Waker:
    """Queues the lanes and gate runs that a change concerns."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def _wake(self, key: Key, values: list[str]) -> None:
        for value in values:
            self._ctx.queue.add(Key("MergeLane", key.namespace, value.partition("/")[2]))

    def on_job(self, key: Key, old: MergeJobView | None, new: MergeJobView | None) -> None:
        """A job came, changed or went."""
        job = new or old
        if job is not None:
            self._wake(key, _job(job))

    def on_run(self, key: Key, old: GateRunView | None, new: GateRunView | None) -> None:
        """A run got its verdict or vanished."""
        run = new or old
        decided = new is None or bool(new.status.get("verdict"))
        if run is not None and decided and run.spec.get("purpose", CANDIDATE) == CANDIDATE:
            self._wake(key, _run(run))

    def on_pod(self, _key: Key, old: PodView | None, new: PodView | None) -> None:
        """A gate's Pod changed: its own run looks, and where a slot came free the runs that wait for one."""
        pod = new or old
        if pod is None or pod.component != names.COMPONENT_GATE:
            return
        free = new is None or new.terminal
        for value in _gate_pod(pod):
            for run in self._ctx.cache.indexed("GateRun", RUNS, value):
                if run.meta.uid == pod.meta.owner_uid or (free and not run.status.get("podUID")):
                    self._ctx.queue.add(Key("GateRun", run.meta.namespace, run.meta.name))

    def on_need(self, key: Key, old: Any, new: Any) -> None:
        """A build or task that begins needs its lane's head and whether the remote is fit."""
        of = _build if key.kind == "BuildRequest" else _task
        before, after = (of(view) if view is not None else [] for view in (old, new))
        if before != after:
            self._wake(key, [*before, *after])

    def on_review(self, key: Key, old: TaskView | None, new: TaskView | None) -> None:
        """The task of a review changed: its run looks."""
        task = new or old
        run = (task.meta.labels or {}).get(names.LABEL_GATE_RUN) if task is not None else None
        if run:
            self._ctx.queue.add(Key("GateRun", key.namespace, run))

    def on_profile(self, _key: Key, _old: Any, _new: Any) -> None:
        """Gates changed: every lane looks again."""
        for lane in self._ctx.cache.keys("MergeLane"):
            self._ctx.queue.add(lane)


def needed(ctx: Context, lane: LaneView) -> bool:
    """Whether anybody needs the lane's head to be fresh."""
    value = f"{lane.meta.namespace}/{lane.meta.name}"
    return bool(
        ctx.cache.indexed_count("BuildRequest", BUILDS, value) or ctx.cache.indexed_count("AgentTask", TASKS, value)
    )
