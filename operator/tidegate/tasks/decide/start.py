"""Why a Pod doesn't get as far as its agent."""

from __future__ import annotations

from datetime import datetime

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import ContainerView, PodView
from tidegate.tasks import times
from tidegate.tasks.model import Policy, Problem, Timer

_PULL_FAILS = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_PULL_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_SETUP_FAILS = frozenset({"CreateContainerConfigError", "CreateContainerError", "PreCreateHookError"})
_CRASHES = 3


def start_problem(pod: PodView, assigned: str, policy: Policy, now: datetime, timer: Timer) -> Problem | None:
    """What ends the wait for the agent to start, None while there is hope or it has started."""
    agent = pod.container(names.CONTAINER_AGENT)
    if agent is not None and agent.state != "Waiting":
        return None
    for container in (*pod.init_containers, *pod.containers):
        problem = _container_problem(pod, container, assigned, policy, now, timer)
        if problem is not None:
            return problem
    left = policy.start_timeout_seconds - times.seconds_since(assigned, now)
    if left > 0:
        timer.within(left)
        return None
    return Problem(reasons.START_TIMED_OUT, f"no start within {policy.start_timeout_seconds} s: {_where(pod)}")


def _container_problem(
    pod: PodView, container: ContainerView, assigned: str, policy: Policy, now: datetime, timer: Timer
) -> Problem | None:
    if container.state != "Waiting":
        return None
    why = f"container {container.name}: {container.reason}: {container.message}"
    if container.reason in _PULL_HOPELESS:
        return Problem(reasons.IMAGE_PULL_FAILED, why)
    publisher = container.name == names.CONTAINER_PUBLISHER
    if publisher and container.reason == "CrashLoopBackOff" and container.restarts >= _CRASHES:
        return Problem(reasons.PUBLISHER_FAILED, f"container publisher doesn't start: {container.message}")
    if container.reason not in _PULL_FAILS | _SETUP_FAILS:
        return None
    left = policy.pull_grace_seconds - times.seconds_since(_waiting_since(pod, assigned), now)
    if left > 0:
        timer.within(left)
        return None
    reason = reasons.IMAGE_PULL_FAILED if container.reason in _PULL_FAILS else reasons.START_TIMED_OUT
    return Problem(reason, why)


def _waiting_since(pod: PodView, assigned: str) -> str:
    """When the last step before this container was done: its image is pulled from then on."""
    workspace = pod.container(names.CONTAINER_WORKSPACE)
    publisher = pod.container(names.CONTAINER_PUBLISHER)
    done = [assigned, workspace.finished if workspace else "", publisher.started if publisher else ""]
    return max(done)  # RFC 3339 in UTC sorts by time


def _where(pod: PodView) -> str:
    if not pod.scheduled:
        return f"not scheduled: {pod.scheduling_message or 'no reason given'}"
    waiting = [f"{c.name}: {c.reason or c.state}" for c in (*pod.init_containers, *pod.containers) if c.exit_code != 0]
    return "; ".join(waiting) or "the node has not reported its containers"
