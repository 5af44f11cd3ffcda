"""What a task's world looks like: mostly from the cache, with a closer look where the decision asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.gates import Definition, about_change
from tidegate.api.views import (
    BuildView,
    GateRunView,
    LaneView,
    Meta,
    PodView,
    ProfileView,
    TaskView,
    condition,
    condition_status,
)
from tidegate.clients.git import GitThreads
from tidegate.errors import NotFound, PermanentError
from tidegate.runtime.context import Context
from tidegate.runtime.keys import Key
from tidegate.runtime.network import ensure_isolated
from tidegate.runtime.secrets import git_credentials
from tidegate.runtime.urls import git_protocols
from tidegate.tasks import states
from tidegate.tasks.continuation import Continuation, Failure, failure_text
from tidegate.tasks.model import NO_PROBLEM, Dependency, Lane, Observed, OwnGates, Policy, Problem
from tidegate.tasks.network import agent_policies
from tidegate.tasks.objects import branch_of, repository_of
from tidegate.tasks.outcome import FoundRefs
from tidegate.tasks.refs import find_refs

PODS_OF_TASK = "tasks-pods-by-owner"
JOBS_OF_TASK = "tasks-jobs-by-task"
RUNS_OF_TASK = "tasks-gate-runs-by-owner"
OPEN_ATTEMPTS = "tasks-open-attempts"  # tasks with an open attempt, by namespace
SECRET_TRUST_SECONDS = 60.0  # how long a Secret that was read and found fit isn't read again
PLANNER = "Planner"


class Observer:
    """Looks at the world of one task after another."""

    def __init__(self, ctx: Context, git: GitThreads) -> None:
        self._ctx = ctx
        self._git = git
        self.vanished: dict[str, PodView] = {}  # by task UID: ended Pods that were removed before they were judged
        self.foreign_runs: dict[str, str] = {}  # by task UID: a GateRun of somebody else whose name the task needs
        self._trusted: dict[tuple[str, str, str], float] = {}  # namespace, Secret, URL -> when it was found fit

    # -- from the cache

    def world(self, task: TaskView) -> Observed:
        """All that the cache knows. Doesn't block."""
        ctx = self._ctx
        meta = task.meta
        build: BuildView | None = ctx.cache.get(Key("BuildRequest", meta.namespace, task.build)) if task.build else None
        class_name = self._class_name(task, build)
        waiting = not task.attempt_open and task.state not in states.TERMINAL
        last = self.vanished.get(meta.uid)
        return Observed(
            now=ctx.now(),
            task=task,
            policy=self._policy(task, build),
            build=build,
            agent_class_name=class_name,
            agent_class=ctx.cache.get(Key("AgentClass", "", class_name)),
            dependencies=self._dependencies(task) if waiting else (),
            lane=self._lane(task) if waiting and not task.build else None,
            pods=ctx.cache.indexed("Pod", PODS_OF_TASK, meta.uid),
            last_seen=last if last is not None and last.attempt == task.attempt else None,
            jobs=ctx.cache.indexed("MergeJob", JOBS_OF_TASK, meta.uid) if task.state == states.COMPLETE else (),
            own_gates=self._own_gates(task, build) if task.state not in states.TERMINAL else None,
            runs=ctx.cache.indexed("GateRun", RUNS_OF_TASK, meta.uid),
            foreign_run=self._foreign_run(meta),
            full=waiting and self._full(meta.namespace),
        )

    def _class_name(self, task: TaskView, build: BuildView | None) -> str:
        spec: Mapping[str, Any] = build.spec if build is not None else {}
        settings = self._ctx.settings
        if task.agent_class:
            return task.agent_class
        if task.role == PLANNER:
            return str((spec.get("planning") or {}).get("agentClassName") or settings.default_planner_class)
        return str((spec.get("workers") or {}).get("agentClassName") or settings.default_agent_class)

    def _policy(self, task: TaskView, build: BuildView | None) -> Policy:
        base = Policy(pod_retention_seconds=self._ctx.settings.pod_retention_seconds)
        if build is None:
            return base if task.retry_limit is None else replace(base, retry_limit=task.retry_limit)
        workers: Mapping[str, Any] = build.spec.get("workers") or {}
        retry: Mapping[str, Any] = workers.get("retry") or {}
        return replace(
            base,
            retry_limit=int(retry.get("limit", base.retry_limit)),
            backoff_seconds=int(retry.get("backoffSeconds", base.backoff_seconds)),
            max_backoff_seconds=int(retry.get("maxBackoffSeconds", base.max_backoff_seconds)),
            start_timeout_seconds=int(workers.get("startTimeoutSeconds", base.start_timeout_seconds)),
        )

    def _own_gates(self, task: TaskView, build: BuildView | None) -> OwnGates | None:
        """The task's own gates, its build's otherwise; while they run, those that its change was held back for."""
        workers: Mapping[str, Any] = build.spec.get("workers") or {} if build is not None else {}
        spec: Mapping[str, Any] = task.own_gates or workers.get("ownGates") or {}
        name = str(spec.get("profileName") or "")
        if task.state == states.GATING:
            name = str((task.status().get("ownGates") or {}).get("profileName") or name)
        elif task.role == PLANNER or task.reviews is not None:
            return None
        if not name:
            return None
        limit = int(spec.get("maxContinuations", 2))
        view: ProfileView | None = self._ctx.cache.get(Key("GateProfile", "", name))
        return own_gates(name, limit, view, task.meta.namespace)

    def _foreign_run(self, meta: Meta) -> str:
        """The name of somebody else's GateRun that was in the way, while it is there."""
        name = self.foreign_runs.get(meta.uid, "")
        found: GateRunView | None = self._ctx.cache.get(Key("GateRun", meta.namespace, name)) if name else None
        if name and (found is None or found.meta.owner_uid == meta.uid):
            del self.foreign_runs[meta.uid]
            return ""
        return name

    def _dependencies(self, task: TaskView) -> tuple[Dependency, ...]:
        return tuple(self._dependency(task.meta.namespace, name, until) for name, until in task.depends_on)

    def _dependency(self, namespace: str, name: str, until: str) -> Dependency:
        view: TaskView | None = self._ctx.cache.get(Key("AgentTask", namespace, name))
        if view is None:
            return Dependency(name, until, False, "missing")
        if view.merged or (until == states.COMPLETE and view.state == states.COMPLETE):
            return Dependency(name, until, True)
        if view.state not in states.TERMINAL:
            return Dependency(name, until, False)
        if view.state != states.COMPLETE:
            return Dependency(name, until, False, view.state)
        unmerged = condition_status(view.status(), reasons.MERGED) == "False"
        return Dependency(name, until, False, "NotMerged" if unmerged else "")

    def _lane(self, task: TaskView) -> Lane:
        repository = task.repository or {}
        name = names.lane_name(str(repository.get("url") or ""), branch_of(repository))
        view: LaneView | None = self._ctx.cache.get(Key("MergeLane", task.meta.namespace, name))
        if view is None:
            return Lane(name)
        found = condition(view.status, reasons.STALLED) or condition(view.status, reasons.READY) or {}
        ready = view.condition_status(reasons.READY) == "True"
        return Lane(name, True, ready, str(found.get("message") or ""))

    def _full(self, namespace: str) -> bool:
        count = self._ctx.cache.indexed_count("AgentTask", OPEN_ATTEMPTS, namespace)
        return count >= self._ctx.settings.max_pods_per_namespace

    # -- a closer look

    async def look(self, seen: Observed, needs: frozenset[str]) -> Observed:
        """The same world with what was asked for: `preflight`, `pod`, `refs`."""
        if "preflight" in needs:
            seen = replace(seen, preflight=await self.preflight(seen))
        if "pod" in needs:
            seen = await self._look_for_pod(seen)
        if "refs" in needs:
            seen = replace(seen, refs=await self._look_at_refs(seen))
        return seen

    async def preflight(self, seen: Observed) -> Problem:
        """Whether a Pod may be started: URL and Secret are fit, the namespace is isolated. NO_PROBLEM when so."""
        assert seen.agent_class is not None
        repository = repository_of(seen.task, seen.build)
        namespace = seen.task.meta.namespace
        mark = (namespace, str(repository.get("credentialsSecretName") or ""), str(repository.get("url") or ""))
        now = self._ctx.monotonic()
        try:
            if now - self._trusted.get(mark, -SECRET_TRUST_SECONDS) >= SECRET_TRUST_SECONDS:
                await git_credentials(self._ctx, *mark)
                self._trusted[mark] = now
        except PermanentError as error:
            return Problem(error.reason, error.message)
        policies = agent_policies(self._ctx.settings, seen.agent_class_name, seen.agent_class.spec)
        await ensure_isolated(self._ctx, namespace, policies)
        return NO_PROBLEM

    async def continuation(self, task: TaskView) -> Continuation | None:
        """What the next attempt goes on from, where the task's own gates failed on its newest good one."""
        own = task.status().get("ownGates") or {}
        if own.get("verdict") != "Failed":
            return None
        failed = [row for row in own.get("gates") or () if row.get("verdict") == "Failed"]
        failures = [await self._failure(task, str(row["name"]), str(row.get("run") or "")) for row in failed]
        return Continuation(str(own["commit"]), failure_text(failures))

    async def _failure(self, task: TaskView, gate: str, run: str) -> Failure:
        view: GateRunView | None = self._ctx.cache.get(Key("GateRun", task.meta.namespace, run))
        if view is None:
            try:
                view = GateRunView.from_object(await self._ctx.kube.get("GateRun", task.meta.namespace, run))
            except NotFound:
                return Failure(gate)
        if view.meta.owner_uid != task.meta.uid:
            return Failure(gate)
        status = view.status
        said = {key: str(status.get(key) or "") for key in ("reason", "message")}
        return Failure(gate, said["reason"], said["message"], str(status.get("logTail") or ""))

    async def _look_for_pod(self, seen: Observed) -> Observed:
        meta = seen.task.meta
        name = names.pod_name(meta.name, seen.task.attempt)
        try:
            found = await self._ctx.kube.get("Pod", meta.namespace, name)
        except NotFound:
            return replace(seen, newest_pod_gone=True)
        view = PodView.from_object(found)
        if view.meta.owner_uid != meta.uid or view.attempt != seen.task.attempt:
            return replace(seen, foreign_pod=True)
        self._ctx.cache.offer("Pod", found)
        others = tuple(pod for pod in seen.pods if pod.meta.name != name)
        return replace(seen, pods=(*others, view))

    async def _look_at_refs(self, seen: Observed) -> FoundRefs:
        """Read the attempt's refs. A remote that can't be reached raises TransientError: the judgement waits."""
        repository = repository_of(seen.task, seen.build)
        url, secret = str(repository.get("url") or ""), str(repository.get("credentialsSecretName") or "")
        try:
            credentials = await git_credentials(self._ctx, seen.task.meta.namespace, secret, url)
        except PermanentError as error:
            return FoundRefs(problem=error.message)
        protocols = git_protocols(self._ctx.settings)
        return await self._git.call(
            find_refs, url, credentials, seen.task.meta.uid, seen.task.attempt, protocols=protocols
        )


def own_gates(name: str, limit: int, profile: ProfileView | None, namespace: str) -> OwnGates:
    """A profile as a task's own gates, with why it can't be that. Services and reviews decide about changes in the lane
    alone."""
    problem: Problem | None = None
    gates: tuple[Definition, ...] = ()
    if profile is None or profile.meta.deleting:
        text = f"GateProfile {name!r} (ownGates.profileName) does not exist: make it, or name another one"
        problem = Problem(reasons.PROFILE_MISSING, text)
    elif (allowed := profile.spec.get("allowedNamespaces") or ()) and namespace not in allowed:
        text = f"GateProfile {name!r} (ownGates.profileName) may not be used in this namespace (allowedNamespaces)"
        problem = Problem(reasons.NAMESPACE_NOT_ALLOWED, text)
    else:
        gates = tuple(gate for gate in profile.spec.get("gates") or () if not about_change(gate))
        if not gates:
            text = f"GateProfile {name!r} (ownGates.profileName) has only services and reviews, which the lane asks"
            problem = Problem(reasons.NO_GATE_TO_RUN, f"{text}: name another one")
    return OwnGates(name, limit, gates, problem)
