"""Which of a task's Pods and GateRuns are in the way, and which have been kept long enough."""

from __future__ import annotations

from tidegate import names
from tidegate.api.views import PodView
from tidegate.tasks import times
from tidegate.tasks.model import Observed, PodDeletion, RunDeletion, Timer


def newest_pod(seen: Observed) -> PodView | None:
    """The Pod of the newest attempt."""
    name = names.pod_name(seen.task.meta.name, seen.task.attempt)
    return next((p for p in seen.pods if p.meta.name == name and p.attempt == seen.task.attempt), None)


def leftovers(seen: Observed) -> tuple[PodView, ...]:
    """Pods that still run although their attempt isn't open."""
    return tuple(pod for pod in seen.pods if not pod.terminal and not _open(seen, pod))


def _open(seen: Observed, pod: PodView) -> bool:
    return seen.task.attempt_open and pod.attempt == seen.task.attempt


def deletions(seen: Observed, timer: Timer) -> tuple[PodDeletion, ...]:
    """Pods to delete now: leftovers at once, finished ones after their time. Their outcome is recorded."""
    gone = [PodDeletion(pod.meta.name, pod.meta.uid) for pod in leftovers(seen) if not pod.meta.deleting]
    finished = [pod for pod in seen.pods if pod.terminal and not _open(seen, pod) and not pod.meta.deleting]
    if not finished:
        return tuple(gone)
    ended = {int(a.get("number") or 0): str(a.get("endTime") or "") for a in seen.task.status().get("attempts") or ()}
    for pod in finished:
        end = ended.get(pod.attempt, "")
        left = seen.policy.pod_retention_seconds - times.seconds_since(end, seen.now) if end else 0.0
        if left <= 0:
            gone.append(PodDeletion(pod.meta.name, pod.meta.uid, tidying=True))
        else:
            timer.within(left)
    return tuple(gone)


def unwanted_runs(seen: Observed, wanted: frozenset[str] = frozenset()) -> tuple[RunDeletion, ...]:
    """GateRuns without a verdict that nobody waits for: their Pods are to end."""
    return tuple(
        RunDeletion(run.meta.name, run.meta.uid)
        for run in seen.runs
        if not (run.status.get("verdict") or run.meta.deleting or run.meta.name in wanted)
    )
