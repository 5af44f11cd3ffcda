"""A task in a terminal state: its change goes to the lane, its Pods go away."""

from __future__ import annotations

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import MergeJobView, condition
from tidegate.tasks import states, times
from tidegate.tasks.decide.pods import deletions, unwanted_runs
from tidegate.tasks.model import Decision, Observed, RunDeletion, Timer
from tidegate.tasks.status import StatusEdit


def finished(seen: Observed) -> Decision:
    """See its change merged, and clean up."""
    timer = Timer()
    gone = deletions(seen, timer)
    status, create = None, False
    cancel: tuple[str, ...] = ()
    if seen.task.state == states.COMPLETE and seen.task.commit and not seen.task.merged:
        edit = StatusEdit(seen.task, seen.now)
        create, cancel = _merge(seen, edit)
        status = edit.patch()
    return Decision(
        status=status, create_job=create, cancel_jobs=cancel, delete_pods=gone,
        delete_runs=_spent_runs(seen, timer), again_after=timer.seconds,
    )  # fmt: skip


def _spent_runs(seen: Observed, timer: Timer) -> tuple[RunDeletion, ...]:
    """GateRuns that go: what still runs at once; after a good end all, when its Pods go. Logs of failures stay."""
    if seen.task.state != states.COMPLETE or not seen.runs:
        return unwanted_runs(seen)
    ended = str(seen.task.status().get("completionTime") or "")
    left = seen.policy.pod_retention_seconds - times.seconds_since(ended, seen.now)
    if left <= 0:
        return tuple(RunDeletion(run.meta.name, run.meta.uid) for run in seen.runs if not run.meta.deleting)
    timer.within(left)
    return unwanted_runs(seen)


def _merge(seen: Observed, edit: StatusEdit) -> tuple[bool, tuple[str, ...]]:
    """Copy what became of the change; whether its MergeJob is to be made, and which are to be cancelled."""
    landed = next((job for job in seen.jobs if job.condition_status(reasons.MERGED) == "True"), None)
    if landed is not None:
        found = condition(landed.status, reasons.MERGED) or {}
        edit.condition(reasons.MERGED, "True", *_words(found, reasons.MERGED_BY_LANE))
        edit.set(mergedCommit=landed.status.get("mergedCommit"), mergeJob=landed.meta.name)
        return False, ()
    running = [job for job in seen.jobs if job.condition_status(reasons.SUCCEEDED) == "Unknown"]
    if running:
        newest = max(running, key=_age)
        edit.condition(reasons.MERGED, "Unknown", reasons.QUEUED, "on its way into the target branch")
        edit.set(mergeJob=newest.meta.name)
        wanted = [job for job in running if job.spec.get("desiredState") != "Cancelled"]
        return False, tuple(job.meta.name for job in wanted) if seen.cancelled else ()
    if seen.jobs:
        newest = max(seen.jobs, key=_age)
        found = condition(newest.status, reasons.SUCCEEDED) or {}
        edit.condition(reasons.MERGED, "False", *_words(found, newest.status.get("state") or reasons.PENDING))
        edit.set(mergeJob=newest.meta.name)
        return False, ()
    if edit.found_condition(reasons.MERGED).get("status") == "False":
        return False, ()  # settled, and the job is gone by now
    if seen.cancelled:
        edit.condition(reasons.MERGED, "False", reasons.CANCELLED, "cancelled before it came into the queue")
        return False, ()
    if seen.foreign_job:
        text = f"MergeJob {job_name(seen)!r} exists and isn't this task's: delete it, and make a new task"
        edit.condition(reasons.MERGED, "False", reasons.NAME_TAKEN, text)
        return False, ()
    if seen.task.build and (seen.build is None or seen.build.meta.deleting):
        return False, ()
    return True, ()


def job_name(seen: Observed) -> str:
    """The name of the MergeJob for the newest attempt's commit."""
    return names.merge_job_name(seen.task.meta.name, seen.task.attempt)


def _age(job: MergeJobView) -> tuple[str, int, str]:
    return job.meta.created, len(job.meta.name), job.meta.name


def _words(found: object, reason: str) -> tuple[str, str]:
    if not isinstance(found, dict):
        return reason, ""
    return str(found.get("reason") or reason), str(found.get("message") or "")
