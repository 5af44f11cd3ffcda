"""From the cache to what the planner is given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.gates import Definition, by_tree, gate_key, merged
from tidegate.api.requirements import requires
from tidegate.api.views import BuildView, ClassView, GateRunView, LaneView, MergeJobView, PodView, ProfileView, TaskView
from tidegate.clients.git_objects import Person
from tidegate.lane import approval
from tidegate.lane.approval import Answer
from tidegate.lane.bypass import TRAILER, bypass_of
from tidegate.lane.candidate import Change
from tidegate.lane.decide.model import Count, Gate, Job, Run, Snapshot, Start
from tidegate.lane.decide.protect import ADD, Protection, protection
from tidegate.lane.gates import gate_of
from tidegate.lane.index import BUILDS, CANDIDATE, GATE_PODS, JOBS, RUNS, TASK, has_ended, lane_of_job
from tidegate.lane.state import LaneState, Wanted
from tidegate.runtime.context import Context, parse_time
from tidegate.runtime.keys import Key

FIXER = "Fixer"
BASE_RETRY = 60  # seconds, where no build says otherwise


@dataclass(frozen=True, slots=True)
class Seen:
    """A lane and its jobs, as the cache has them."""

    lane: LaneView
    open: tuple[MergeJobView, ...]  # neither ended nor being deleted, or in the middle of landing
    ended: tuple[MergeJobView, ...]
    runs: tuple[GateRunView, ...]  # of candidates
    pods: tuple[PodView, ...]
    reviews: Mapping[str, tuple[GateRunView, ...]]  # by what stands for the change


@dataclass(frozen=True, slots=True)
class Gates:
    """What each job's candidate must pass, and why a job's gates can't be told."""

    of_job: dict[str, tuple[Gate, ...]] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    reviews: dict[str, tuple[Gate, ...]] = field(default_factory=dict)  # what must approve of each job's change


def see(ctx: Context, lane: LaneView) -> Seen:
    """Collect what the cache has."""
    value = f"{lane.meta.namespace}/{lane.meta.name}"
    jobs: tuple[MergeJobView, ...] = ctx.cache.indexed("MergeJob", JOBS, value)
    runs: tuple[GateRunView, ...] = ctx.cache.indexed("GateRun", RUNS, value)
    asked = [run for run in runs if run.spec.get("purpose", CANDIDATE) == CANDIDATE and not run.meta.deleting]
    reviews: dict[str, list[GateRunView]] = {}
    for run in asked:
        if change := run.spec.get("change"):
            reviews.setdefault(change["patchId"], []).append(run)
    return Seen(
        lane=lane,
        open=tuple(j for j in jobs if not has_ended(j) and (not j.meta.deleting or j.status.get("landing"))),
        ended=tuple(job for job in jobs if has_ended(job)),
        runs=tuple(run for run in asked if not run.spec.get("change")),
        pods=ctx.cache.indexed("Pod", GATE_PODS, value),
        reviews={patch: tuple(found) for patch, found in reviews.items()},
    )


def runs_on(seen: Seen, commit: str, tree: str = "") -> list[GateRunView]:
    """The runs that speak of a candidate: on its commit, and by gates that see only files on its tree."""

    def speaks(run: GateRunView) -> bool:
        same_tree = by_tree(run.spec["gate"]) and tree != "" and run.spec.get("tree") == tree
        return bool(commit) and (run.spec["commit"] == commit or same_tree)

    return [run for run in seen.runs if speaks(run)]


def reviews_of(seen: Seen, patch: str | None) -> tuple[GateRunView, ...]:
    """The reviews of a change, wherever it is based."""
    return seen.reviews.get(patch or "", ())


