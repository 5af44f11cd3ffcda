"""AgentTask: one prompt, one role, one or more attempts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ATOMIC_LIST,
    SET_LIST,
    AcceptanceLine,
    ApiModel,
    Commit,
    LocalRef,
    MergeBases,
    OwnGates,
    Priority,
    RefName,
    RelativePath,
    Repository,
    ReviewSize,
    ShortObjectName,
    Status,
    StatusCommit,
    TaskRef,
    TaskRole,
    Time,
    Until,
    Usage,
    immutable,
    map_list,
    rule,
    rules,
)


class Dependency(ApiModel):
    """A task of this namespace that must come first."""

    name: ShortObjectName = Field(description="Name of the AgentTask.")
    until: Until = Field(
        default="Merged", description="Merged: its change is in the target branch. Complete: its work is done."
    )


class Resolves(ApiModel):
    """A change in conflict with the target branch."""

    merge_job_name: ShortObjectName = Field(description="Name of the MergeJob that ended in conflict.")
    task_ref: TaskRef = Field(description="The AgentTask whose change it is.")
    source_ref: RefName = Field(description="Full name of the ref that holds the change.")
    source_commit: Commit = Field(description="The change: 40 or 64 hexadecimal digits.")


class Reviews(ApiModel):
    """A change to review. The task's only result is its handoff, with a verdict."""

    source_ref: RefName = Field(description="Full name of the ref that holds the change.")
    source_commit: Commit = Field(description="The change: 40 or 64 hexadecimal digits.")
    base_commits: MergeBases = Field(
        default=[], description="Where the commit left the target branch; its whole tree is the change when empty."
    )
    max_characters: ReviewSize = Field(
        default=60_000,
        description="Longest change, as a diff, that the model can read at once; a longer one is not approved.",
    )


_NEW = "make a new AgentTask"
_IMMUTABLE = (
    "buildRef",
    "repository",
    "prompt",
    "role",
    "scope",
    "acceptance",
    "dependsOn",
    "agentClassName",
    "timeoutSeconds",
    "gateProfileName",
    "ownGates",
    "retryLimit",
    "resolves",
    "reviews",
    "allowFewerTests",
)


