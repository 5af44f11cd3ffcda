"""The log of an attempt's agent: from its Pod, or word of where it is in git."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tidegate import names
from tidegate.cli.text import clean, clean_line
from tidegate.clients.kube import Kube
from tidegate.clients.pod_log import pod_log
from tidegate.errors import Invalid, NotFound, Unavailable

WAIT_SECONDS = 1.0


class LogError(Exception):
    """There is no log to show; the text says why, and where it is."""


async def show_log(
    kube: Kube, namespace: str, task: str, attempt: int | None, *, follow: bool, write: Callable[[str], None]
) -> None:
    """Write the agent's log line by line. Raises LogError."""
    while True:
        found = await _task(kube, namespace, task)
        try:
            number, pod = _pod_of(found, attempt)
            async for line in pod_log(kube, namespace, pod, names.CONTAINER_AGENT, follow=follow):
                write(clean_line(line))
        except NotFound:
            raise LogError(await _where(kube, namespace, found, number)) from None
        except Invalid as error:  # the container waits to start
            if not follow:
                raise LogError(f"the agent of attempt {number} has not started: {clean(error.message)}") from None
        except _NotYetError as error:
            if not follow:
                raise LogError(str(error)) from None
        except Unavailable as error:
            raise LogError(f"the log broke off: {error}") from None
        else:
            return
        await asyncio.sleep(WAIT_SECONDS)


class _NotYetError(Exception):
    """The task has no attempt so far."""


async def _task(kube: Kube, namespace: str, task: str) -> dict[str, Any]:
    try:
        return await kube.get("AgentTask", namespace, task)
    except NotFound:
        raise LogError(f"no AgentTask {task!r} in namespace {namespace!r}") from None


def _pod_of(task: dict[str, Any], wanted: int | None) -> tuple[int, str]:
    """Number and Pod of an attempt, the newest where none is named."""
    status = task.get("status") or {}
    name = task["metadata"]["name"]
    attempts = {int(attempt["number"]): attempt for attempt in status.get("attempts") or ()}
    if not attempts:
        if status.get("state") in ("Cancelled", "Failed", "Blocked"):
            raise LogError(f"task {name} ended {status['state']} without an attempt")
        raise _NotYetError(f"task {name} is {status.get('state') or 'Pending'}: no attempt so far")
    number = wanted or max(attempts)
    if number not in attempts:
        known = ", ".join(str(n) for n in sorted(attempts))
        raise LogError(f"task {name} has no attempt {number} in its status; there are: {known}")
    return number, str(attempts[number].get("pod") or names.pod_name(name, number))


async def _where(kube: Kube, namespace: str, task: dict[str, Any], number: int) -> str:
    """What to type to read the log of an attempt whose Pod is gone."""
    attempts = (task.get("status") or {}).get("attempts") or ()
    attempt: dict[str, Any] = next((a for a in attempts if a.get("number") == number), {})
    gone = f"the Pod of attempt {number} is gone"
    if not attempt.get("handoffCommit"):
        return f"{gone}, and it left no log in git" + (
            f" ({clean(attempt['reason'])})" if attempt.get("reason") else ""
        )
    url = await _url(kube, namespace, task)
    ref = names.handoff_ref(task["metadata"]["uid"], number)
    commit = clean(attempt["handoffCommit"])
    return f"{gone}; the end of its log is in git:\n  git fetch {clean(url)} {ref}\n  git show {commit}:log"


async def _url(kube: Kube, namespace: str, task: dict[str, Any]) -> str:
    spec = task["spec"]
    if spec.get("repository"):
        return str(spec["repository"].get("url"))
    try:
        build = await kube.get("BuildRequest", namespace, spec["buildRef"]["name"])
    except NotFound:
        return "<repository>"
    return str(build["spec"]["repository"]["url"])
