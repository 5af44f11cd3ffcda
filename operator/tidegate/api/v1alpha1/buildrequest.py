"""BuildRequest: a request in plain language, a repository, and the limits of the work on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ATOMIC_LIST,
    SET_LIST,
    AcceptanceLine,
    ApiModel,
    LabelName,
    ObjectName,
    OwnGates,
    Priority,
    RelativePath,
    Repository,
    Resources,
    ShortObjectName,
    Status,
    StatusCommit,
    Strategy,
    Time,
    Usage,
    immutable,
    map_list,
    rule,
    rules,
)

MAX_TASKS = 200
MAX_PLAN_TEXT = 96 * 1024


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap of this namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: str = Field(
        pattern=r"^[-._a-zA-Z0-9]+$",
        min_length=1,
        max_length=253,
        description="Key in its data; at most 32 KiB of text.",
    )


class RequestSource(ApiModel):
    """Where the request's text comes from."""

    config_map_key_ref: ConfigMapKey = Field(description="A key of a ConfigMap of this namespace.")


class PlannedTask(ApiModel):
    """A task of a static plan."""

    name: LabelName = Field(description="Name of the task, unique in the plan.")
    prompt: str = Field(min_length=1, max_length=4096, description="What the agent is asked to do.")
    role: Literal["Worker", "Tester"] = Field(default="Worker", description="Worker or Tester.")
    scope: Annotated[list[RelativePath], Field(max_length=32, json_schema_extra=SET_LIST)] = Field(
        default=[], description="Paths or globs that the task may touch; all when empty."
    )
    acceptance: Annotated[list[AcceptanceLine], Field(max_length=16, json_schema_extra=ATOMIC_LIST)] = Field(
        default=[], description="When the task is done: statements, or paths of test files."
    )
    priority: Priority = Field(default=5, description="1 is first, 10 is last.")
    depends_on: Annotated[list[LabelName], Field(max_length=16, json_schema_extra=SET_LIST)] = Field(
        default=[], description="Tasks earlier in the list that must have merged before this one starts."
    )
    agent_class_name: ShortObjectName | None = Field(
        default=None, description="AgentClass that runs the task; workers.agentClassName otherwise."
    )


_TEXT = (
    "self.tasks.map(t, size(t.prompt) + (has(t.scope) ? t.scope.map(s, size(s)).sum() : 0)"
    " + (has(t.acceptance) ? t.acceptance.map(a, size(a)).sum() : 0)"
    " + (has(t.dependsOn) ? t.dependsOn.map(d, size(d)).sum() : 0)).sum()"
)


class Planning(ApiModel):
    """How the request becomes tasks: a static list, or by an agent."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.tasks) || size(self.tasks) == 0 || !has(self.agentClassName)",
                "planning.agentClassName has no effect beside planning.tasks: leave one of the two out",
                fieldPath=".agentClassName",
            ),
            rule(
                "!has(self.tasks) || self.tasks.all(i, t, !has(t.dependsOn) || "
                "self.tasks.all(j, e, j < i || !(e.name in t.dependsOn)))",
                "planning.tasks: dependsOn may name only tasks earlier in the list: move the task behind them",
                fieldPath=".tasks",
            ),
            rule(
                "!has(self.tasks) || self.tasks.all(t, !has(t.dependsOn) || "
                "self.tasks.filter(e, e.name in t.dependsOn).size() == t.dependsOn.size())",
                "planning.tasks: dependsOn names a task that is not in the list: correct the name or add the task",
                fieldPath=".tasks",
            ),
            rule(
                f"!has(self.tasks) || {_TEXT} <= {MAX_PLAN_TEXT}",
                f"planning.tasks: prompt, scope, acceptance and dependsOn of all tasks together may have "
                f"{MAX_PLAN_TEXT} characters: put longer texts into files of the repository and name those",
                fieldPath=".tasks",
            ),
        )
    )

    tasks: Annotated[list[PlannedTask], Field(max_length=MAX_TASKS, json_schema_extra=map_list("name"))] | None = Field(
        default=None, description="A static plan, in an order in which each task comes after those it depends on."
    )
    agent_class_name: ShortObjectName | None = Field(
        default=None, description="AgentClass of the planner; the operator's default otherwise."
    )
    max_iterations: int = Field(default=100, ge=1, le=1000, description="How often a plan may be asked for.")
    replan_after_handoffs: int = Field(
        default=3, ge=1, le=1000, description="Plan again after so many new handoffs, or when nothing is active."
    )
    max_tasks: int = Field(default=500, ge=1, le=10_000, description="How many tasks plans may make in all.")


class Retry(ApiModel):
    """What happens when an attempt fails by its own doing."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.maxBackoffSeconds) || !has(self.backoffSeconds)"
                " || self.maxBackoffSeconds >= self.backoffSeconds",
                "retry.maxBackoffSeconds must be at least retry.backoffSeconds: raise it or lower the other",
                fieldPath=".maxBackoffSeconds",
            )
        )
    )

    limit: int = Field(default=2, ge=0, le=9, description="Further attempts after the first.")
    backoff_seconds: int = Field(
        default=10, ge=0, le=86_400, description="Wait before the second attempt; doubles with each further one."
    )
    max_backoff_seconds: int = Field(default=300, ge=0, le=86_400, description="Longest wait between two attempts.")