class AgentTaskSpec(ApiModel):
    """What an agent is asked to do."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.buildRef) != has(self.repository)",
                "exactly one of buildRef (a task of a build) and repository (a task that stands alone) must be set",
                fieldPath=".buildRef",
            ),
            rule(
                "!has(self.retryLimit) || !has(self.buildRef)",
                "retryLimit is for tasks that stand alone: set workers.retry of the build",
                fieldPath=".retryLimit",
            ),
            rule(
                "!has(self.resolves) || (has(self.buildRef) && self.role == 'Fixer')",
                "resolves is for Fixers of a build: set role to Fixer and buildRef",
                fieldPath=".resolves",
            ),
            rule(
                "!has(self.reviews) || (has(self.repository) && self.role == 'Reviewer')",
                "reviews is for Reviewers that stand alone: set role to Reviewer and repository",
                fieldPath=".reviews",
            ),
            rule(
                "!has(self.allowFewerTests) || !has(self.buildRef)",
                "allowFewerTests is for tasks that stand alone: set merge.allowFewerTests of the build",
                fieldPath=".allowFewerTests",
            ),
            rule(
                "!has(self.ownGates) || (self.role != 'Planner' && !has(self.reviews))",
                "ownGates is for tasks that change files: leave it out for a Planner, or where reviews is set",
                fieldPath=".ownGates",
            ),
            *(immutable(field, _NEW, has=field not in ("prompt", "role")) for field in _IMMUTABLE),
            rule(
                "!has(oldSelf.desiredState) || oldSelf.desiredState != 'Cancelled' || self.desiredState == 'Cancelled'",
                f"desiredState can't leave Cancelled: {_NEW}",
                fieldPath=".desiredState",
                reason="FieldValueForbidden",
            ),
        )
    )

    build_ref: LocalRef | None = Field(default=None, description="The BuildRequest that the task belongs to.")
    repository: Repository | None = Field(default=None, description="The repository of a task that stands alone.")
    prompt: str = Field(pattern=r"\S", max_length=65_536, description="What the agent is asked to do.")
    role: TaskRole = Field(default="Worker", description="Planner, Worker, Tester, Fixer or Reviewer.")
    scope: Annotated[list[RelativePath], Field(max_length=100, json_schema_extra=SET_LIST)] = Field(
        default=[],
        description="Paths or globs, relative to the repository's root, that the task may touch; all when empty.",
    )
    acceptance: Annotated[list[AcceptanceLine], Field(max_length=50, json_schema_extra=ATOMIC_LIST)] = Field(
        default=[], description="When the task is done: statements, or paths of test files."
    )
    priority: Priority = Field(default=5, description="1 is first, 10 is last. Can be changed while the task waits.")
    depends_on: Annotated[list[Dependency], Field(max_length=64, json_schema_extra=map_list("name"))] = Field(
        default=[], description="Tasks that must come first."
    )
    agent_class_name: ShortObjectName | None = Field(
        default=None, description="AgentClass that runs the task; the build's, or the operator's default, otherwise."
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=604_800,
        description="Longest time of one attempt's agent; the build's, or 1800, otherwise.",
    )
    gate_profile_name: ShortObjectName | None = Field(
        default=None,
        description="GateProfile for the task's change; the build's, or the operator's default, otherwise.",
    )
    own_gates: OwnGates | None = Field(
        default=None,
        description="Gates to pass before the task is complete; workers.ownGates of the build, or none, otherwise.",
    )
    desired_state: Literal["Run", "Cancelled"] = Field(
        default="Run", description="Run, or Cancelled to end the task; Cancelled is final."
    )
    retry_limit: int | None = Field(
        default=None, ge=0, le=9, description="Further attempts of a task that stands alone; 2 when absent."
    )
    resolves: Resolves | None = Field(
        default=None,
        description="The change to make anew: the workspace is the target's head with it merged in, conflict markers "
        "left; a result that holds any is not taken.",
    )
    reviews: Reviews | None = Field(
        default=None,
        description="The change to review: the workspace is its files, and nothing but the handoff is taken.",
    )
    allow_fewer_tests: bool | None = Field(
        default=None,
        description="Whether the change of a task that stands alone may land with fewer tests than on its base, or "
        "more skipped, where gates count tests.",
    )


class Attempt(ApiModel):
    """One Pod run of the task."""

    number: int = Field(ge=1, description="1 is the first.")
    pod: str = Field(default="", max_length=253, description="Name of the Pod.")
    pod_uid: str = Field(default="", max_length=64, alias="podUID", description="UID of the Pod.")
    agent_class: str = Field(default="", max_length=253, alias="class", description="AgentClass that it ran with.")
    class_generation: int | None = Field(default=None, ge=0, description="Generation of the AgentClass.")
    image_id: str = Field(default="", max_length=512, alias="imageID", description="The agent's image as it was run.")
    start_time: Time | None = Field(default=None, description="When it was assigned.")
    end_time: Time | None = Field(default=None, description="When it was judged; absent while it is open.")
    reason: str = Field(default="", max_length=64, description="How it ended, in one CamelCase word.")
    message: str = Field(default="", max_length=1024, description="How it ended, for people.")
    outcome: str = Field(
        default="", max_length=64, description="Complete, Partial, Blocked, Failed, Cancelled or Lost."
    )
    infrastructure: bool = Field(
        default=False, description="Whether the cluster ended it; it doesn't count as the task's failure then."
    )
    exit_code: int | None = Field(default=None, description="Exit code of the agent container.")
    base: str = Field(default="", max_length=64, description="Commit that it started from.")
    commit: str = Field(default="", max_length=64, description="Commit with its work.")
    ref: str = Field(default="", max_length=256, description="Ref on the remote that holds its work.")
    handoff_commit: str = Field(default="", max_length=64, description="Commit with the whole handoff and the log.")
    usage: Usage | None = Field(default=None, description="What it spent.")
    files_changed: int | None = Field(default=None, ge=0, description="Files in its diff.")
    lines_added: int | None = Field(default=None, ge=0, description="Lines added by its diff.")
    lines_removed: int | None = Field(default=None, ge=0, description="Lines removed by its diff.")
    summary: str = Field(default="", max_length=1024, description="What the agent says it did.")


class OwnGateResult(ApiModel):
    """One of the task's own gates."""

    name: str = Field(max_length=63, description="Name of the gate.")
    run: str = Field(default="", max_length=63, description="Name of its newest GateRun.")
    verdict: str = Field(
        default="", max_length=32, description="Passed, Failed, or Infra if the cluster ended it; empty while it runs."
    )


