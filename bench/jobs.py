"""The yardstick: as many `batch/v1` Jobs with the same Pod."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

from bench.lab import Lab, say
from bench.observe import job_done, watching
from tidegate.clients.kube import Json

DROPPED_FIELDS = ("nodeName", "hostname", "subdomain", "serviceAccount", "tolerations", "priority", "preemptionPolicy")


@dataclass(frozen=True)
class Rates:
    """Objects a second, from the first create call to the last Pod and the last completion seen."""

    pods: float
    completed: float

    def mean(self, other: Rates) -> Rates:
        """Between this run and another one."""
        return Rates((self.pods + other.pods) / 2, (self.completed + other.completed) / 2)


def job(name: str, pod: Json) -> Json:
    """A Job that runs the Pod of an agent task: same containers, volumes and labels."""
    spec = {key: value for key, value in copy.deepcopy(pod["spec"]).items() if key not in DROPPED_FIELDS}
    spec["restartPolicy"] = "Never"
    spec.pop("activeDeadlineSeconds", None)
    labels = dict(pod["metadata"].get("labels") or {})
    labels["app.kubernetes.io/managed-by"] = "bench"
    labels["tidegate.dev/agent-class"] = "bench"
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}


async def run_jobs(lab: Lab, namespace: str, count: int, pod: Json, prefix: str) -> Rates:
    """Create the Jobs, their names with the prefix, and wait for the last one."""
    say(f"  {count} Jobs")
    async with (
        watching(lab.kube, "Pod", namespace, lambda _: False) as pods,
        watching(lab.kube, "Job", namespace, job_done) as jobs,
    ):
        names = {f"{prefix}-{n}" for n in range(count)}
        started = time.monotonic()
        await lab.create_all("Job", namespace, [job(name, pod) for name in sorted(names)])
        await jobs.until(lambda seen: names <= seen.done.keys(), 600, f"{count} Jobs")
        last_pod = max(when for name, when in pods.appeared.items() if name.rsplit("-", 1)[0] in names)
        rates = Rates(count / (last_pod - started), count / (max(jobs.done[name] for name in names) - started))
    say(f"    {rates.pods:.1f} Pods/s, {rates.completed:.1f} completed/s")
    return rates