def gates_for(ctx: Context, lane: LaneView, jobs: tuple[MergeJobView, ...]) -> Gates:
    """The union of the lane's required profile and the job's; where neither names one, what the task's role gets; and
    of those that the platform requires for the branch. None for a job whose gates a person bypasses."""
    found = Gates()
    required = lane.spec.get("requiredGateProfileName") or ""
    url, branch = lane.spec["repository"]["url"], lane.spec.get("targetBranch") or "main"
    profiles: list[ProfileView] = [one for one in ctx.cache.all("GateProfile") if requires(one.spec, url, branch)]
    demanded = sorted(profile.meta.name for profile in profiles)
    for job in jobs:
        if bypass_of(job, lane.meta.name) is not None:
            found.of_job[job.meta.uid] = ()
            continue
        wanted = [name for name in (required, job.spec.get("gateProfileName") or "") if name]
        groups: list[list[Definition]] = []
        for name in dict.fromkeys([*(wanted or [_default_profile(ctx, job)]), *demanded]):
            profile: ProfileView | None = ctx.cache.get(Key("GateProfile", "", name))
            if profile is None or profile.meta.deleting:
                message = f"GateProfile {name!r} does not exist: make it, or name another in gateProfileName"
                found.problems[job.meta.uid] = (reasons.PROFILE_MISSING, message)
                break
            allowed = profile.spec.get("allowedNamespaces") or ()
            if allowed and lane.meta.namespace not in allowed:
                message = f"GateProfile {name!r} may not be used in this namespace (spec.allowedNamespaces)"
                found.problems[job.meta.uid] = (reasons.NAMESPACE_NOT_ALLOWED, message)
                break
            groups.append(list(profile.spec.get("gates") or ()))
        else:
            definitions = {gate_key(one): one for one in merged(groups)}
            found.definitions.update(definitions)
            reviews = [one for one in definitions.values() if one.get("review")]
            problem = next(filter(None, (reviewer_problem(ctx, lane.meta.namespace, one) for one in reviews)), None)
            if problem is not None:
                found.problems[job.meta.uid] = problem
                continue
            found.reviews[job.meta.uid] = tuple(gate_of(one) for one in reviews)
            found.of_job[job.meta.uid] = tuple(gate_of(one) for one in definitions.values() if not one.get("review"))
    return found


def reviewer_problem(ctx: Context, namespace: str, gate: Definition) -> tuple[str, str] | None:
    """Why the AgentClass of a gate with review can't be used: reason and message."""
    name = str(gate["review"]["agentClassName"])
    where = f"AgentClass {name!r} of gate {gate['name']!r}"
    found: ClassView | None = ctx.cache.get(Key("AgentClass", "", name))
    if found is None or found.meta.deleting:
        return reasons.CLASS_MISSING, f"{where} does not exist: make it, or name another in review.agentClassName"
    allowed = found.spec.get("allowedNamespaces") or ()
    if allowed and namespace not in allowed:
        return reasons.NAMESPACE_NOT_ALLOWED, f"{where} may not be used in this namespace (spec.allowedNamespaces)"
    if (found.spec.get("engine") or {}).get("protocol") != "Reviewer":
        return reasons.REVIEWER_UNFIT, f"{where} gives no verdicts: name one with engine.protocol Reviewer"
    return None


def answers(seen: Seen) -> dict[str, Answer]:
    """What people said of the commits of jobs that have not ended."""
    return approval.answers(seen.open, seen.ended, seen.lane.meta.name)


def protection_of(lane: LaneView) -> Protection:
    """The paths that the lane protects."""
    return protection(lane.spec.get("protectedPaths") or (), lane.spec.get("protectedPathsPolicy") or ADD)


def _task(ctx: Context, job: MergeJobView) -> TaskView | None:
    """The task that made a job's change, while it is there."""
    ref = job.spec.get("taskRef") or {}
    found: TaskView | None = ctx.cache.get(Key("AgentTask", job.meta.namespace, ref.get("name") or ""))
    return found if found is not None and found.meta.uid == ref.get("uid") else None


def _default_profile(ctx: Context, job: MergeJobView) -> str:
    task = _task(ctx, job)
    default = ctx.settings.default_gate_profile
    return (ctx.settings.gate_profile_by_role.get(task.role) if task is not None else "") or default


def most_candidates(lane: LaneView) -> int:
    """The bound that the lane's spec sets to its window."""
    return int(lane.spec.get("window") or 1)


