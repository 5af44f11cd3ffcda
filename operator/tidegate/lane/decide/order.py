"""The order of the queue. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.lane.decide.model import Job

AGEING_SECONDS = 3600.0  # waiting this long is worth one step of priority


def rank(job: Job) -> tuple[float, float, str]:
    """Smaller is earlier. Ageing moves all jobs alike, so that the rank of a job never changes: a job is overtaken only
    by those that come at most `AGEING_SECONDS` per step of priority after it."""
    return (job.queued + job.priority * AGEING_SECONDS, job.queued, job.uid)


def ordered(jobs: Iterable[Job], *, fixers_first: bool = False) -> list[Job]:
    """Jobs in order, those without gates first; a job that others wait for is as urgent as the most urgent of them."""
    listed = list(jobs)
    ranks = {job.uid: rank(job) for job in listed}
    for job in sorted(listed, key=rank, reverse=True):
        for uid in job.waits_on:
            if uid in ranks and ranks[job.uid] < ranks[uid]:
                ranks[uid] = (ranks[job.uid][0], ranks[job.uid][1], "")

    def place(job: Job) -> tuple[object, ...]:
        return (not job.bypass, fixers_first and not job.fixer, *ranks[job.uid], job.uid)

    return sorted(listed, key=place)
