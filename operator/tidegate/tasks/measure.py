"""What the room counts."""

from __future__ import annotations

from datetime import datetime

from tidegate import names
from tidegate.api.views import TaskView
from tidegate.tasks import states, times
from tidegate.tasks.decide.pods import newest_pod
from tidegate.tasks.model import Observed
from tidegate.tasks.status import newest
from tidegate.telemetry import metrics


def pod_created(seen: Observed) -> None:
    """The first Pod of a task is there."""
    if seen.task.attempt == 1:
        metrics.POD_CREATE_SECONDS.observe(max(times.seconds_since(seen.task.meta.created, seen.now), 0.0))


def attempt_ended(seen: Observed, after: TaskView) -> None:
    """An attempt was judged and recorded."""
    attempt = newest(after)
    outcome = str(attempt.get("outcome") or "")
    metrics.ATTEMPTS.labels(after.role, outcome, str(attempt.get("reason") or "")).inc()
    start = str(attempt.get("startTime") or "")
    metrics.ATTEMPT_SECONDS.labels(outcome).observe(max(times.seconds_since(start, seen.now), 0.0))
    usage = attempt.get("usage") or {}
    metrics.TOKENS.labels("in").inc(int(usage.get("tokensIn") or 0))
    metrics.TOKENS.labels("out").inc(int(usage.get("tokensOut") or 0))
    metrics.MODEL_CALLS.inc(int(usage.get("modelCalls") or 0))
    pod = newest_pod(seen)
    agent = pod.container(names.CONTAINER_AGENT) if pod is not None else None
    started = times.read(agent.started) if agent is not None else None
    if pod is not None and started is not None:
        made: datetime | None = times.read(pod.meta.created)
        if made is not None:
            metrics.POD_START_SECONDS.observe(max((started - made).total_seconds(), 0.0))


def own_gates_ended(seen: Observed, after: TaskView) -> None:
    """The wait for a task's own gates is over."""
    if seen.task.state != states.GATING or after.state == states.GATING:
        return
    if after.state == states.PENDING:
        outcome = "Continued"
    elif after.state == states.CANCELLED:
        outcome = "Cancelled"
    else:
        outcome = str((after.status().get("ownGates") or {}).get("verdict") or "")
    metrics.OWN_GATES.labels(after.role, outcome).inc()