def wanted(job: MergeJobView) -> Wanted:
    """The job as the remote sees it."""
    spec = job.spec
    author = spec["repository"].get("author")
    trailers = [("Tidegate-Job", f"{job.meta.namespace}/{job.meta.name}")]
    if spec.get("taskRef"):
        trailers.append(("Tidegate-Task", spec["taskRef"]["name"]))
    if spec.get("buildRef"):
        trailers.append(("Tidegate-Build", spec["buildRef"]["name"]))
    trailers.append(("Tidegate-Source", spec["sourceCommit"]))
    if (order := bypass_of(job, lane_of_job(job))) is not None:
        trailers.append((TRAILER, order.by))
    change = Change(
        source=spec["sourceCommit"],
        strategy=spec.get("strategy") or "Rebase",
        author=Person(author["name"], author["email"]) if author else None,
        trailers=tuple(trailers),
    )
    return Wanted(job.meta.uid, spec["sourceRef"], change)


def snapshot(ctx: Context, seen: Seen, state: LaneState, gates: Gates, frozen: bool, limit: int) -> Snapshot:
    """The planner's view of the lane: jobs with gates, evidence, slots."""
    jobs = [job for job in seen.open if job.meta.uid in gates.of_job and not job.status.get("landing")]
    sources = {job.spec["sourceCommit"]: job for job in reversed(jobs)}
    lost = {
        job.spec["sourceCommit"]: job.meta.name
        for job in seen.ended
        if job.spec["sourceCommit"] not in sources
        and (state.ledger is None or job.spec["sourceCommit"] not in state.ledger.sources)
        and job.status.get("state") != "Merged"
    }
    active = [run for run in seen.runs if not run.status.get("verdict")]
    said = answers(seen)
    names_active = {run.meta.name for run in active}
    stray = sum(1 for pod in seen.pods if is_stray(pod, names_active))
    return Snapshot(
        head=state.head,
        head_tree=state.head_tree,
        jobs=tuple(_job(ctx, job, gates, state, sources, lost, said.get(job.meta.uid)) for job in jobs),
        links=state.links,
        runs=_evidence(itertools.chain(seen.runs, *seen.reviews.values())),
        now=ctx.now().timestamp(),
        slots=int(seen.lane.spec.get("gateSlots") or 4),
        busy=len(active) + stray,
        window=min(state.window, most_candidates(seen.lane)),
        every_commit=seen.lane.spec.get("greenness") == "Commit",
        frozen=frozen,
        base_retry_seconds=base_retry(ctx, seen.lane),
        fruitless=state.fruitless,
        fruitless_limit=limit,
    )


def base_retry(ctx: Context, lane: LaneView) -> float:
    """How soon a red head is looked at again: as its most impatient build says."""
    builds: tuple[BuildView, ...] = ctx.cache.indexed("BuildRequest", BUILDS, f"{lane.meta.namespace}/{lane.meta.name}")
    asked = (int((build.spec.get("sweep") or {}).get("errorIntervalSeconds") or BASE_RETRY) for build in builds)
    return float(min(asked, default=BASE_RETRY))


def is_stray(pod: PodView, known: set[str]) -> bool:
    """Whether a Pod takes a slot from the lane without being one of its runs'. Runs of tasks' own gates give way."""
    of_task = (pod.meta.labels or {}).get(names.LABEL_PURPOSE) == TASK.lower()
    return not (pod.terminal or of_task or pod.meta.name in known)