class Workers(ApiModel):
    """How tasks are run."""

    agent_class_name: ShortObjectName | None = Field(
        default=None, description="AgentClass of tasks that name none; the operator's default otherwise."
    )
    max_parallel: int = Field(default=50, ge=1, le=1000, description="Most Pods of the build at any instant.")
    timeout_seconds: int = Field(default=1800, ge=1, le=604_800, description="Longest time of one attempt's agent.")
    start_timeout_seconds: int = Field(
        default=600, ge=1, le=86_400, description="Longest time from a Pod's creation to the agent's start."
    )
    retry: Retry = Field(default=Retry(), description="Automatic retries.")
    resources: Resources | None = Field(
        default=None, description="Requests and limits of the agent container; the AgentClass's otherwise."
    )
    own_gates: OwnGates | None = Field(
        default=None,
        description="Gates that tasks which change files must pass before they are complete, where they name none "
        "themselves; none when absent.",
    )


class Merge(ApiModel):
    """How changes get into the target branch."""

    strategy: Strategy = Field(default="Rebase", description="Rebase, FastForward, MergeCommit or Squash.")
    gate_profile_name: ShortObjectName | None = Field(
        default=None,
        description="GateProfile whose gates are added to those of the lane; the operator's default otherwise.",
    )
    max_conflict_retries: int = Field(
        default=2, ge=0, le=20, description="How often a change in conflict is tried again, each time on another head."
    )
    max_conflict_fix_tasks: int = Field(
        default=30,
        ge=0,
        le=1000,
        description="Most Fixer tasks for changes that stay in conflict, one each, over the whole build.",
    )
    allow_fewer_tests: bool = Field(
        default=False,
        description="Whether changes may land with fewer tests than on their base, or more skipped, where gates count "
        "tests.",
    )


class Sweep(ApiModel):
    """The gates run on the head of the target branch, outside the queue."""

    interval_seconds: int = Field(default=300, ge=1, le=86_400, description="Time between two sweeps while green.")
    error_interval_seconds: int = Field(
        default=60, ge=1, le=86_400, description="Time between two sweeps after a red one."
    )
    green_sweeps_to_relax: int = Field(
        default=3, ge=1, le=1000, description="Green sweeps in a row that bring back intervalSeconds."
    )
    max_fix_tasks: int = Field(
        default=5,
        ge=0,
        le=100,
        description="Most Fixer tasks of one sweep; over all sweeps that many for each of finalization.maxAttempts.",
    )


class Finalization(ApiModel):
    """The end of the build: drain the lane, retry what is unmerged, sweep, verdict."""

    enabled: bool = Field(default=True, description="Whether the build is finalized before its verdict.")
    max_attempts: int = Field(default=3, ge=1, le=20, description="Rounds of drain, retry and sweep.")
    sweep_timeout_seconds: int = Field(default=120, ge=1, le=86_400, description="Longest wait for a round's sweep.")


_NEW = "make a new BuildRequest"
_FIXED_OF_WORKERS = ("agentClassName", "timeoutSeconds", "startTimeoutSeconds", "retry", "resources", "ownGates")


class BuildRequestSpec(ApiModel):
    """What is to be built, where, and within which limits."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.request) != has(self.requestFrom)",
                "exactly one of request and requestFrom must be set",
                fieldPath=".request",
            ),
            immutable("request", _NEW),
            immutable("requestFrom", _NEW),
            immutable("repository", _NEW, has=False),
            immutable("planning", _NEW),
            immutable("merge", _NEW),
            rule(
                "has(self.workers) == has(oldSelf.workers) && (!has(self.workers) || ("
                + " && ".join(
                    f"has(self.workers.{f}) == has(oldSelf.workers.{f}) && "
                    f"(!has(self.workers.{f}) || self.workers.{f} == oldSelf.workers.{f})"
                    for f in _FIXED_OF_WORKERS
                )
                + "))",
                f"workers can't be changed but for workers.maxParallel: {_NEW}",
                fieldPath=".workers",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(oldSelf.desiredState) || oldSelf.desiredState != 'Cancelled' || self.desiredState == 'Cancelled'",
                f"desiredState can't leave Cancelled: {_NEW}",
                fieldPath=".desiredState",
                reason="FieldValueForbidden",
            ),
        )
    )

    request: str | None = Field(
        default=None, pattern=r"\S", max_length=32_768, description="What to build, in plain language."
    )
    request_from: RequestSource | None = Field(
        default=None, description="Where the request's text is, instead of request."
    )
    repository: Repository = Field(description="The repository and the branch to build in.")
    planning: Planning = Field(default=Planning(), description="How the request becomes tasks.")
    workers: Workers = Field(default=Workers(), description="How tasks are run.")
    merge: Merge = Field(default=Merge(), description="How changes get into the target branch.")
    sweep: Sweep = Field(default=Sweep(), description="Checks of the target branch while the build is active.")
    finalization: Finalization = Field(default=Finalization(), description="How the build ends.")
    desired_state: Literal["Active", "Cancelled"] = Field(
        default="Active", description="Active, or Cancelled to end the build; Cancelled is final."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=315_360_000,
        description="Time after the end at which tasks, jobs and Pods are removed; kept when absent.",
    )
    delete_after_finished: bool = Field(
        default=False, description="Whether the BuildRequest goes too when the time of ttlSecondsAfterFinished is over."
    )


class TaskCounts(ApiModel):
    """The build's tasks by state."""

    total: int = Field(default=0, ge=0, description="All tasks.")
    pending: int = Field(default=0, ge=0, description="Not started, or between two attempts.")
    active: int = Field(default=0, ge=0, description="With an attempt that has not ended, or whose own gates have not.")
    complete: int = Field(default=0, ge=0, description="Ended well.")
    partial: int = Field(default=0, ge=0, description="Ended with part of the work.")
    blocked: int = Field(default=0, ge=0, description="Ended because the agent could not go on.")
    failed: int = Field(default=0, ge=0, description="Ended after the last attempt failed.")
    cancelled: int = Field(default=0, ge=0, description="Ended by a cancel.")