class OwnGatesStatus(ApiModel):
    """The task's own gates on the newest attempt that ended well."""

    attempt: int = Field(ge=1, description="Number of the attempt.")
    commit: StatusCommit = Field(description="Its commit: what the gates run on, and what a continuation starts from.")
    profile_name: str = Field(default="", max_length=63, description="The GateProfile.")
    verdict: str | None = Field(
        default=None, max_length=32, description="Passed, Failed, or Infra when the cluster ended them too often."
    )
    gates: Annotated[list[OwnGateResult], Field(max_length=32, json_schema_extra=map_list("name"))] = Field(
        default=[], description="The gates."
    )


class HandoffSummary(ApiModel):
    """The shortened handoff of the newest judged attempt. The whole one is in git."""

    status: str = Field(
        default="", max_length=64, description="Complete, Partial, Blocked or Failed, as the agent says."
    )
    summary: str = Field(default="", max_length=2048, description="What the agent says it did.")
    concerns: Annotated[
        list[Annotated[str, Field(max_length=512)]], Field(max_length=10, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="What the agent says to look at.")


class AgentTaskStatus(Status):
    """What became of the task so far. Written by the operator alone."""

    state: str = Field(
        default="",
        max_length=32,
        description="Pending, Assigned, Running, Gating, Complete, Partial, Blocked, Failed or Cancelled. A short "
        "attempt, or one of very many that start at once, may end without having been called Running.",
    )
    base_commit: StatusCommit | None = Field(default=None, description="Commit that the newest attempt started from.")
    commit: StatusCommit | None = Field(default=None, description="Commit with the result.")
    merged_commit: StatusCommit | None = Field(default=None, description="Commit of the target branch that holds it.")
    ref: str | None = Field(default=None, max_length=256, description="Ref on the remote that holds the newest work.")
    merge_job: str | None = Field(default=None, max_length=253, description="Name of the MergeJob for the result.")
    attempts: Annotated[list[Attempt], Field(max_length=10, json_schema_extra=map_list("number"))] = Field(
        default=[], description="The newest attempts."
    )
    attempts_total: int | None = Field(default=None, ge=0, description="How many attempts there were, listed or not.")
    failed_attempts: int | None = Field(
        default=None, ge=0, description="Attempts that failed by the task's own doing: they count against retry.limit."
    )
    infrastructure_failures: int | None = Field(
        default=None, ge=0, description="Attempts that the cluster ended: they have a limit of their own, 6."
    )
    own_gates: OwnGatesStatus | None = Field(
        default=None, description="What became of the gates that the task must pass before it is complete."
    )
    continuations: int | None = Field(
        default=None, ge=0, description="How often the agent was sent on because of its own gates."
    )
    next_attempt_time: Time | None = Field(default=None, description="Not before this does the next attempt start.")
    handoff: HandoffSummary | None = Field(default=None, description="The agent's handoff, shortened.")
    usage: Usage | None = Field(default=None, description="What all attempts spent.")
    start_time: Time | None = Field(default=None, description="When the first attempt was assigned.")
    completion_time: Time | None = Field(default=None, description="When the task came to its terminal state.")


class AgentTask(ApiModel):
    """One unit of agent work: of a build, or alone."""

    spec: AgentTaskSpec = Field(description="What an agent is asked to do.")
    status: AgentTaskStatus | None = Field(default=None, description="What became of the task so far.")
