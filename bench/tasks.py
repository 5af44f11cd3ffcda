"""AgentTasks of one BuildRequest, with slots and order in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.lab import HOLD_CLASS, PROFILE, WORK_CLASS, Lab, poll, say
from bench.observe import Seen, task_done, watching
from tidegate.clients.kube import Json

BUILD = "bench"
CHAIN = 5


@dataclass
class Run:
    """What a run of many tasks showed."""

    pods_per_second: float
    completed_per_second: float
    seconds: float
    names: list[str] = field(default_factory=list)


def build(url: str, max_parallel: int) -> Json:
    """A build whose only planned task runs until it is cancelled, so that the build doesn't end before its time."""
    hold = {"name": "hold", "prompt": "sleep 86400", "agentClassName": HOLD_CLASS}
    spec = {
        "request": "Measure.",
        "repository": {"url": url, "targetBranch": "main"},
        "planning": {"tasks": [hold], "maxTasks": 10_000},
        "workers": {"agentClassName": WORK_CLASS, "maxParallel": max_parallel + 1, "timeoutSeconds": 86_400},
        "merge": {"gateProfileName": PROFILE},
        "sweep": {"intervalSeconds": 86_400},
        "finalization": {"enabled": False},
    }
    return {"metadata": {"name": BUILD}, "spec": spec}


def task(name: str, after: str = "") -> Json:
    """A task of the build, perhaps after another one."""
    spec: Json = {"buildRef": {"name": BUILD}, "prompt": "true", "agentClassName": WORK_CLASS}
    if after:
        spec["dependsOn"] = [{"name": after}]
    return {"metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def active_build(lab: Lab, namespace: str, max_parallel: int) -> AsyncIterator[None]:
    """A build that has begun to work: its own task runs."""
    async with watching(lab.kube, "Pod", namespace, lambda _: False) as pods:
        await lab.kube.create("BuildRequest", namespace, build(lab.repository, max_parallel))
        await pods.until(lambda seen: len(seen.appeared) >= 1, 120, "the build's first Pod")
    try:
        yield
    finally:
        await _remove(lab, namespace)


async def _remove(lab: Lab, namespace: str) -> None:
    """Delete the build while an operator is there to take its finalizer off."""
    await lab.kube.delete("BuildRequest", namespace, BUILD)
    try:
        await poll(lambda: lab.gone("BuildRequest", namespace, BUILD), 120)
    except TimeoutError:
        say("    the build didn't end within 120 s of its deletion: its finalizers are taken off")
        await lab.kube.patch("BuildRequest", namespace, BUILD, {"metadata": {"finalizers": None}})


async def run_tasks(lab: Lab, namespace: str, tasks: list[Json], seconds: float, *, watch_pods: bool = True) -> Run:
    """Create the tasks and wait for the last one."""
    say(f"  {len(tasks)} AgentTasks")
    names = {obj["metadata"]["name"] for obj in tasks}
    async with watching(lab.kube, "AgentTask", namespace, task_done) as seen, _pods(lab, namespace, watch_pods) as pods:
        started = time.monotonic()
        creating = asyncio.create_task(lab.create_all("AgentTask", namespace, tasks))
        reporter = asyncio.create_task(_report(seen, len(tasks)))
        try:
            await seen.until(lambda s: len(s.done) >= len(names), seconds, f"{len(tasks)} tasks")
            await creating
        finally:
            reporter.cancel()
            creating.cancel()
        took = max(seen.done.values()) - started
        last_pod = max(pods.appeared.values()) - started if pods and pods.appeared else took
    run = Run(len(tasks) / last_pod, len(tasks) / took, took, sorted(names))
    say(f"    {run.pods_per_second:.1f} Pods/s, {run.completed_per_second:.1f} completed/s")
    return run


@asynccontextmanager
async def _pods(lab: Lab, namespace: str, wanted: bool) -> AsyncIterator[Seen | None]:
    if not wanted:
        yield None
        return
    async with watching(lab.kube, "Pod", namespace, lambda _: False) as seen:
        yield seen


async def _report(seen: Seen, total: int) -> None:
    while True:
        await asyncio.sleep(15)
        say(f"    {len(seen.appeared)} created, {len(seen.done)} of {total} done")


def flat(count: int, prefix: str = "t") -> list[Json]:
    """Independent tasks."""
    return [task(f"{prefix}-{n}") for n in range(count)]


def chains(count: int) -> list[Json]:
    """Tasks in chains of five: each after the one before. All heads come first."""
    length = count // CHAIN
    return [task(f"c-{n}-{step}", f"c-{n}-{step - 1}" if step else "") for step in range(CHAIN) for n in range(length)]


async def idle_latency(lab: Lab, namespace: str, count: int) -> list[float]:
    """Milliseconds from a task's creation (its create call has answered) to its Pod, one after another."""
    say(f"  {count} AgentTasks one by one")
    taken: list[float] = []
    async with watching(lab.kube, "Pod", namespace, lambda _: False) as pods:
        for n in range(count):
            name = f"idle-{n}"
            await lab.kube.create("AgentTask", namespace, task(name))
            created = time.monotonic()
            pod = f"{name}-1"
            await pods.until(lambda seen, pod=pod: pod in seen.appeared, 30, pod)  # type: ignore[misc]
            taken.append(max(0.0, pods.appeared[pod] - created) * 1000)
            await asyncio.sleep(0.3)
    return taken
