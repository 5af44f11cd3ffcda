"""`make bench`: the operator against the Job controller and against plumbing, in one run on the local cluster.

Ends with one line a figure, `name = value`. `python -m bench --small` runs everything with fewer objects: to try the
bench itself, not to compare figures.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import dataclass, fields, replace

from bench import lane, lane_simulator, planner
from bench.audit import pods_over
from bench.jobs import Rates, run_jobs
from bench.lab import WORK_CLASS, Lab, lab, say
from bench.observe import percentile
from bench.replica import Replica
from bench.takeover import takeover
from bench.tasks import Run, active_build, chains, flat, idle_latency, run_tasks
from tidegate.names import LABEL_CLASS


@dataclass(frozen=True)
class Size:
    """How much is run."""

    tasks: int = 500
    many: int = 10_000
    slots: int = 200
    idle: int = 50
    seconds: float = 1500.0
    changes: int = 200  # of the simulated queue


SMALL = Size(tasks=50, many=200, slots=20, idle=10, seconds=300.0, changes=80)
FEW, MANY, JOBS = "tidegate-bench-few", "tidegate-bench-many", "tidegate-bench-jobs"


@dataclass(frozen=True)
class Few:
    """What the run of 500 showed."""

    run: Run
    jobs: Rates
    latency: list[float]
    calls: dict[str, float]
    cpu_ms: float


async def few(lab: Lab, size: Size) -> Few:
    """The latency when nothing else happens; then tasks between two runs of as many Jobs with the same Pod, since a
    cluster gets quicker while its first objects go through it."""
    async with lab.namespace(FEW) as space, lab.namespace(JOBS) as jobs_space:
        leader = Replica(lab, "leader-few", [space])
        await leader.start()
        try:
            async with active_build(lab, space, size.tasks):
                latency = await idle_latency(lab, space, size.idle)
                pod = await _work_pod(lab, space)
                earlier = await run_jobs(lab, jobs_space, size.tasks, pod, "earlier")
                cpu, calls = leader.cpu_seconds(), await leader.api_calls()
                run = await run_tasks(lab, space, flat(size.tasks), size.seconds)
                await asyncio.sleep(2)  # what is still to be written about them
                cpu_ms = (leader.cpu_seconds() - cpu) * 1000 / size.tasks
                after = await leader.api_calls()
                later = await run_jobs(lab, jobs_space, size.tasks, pod, "later")
        finally:
            await leader.end()
    per_task = {name: (after[name] - calls.get(name, 0.0)) / size.tasks for name in after}
    often = {name: value for name, value in per_task.items() if value >= 0.005}
    return Few(run, earlier.mean(later), latency, often, cpu_ms)


async def once(lab: Lab, size: Size) -> float:
    """Tasks completed a second, as few as are held against Jobs."""
    async with lab.namespace(FEW) as space:
        leader = Replica(lab, "leader-once", [space])
        await leader.start()
        try:
            async with active_build(lab, space, size.tasks):
                run = await run_tasks(lab, space, flat(size.tasks), size.seconds)
        finally:
            await leader.end()
    return run.completed_per_second


async def _work_pod(lab: Lab, namespace: str) -> dict[str, object]:
    pods, _ = await lab.kube.list("Pod", namespace, f"{LABEL_CLASS}={WORK_CLASS}")
    return pods[0]


@dataclass(frozen=True)
class Many:
    """What the run of 10,000 showed."""

    run: Run
    over_cap: int
    peak_mib: float
    cpu_ms: float
    sigterm: float
    sigkill: float


async def many(lab: Lab, size: Size) -> Many:
    """Chains of tasks under a small cap, then leaders that go with all of them present."""
    async with lab.namespace(MANY) as space:
        replicas = [Replica(lab, f"replica-{n}", [space]) for n in range(3)]
        try:
            await replicas[0].start()
            async with active_build(lab, space, size.slots):
                cpu = replicas[0].cpu_seconds()
                run = await run_tasks(lab, space, chains(size.many), size.seconds, watch_pods=False)
                cpu_ms = (replicas[0].cpu_seconds() - cpu) * 1000 / size.many
                over = await pods_over(space, size.slots + 1)
                await replicas[1].start()
                peaks = [replicas[0].peak_mib()]
                sigterm = await takeover(lab, space, replicas[0], signal.SIGTERM, "after-sigterm")
                await replicas[2].start()
                peaks.append(replicas[1].peak_mib())
                sigkill = await takeover(lab, space, replicas[1], signal.SIGKILL, "after-sigkill")
                peaks.append(replicas[2].peak_mib())
        finally:
            for replica in replicas:
                await replica.end()
    return Many(run, over, max(peaks), cpu_ms, sigterm, sigkill)


def report(few: Few, many: Many, later: float, of_lane: dict[str, float]) -> list[str]:
    """The figures, a line each. `later`: the rate of few tasks after the many."""
    by_call = "  ".join(f"{name} {value:.2f}" for name, value in sorted(few.calls.items()))
    say(f"API calls per task: {by_call}")
    say(f"CPU per task at {len(many.run.names)}: {many.cpu_ms:.1f} ms")
    of_few = (few.run.completed_per_second + later) / 2
    figures = {
        "pods_per_second_ratio_to_job": few.run.pods_per_second / few.jobs.pods,
        "completed_per_second_ratio_to_job": few.run.completed_per_second / few.jobs.completed,
        "create_to_pod_p50_ms": percentile(few.latency, 0.5),
        "create_to_pod_p99_ms": percentile(few.latency, 0.99),
        "api_calls_per_task": sum(few.calls.values()),
        "operator_cpu_ms_per_task": few.cpu_ms,
        "operator_peak_rss_mib": many.peak_mib,
        "rate_at_10000_ratio_to_500": many.run.completed_per_second / of_few,
        "max_pods_over_cap": many.over_cap,
        "takeover_sigterm_seconds": many.sigterm,
        "takeover_sigkill_seconds": many.sigkill,
        **of_lane,
    }
    return [
        f"{name} = {value:.2f}" if isinstance(value, float) else f"{name} = {value}" for name, value in figures.items()
    ]


async def main(size: Size) -> None:
    """Run all of it and print the figures."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # what was started is ended
    async with lab() as shared:
        say("Candidates")
        of_lane = {"candidate_ratio_to_plumbing": await asyncio.to_thread(lane.measure, shared.directory, say)}
        say("Planner")
        of_lane["planner_1000_jobs_ms"] = await asyncio.to_thread(planner.milliseconds)
        of_lane |= await asyncio.to_thread(lane_simulator.figures, size.changes, 4)
        # The API server gives a watch room for as many events as came lately. The first storm is too much for all
        # that watch Pods, kwok too, which then plays its Pods once more.
        say(f"{size.tasks} tasks that don't count: a fresh cluster isn't a quick one")
        await once(shared, size)
        say(f"{size.tasks} tasks against {size.tasks} Jobs")
        first = await few(shared, size)
        say(f"{size.many} tasks in chains, {size.slots} slots")
        second = await many(shared, size)
        say(f"{size.tasks} tasks once more: the machine's speed isn't what it was at the begin")
        later = await once(shared, size)
    print("\n".join(report(first, second, later, of_lane)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="fewer objects: to try the bench itself")
    for field in fields(Size):
        parser.add_argument(f"--{field.name}", type=type(field.default), metavar="N")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    size = SMALL if given.pop("small") else Size()
    asyncio.run(main(replace(size, **given)))
    sys.exit(0)
