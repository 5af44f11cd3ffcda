"""MergeJob: one change on its way into a target branch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ATOMIC_LIST,
    REF_PATTERN,
    ApiModel,
    AuthoredRemote,
    Branch,
    Commit,
    LocalRef,
    ObjectName,
    Priority,
    ShortObjectName,
    Status,
    StatusCommit,
    Strategy,
    TaskRef,
    Time,
    immutable,
    map_list,
    rule,
    rules,
)


class Replaced(ApiModel):
    """A change that this one brings in its stead."""

    merge_job_name: ShortObjectName = Field(description="Name of the MergeJob that ended in conflict.")
    task_ref: TaskRef = Field(description="The AgentTask whose change it was.")


UserName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Approval(ApiModel):
    """A person's answer to a change of protected paths. It holds for this commit alone."""

    decision: Literal["Approved", "Denied"] = Field(description="Approved, or Denied to end the MergeJob.")
    source_commit: Commit = Field(description="The commit that was looked at: spec.sourceCommit.")
    lane_name: ShortObjectName = Field(description="Name of the MergeLane; the answer needs the verb land on it.")
    by: UserName = Field(description="Who answers: the user's name as the API server knows it.")
    reason: str = Field(default="", max_length=512, description="Why, for people.")


class Bypass(ApiModel):
    """A person's order to land the commit without its gates. It can't be changed or taken back: cancel the job."""

    source_commit: Commit = Field(description="The commit that was looked at: spec.sourceCommit.")
    lane_name: ShortObjectName = Field(description="Name of the MergeLane; this needs the verb bypass on it.")
    by: UserName = Field(description="Who orders it: the user's name as the API server knows it.")
    reason: str = Field(min_length=1, max_length=512, pattern=r"\S", description="Why, for people.")


_NEW = "make a new MergeJob"
_ALWAYS = ("repository", "sourceRef", "sourceCommit", "targetBranch", "strategy", "priority", "maxConflictRetries")
_SOMETIMES = ("taskRef", "buildRef", "replaces", "gateProfileName", "allowFewerTests")