class MergeCounts(ApiModel):
    """The build's changes on their way into the target branch."""

    queued: int = Field(default=0, ge=0, description="Waiting, gating or landing.")
    merged: int = Field(default=0, ge=0, description="In the target branch.")
    failed: int = Field(default=0, ge=0, description="Ended without landing.")


class Unmerged(ApiModel):
    """A change that did not get into the target branch."""

    task: str = Field(max_length=63, description="Name of the task.")
    ref: str = Field(default="", max_length=256, description="Ref on the remote that holds the work.")
    reason: str = Field(default="", max_length=64, description="Why, in one CamelCase word.")
    message: str = Field(default="", max_length=256, description="Why, for people.")


class LastSweep(ApiModel):
    """The newest sweep that ended."""

    time: Time = Field(description="When it ended.")
    commit: StatusCommit = Field(description="The commit that it checked.")
    green: bool = Field(description="Whether every gate passed.")
    failed: Annotated[
        list[Annotated[str, Field(max_length=63)]], Field(max_length=32, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="Names of the gates that failed.")
    red_time: Time | None = Field(default=None, description="When a sweep was last red.")


class FinalizationStatus(ApiModel):
    """How far finalization is."""

    attempts: int = Field(default=0, ge=0, description="Rounds begun.")
    passed: bool = Field(default=False, description="Whether everything merged and the head is green.")
    reason: str = Field(default="", max_length=64, description="The verdict in one CamelCase word.")
    message: str = Field(default="", max_length=1024, description="The verdict for people.")
    sweep: int = Field(default=0, ge=0, description="Number of the sweep that the round was judged by.")
    sweep_start_time: Time | None = Field(default=None, description="When the round began to wait for its sweep.")


class PlanningStatus(ApiModel):
    """How far planning is."""

    handoffs: int = Field(default=0, ge=0, description="Ended tasks when the newest plan was applied.")
    complete: bool = Field(default=False, description="Whether no further plan will be asked for.")


class BuildRequestStatus(Status):
    """What became of the request so far. Written by the operator alone."""

    tasks: TaskCounts = Field(default=TaskCounts(), description="Tasks by state.")
    tasks_summary: str = Field(default="", max_length=32, description="Complete and all tasks, for people: 3/7.")
    merges: MergeCounts = Field(default=MergeCounts(), description="Changes by what became of them.")
    slots: Annotated[
        list[Annotated[str, Field(max_length=63)]], Field(max_length=1000, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="Names of the tasks that hold a slot.")
    iteration: int = Field(default=0, ge=0, description="Plans applied.")
    planning: PlanningStatus | None = Field(default=None, description="How far planning is.")
    head_commit: StatusCommit | None = Field(default=None, description="Head of the target branch as last seen.")
    unmerged: Annotated[list[Unmerged], Field(max_length=100, json_schema_extra=map_list("task"))] = Field(
        default=[], description="Changes that are not in the target branch."
    )
    unmerged_total: int = Field(default=0, ge=0, description="How many changes are unmerged, listed or not.")
    usage: Usage | None = Field(default=None, description="What the build's tasks spent.")
    last_sweep: LastSweep | None = Field(default=None, description="The newest sweep that ended.")
    sweeps: int = Field(default=0, ge=0, description="Sweeps that ended, those without a result included.")
    green_sweeps: int = Field(default=0, ge=0, description="Green sweeps in a row.")
    finalization: FinalizationStatus | None = Field(default=None, description="How far finalization is.")
    start_time: Time | None = Field(default=None, description="When the operator first saw the build.")
    completion_time: Time | None = Field(default=None, description="When the verdict was given.")


class BuildRequest(ApiModel):
    """A request in plain language that becomes merged commits in a repository."""

    spec: BuildRequestSpec = Field(description="What is to be built, where, and within which limits.")
    status: BuildRequestStatus | None = Field(default=None, description="What became of the request so far.")
