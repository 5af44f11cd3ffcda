"""How long nobody leads: from the signal to the first write of the replica that takes over."""

from __future__ import annotations

import signal
import time

from bench.lab import Lab, say
from bench.observe import watching
from bench.replica import Replica
from bench.tasks import task


async def takeover(lab: Lab, namespace: str, leader: Replica, number: signal.Signals, name: str) -> float:
    """Seconds from the signal until the Pod of a task that was created right after it exists."""
    async with watching(lab.kube, "Pod", namespace, lambda _: False) as pods:
        started = time.monotonic()
        leader.send(number)
        await lab.kube.create("AgentTask", namespace, task(name))
        await pods.until(lambda seen: f"{name}-1" in seen.appeared, 60, f"the Pod of {name}")
        took = pods.appeared[f"{name}-1"] - started
    say(f"    {number.name}: {took:.2f} s")
    return took