class MergeJobSpec(ApiModel):
    """Which commit is to get into which branch, and how."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(immutable(field, _NEW, has=False) for field in _ALWAYS),
            *(immutable(field, _NEW) for field in _SOMETIMES),
            rule(
                "oldSelf.desiredState != 'Cancelled' || self.desiredState == 'Cancelled'",
                f"desiredState can't leave Cancelled: {_NEW}",
                fieldPath=".desiredState",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.approval) || self.approval.sourceCommit == self.sourceCommit",
                "approval.sourceCommit must be spec.sourceCommit: look at the commit that the job brings",
                fieldPath=".approval.sourceCommit",
            ),
            rule(
                "!has(self.bypass) || self.bypass.sourceCommit == self.sourceCommit",
                "bypass.sourceCommit must be spec.sourceCommit: look at the commit that the job brings",
                fieldPath=".bypass.sourceCommit",
            ),
            rule(
                "!has(oldSelf.bypass) || (has(self.bypass) && self.bypass == oldSelf.bypass)",
                "bypass can't be changed or taken back: set desiredState to Cancelled",
                fieldPath=".bypass",
                reason="FieldValueForbidden",
            ),
        )
    )

    task_ref: TaskRef | None = Field(default=None, description="The AgentTask that made the change.")
    build_ref: LocalRef | None = Field(default=None, description="The BuildRequest that it belongs to.")
    replaces: Replaced | None = Field(
        default=None, description="The change in conflict that a Fixer made anew: when this one lands, that one has."
    )
    repository: AuthoredRemote = Field(description="The repository of source and target.")
    source_ref: str = Field(
        min_length=6,
        max_length=256,
        pattern=REF_PATTERN,
        description="Full name of the ref that holds the source commit.",
    )
    source_commit: Commit = Field(description="The commit to land: 40 or 64 hexadecimal digits.")
    target_branch: Branch = Field(default="main", description="Branch to land in.")
    strategy: Strategy = Field(default="Rebase", description="Rebase, FastForward, MergeCommit or Squash.")
    gate_profile_name: ObjectName | None = Field(
        default=None, description="GateProfile whose gates are added to those of the lane."
    )
    priority: Priority = Field(default=5, description="1 is first, 10 is last.")
    max_conflict_retries: int = Field(
        default=2, ge=0, le=20, description="How often it is tried again in conflict, each time on another head."
    )
    allow_fewer_tests: bool | None = Field(
        default=None,
        description="Whether it may land with fewer tests than on its base, or more skipped: from the spec that a "
        "person wrote.",
    )
    desired_state: Literal["Run", "Cancelled"] = Field(
        default="Run", description="Run, or Cancelled to take it out of the queue; Cancelled is final."
    )
    approval: Approval | None = Field(
        default=None, description="A person's answer where the change touches protected paths."
    )
    bypass: Bypass | None = Field(
        default=None, description="A person's order to land the commit without its gates; the commit's trailers say so."
    )


class GateResult(ApiModel):
    """What a gate said of the candidate."""

    name: str = Field(max_length=63, description="Name of the gate.")
    run: str = Field(default="", max_length=253, description="Name of the GateRun.")
    verdict: str = Field(default="", max_length=32, description="Passed, Failed or Infra; empty while it runs.")
    flaked: bool = Field(default=False, description="Whether it failed first and then passed on the same commit.")
    reason: str = Field(default="", max_length=64, description="Why, in one CamelCase word.")
    message: str = Field(
        default="", max_length=512, description="Why, for people, with figures where the gate has any."
    )
    exit_code: int | None = Field(default=None, description="Exit code of the gate.")
    log_tail: str = Field(default="", max_length=2048, description="End of the output of a gate that failed.")


class Landing(ApiModel):
    """The intent to land: written before the push, decided by the ledger."""

    candidate: str = Field(max_length=64, description="The commit that becomes the head.")
    base: str = Field(max_length=64, description="The head that it replaces.")
    ledger: str = Field(max_length=64, description="The ledger's value before the push.")
    time: Time | None = Field(default=None, description="When the intent was written.")


class MergeJobStatus(Status):
    """How far the change is. Written by the operator alone."""

    state: str | None = Field(
        default=None, max_length=32, description="Queued, Gating, Landing, Merged, Failed or Cancelled."
    )
    lane: str | None = Field(default=None, max_length=253, description="Name of the MergeLane.")
    position: int | None = Field(default=None, ge=0, description="Place in the queue, 1 is next.")
    waiting_on: Annotated[
        list[Annotated[str, Field(max_length=253)]], Field(max_length=50, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="MergeJobs that it waits for.")
    waiting_on_total: int | None = Field(default=None, ge=0, description="How many it waits for, listed or not.")
    base_commit: StatusCommit | None = Field(default=None, description="Head that the candidate is built on.")
    candidate_commit: StatusCommit | None = Field(default=None, description="The commit that gates run on.")
    merged_commit: StatusCommit | None = Field(
        default=None, description="The commit of the target branch that holds it."
    )
    squashed: bool | None = Field(
        default=None, description="Whether a Rebase landed as one commit because a replay would give another tree."
    )
    gates: Annotated[list[GateResult], Field(max_length=32, json_schema_extra=map_list("name"))] = Field(
        default=[], description="The gates of the newest candidate."
    )
    conflict_files: Annotated[
        list[Annotated[str, Field(max_length=1024)]], Field(max_length=50, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="Files in conflict with the newest head.")
    conflict_files_total: int | None = Field(default=None, ge=0, description="How many are in conflict, listed or not.")
    conflict_heads: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=21, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="Heads that it was in conflict with.")
    protected_paths: Annotated[
        list[Annotated[str, Field(max_length=1024)]], Field(max_length=20, json_schema_extra=ATOMIC_LIST)
    ] = Field(default=[], description="Protected paths that the change touches and that wait for a person's answer.")
    protected_paths_total: int | None = Field(default=None, ge=0, description="How many do, listed or not.")
    attempts: int | None = Field(default=None, ge=0, description="Candidates formed.")
    infra_runs: int | None = Field(
        default=None,
        ge=0,
        description="How often the job went to the end of the queue because the cluster ended its gate runs.",
    )
    landing: Landing | None = Field(default=None, description="The intent to land, while it is undecided.")
    queued_time: Time | None = Field(default=None, description="When it came into the queue.")
    completion_time: Time | None = Field(default=None, description="When it merged, failed or was cancelled.")


class MergeJob(ApiModel):
    """One change on its way into a target branch."""

    spec: MergeJobSpec = Field(description="Which commit is to get into which branch, and how.")
    status: MergeJobStatus | None = Field(default=None, description="How far the change is.")