def _job(ctx: Context, job: MergeJobView, gates: Gates, state: LaneState, sources: Mapping[str, MergeJobView],
         lost: Mapping[str, str], answer: Answer | None) -> Job:  # fmt: skip
    spec, status = job.spec, job.status
    inside = state.ranges.get(job.meta.uid, frozenset()) - {spec["sourceCommit"]}
    queued = parse_time(status.get("queuedTime") or job.meta.created)
    task = _task(ctx, job)
    touches = state.guard.touched.get(job.meta.uid, ())
    approved = answer is not None and answer.approved
    return Job(
        uid=job.meta.uid,
        name=job.meta.name,
        source=spec["sourceCommit"],
        gates=gates.of_job[job.meta.uid],
        priority=int(spec.get("priority") or 5),
        queued=queued.timestamp() if queued else 0.0,
        conflict_heads=tuple(status.get("conflictHeads") or ()),
        max_conflict_retries=int(spec.get("maxConflictRetries", 2)),
        demotions=int(status.get("infraRuns") or 0),
        fixer=task is not None and task.role == FIXER,
        fewer_tests=bool(spec.get("allowFewerTests")),
        waits_on=tuple(sorted(sources[oid].meta.uid for oid in inside & sources.keys())),
        broken_on=next((lost[oid] for oid in sorted(inside & lost.keys())), ""),
        touches=touches,
        unapproved=() if approved or not touches else _unnamed(ctx, job, task, state, touches),
        approved=approved,
        bypass=order.words if (order := bypass_of(job, lane_of_job(job))) is not None else "",
        denied=answer.words if answer is not None and not answer.approved else "",
        reviews=gates.reviews.get(job.meta.uid, ()),
        patch=state.reviews.patch_id(job.meta.uid),
    )


def _unnamed(ctx: Context, job: MergeJobView, task: TaskView | None, state: LaneState,
             touches: tuple[str, ...]) -> tuple[str, ...]:  # fmt: skip
    """The touched paths that no scope written by a person names."""
    build: BuildView | None = None
    if task is not None and task.build:
        build = ctx.cache.get(Key("BuildRequest", job.meta.namespace, task.build))
    return state.guard.protection.unnamed(touches, approval.scope_by_person(job, task, build))


def _evidence(runs: Iterable[GateRunView]) -> dict[tuple[str, str], tuple[Run, ...]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for view in runs:
        gate = gate_of(view.spec["gate"])
        change = view.spec.get("change") or {}
        subject = change.get("patchId") or gate.subject(view.spec["commit"], view.spec.get("tree") or "")
        ended = parse_time(view.status.get("endTime") or "")
        run = Run(
            view.meta.name, int(view.spec.get("number") or 1), view.status.get("verdict") or "",
            ended.timestamp() if ended else 0.0, _counted(view.status),
            silent=view.status.get("reason") == reasons.REVIEW_MISSING,
        )  # fmt: skip
        found.setdefault((gate.key, subject), []).append(run)
    return {key: tuple(sorted(group, key=lambda run: run.number)) for key, group in found.items()}


def _counted(status: Mapping[str, Any]) -> Count | None:
    found = status.get("tests")
    return Count(int(found.get("ran") or 0), int(found.get("skipped") or 0)) if found else None


def gate_run(lane: LaneView, state: LaneState, definition: Mapping[str, Any], start: Start, name: str, job: str = "",
             changed: int | None = None) -> dict[str, Any]:  # fmt: skip
    """The GateRun object for a candidate. The lane owns it."""
    repository = {"url": lane.spec["repository"]["url"]}
    if lane.spec["repository"].get("credentialsSecretName"):
        repository["credentialsSecretName"] = lane.spec["repository"]["credentialsSecretName"]
    labels = {
        names.LABEL_MANAGED_BY: names.OPERATOR,
        names.LABEL_PART_OF: names.OPERATOR,
        names.LABEL_LANE: lane.meta.name,
        names.LABEL_GATE: names.bounded_name(start.gate.name),
        names.LABEL_PURPOSE: CANDIDATE.lower(),
    }
    owner = {
        "apiVersion": names.API_VERSION, "kind": "MergeLane", "name": lane.meta.name, "uid": lane.meta.uid,
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    spec: dict[str, Any] = {
        "repository": repository,
        "laneRef": {"name": lane.meta.name},
        "commit": start.commit,
        "fetchRef": state.refs.candidate(start.commit),
        "purpose": CANDIDATE,
        "number": start.number,
        "gate": dict(definition),
    }
    if start.patch:
        patch = state.reviews.patches[start.job]
        spec["fetchRef"] = state.refs.source(start.job)
        spec["change"] = {"patchId": start.patch, "baseCommits": list(patch.bases)}
    known = {
        "tree": start.tree or None,
        "baseCommit": start.base or None,
        "jobRef": {"name": job} if job else None,
        "changedPaths": changed,
    }
    spec.update({key: value for key, value in known.items() if value is not None})
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}, "spec": spec}
