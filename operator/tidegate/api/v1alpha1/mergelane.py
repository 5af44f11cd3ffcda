"""MergeLane: the serial merge queue of one repository and branch: its policy and its state."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    SET_LIST,
    ApiModel,
    AuthoredRemote,
    Branch,
    ObjectName,
    ProtectedPath,
    ShortObjectName,
    Status,
    StatusCommit,
    Strategy,
    Time,
    immutable,
    rule,
    rules,
)

_NEW = "make a new MergeLane"
REF_PREFIX_RULE = rule(
    r"self.matches(r'^refs/(tidegate|heads/tidegate)(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$')"
    " && !self.contains('..') && !self.endsWith('.lock') && !self.endsWith('.')",
    "refPrefix must begin with refs/tidegate or refs/heads/tidegate and not end with /: for example refs/tidegate",
)


class MergeLaneSpec(ApiModel):
    """The policy of a lane."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.repository.url == oldSelf.repository.url",
                f"repository.url can't be changed: {_NEW}",
                fieldPath=".repository.url",
                reason="FieldValueForbidden",
            ),
            immutable("targetBranch", _NEW, has=False),
            immutable("refPrefix", _NEW, has=False),
        )
    )

    repository: AuthoredRemote = Field(description="The repository.")
    target_branch: Branch = Field(default="main", description="The branch that the lane lands in.")
    strategies: Annotated[list[Strategy], Field(min_length=1, max_length=4, json_schema_extra=SET_LIST)] = Field(
        default=["Rebase", "FastForward", "MergeCommit", "Squash"], description="Strategies that jobs may ask for."
    )
    required_gate_profile_name: ShortObjectName | None = Field(
        default=None, description="GateProfile that every candidate must pass, whatever its jobs choose."
    )
    window: int = Field(
        default=1,
        ge=1,
        le=32,
        description="Most candidates that are gated at once, each on top of the one before it; 1 gates one at a time. "
        "Where gateSlots hold fewer, up to four jobs share one. It shrinks to half for a while when a change fails.",
    )
    greenness: Literal["Head", "Commit"] = Field(
        default="Head",
        description="Head: every value that the branch takes passed the gates. Commit: each job's last commit too.",
    )
    protected_paths: Annotated[list[ProtectedPath], Field(max_length=64, json_schema_extra=SET_LIST)] = Field(
        default=[],
        description="Paths or globs that a change may not touch without a person's approval: agents' instructions, CI "
        "definitions, CODEOWNERS, .gitattributes, .gitmodules, gates' and scanners' configuration are so anyway.",
    )
    protected_paths_policy: Literal["Add", "Replace"] = Field(
        default="Add", description="Whether protectedPaths come beside the built-in ones, or instead of them."
    )
    gate_slots: int = Field(default=4, ge=1, le=100, description="Most gate Pods of the lane at once.")
    ref_prefix: str = Field(
        default="refs/tidegate",
        min_length=1,
        max_length=100,
        description="Begin of the lane's refs in the repository; refs/heads/tidegate where only branches are taken.",
        json_schema_extra=rules(REF_PREFIX_RULE),
    )
    signing_secret_name: ObjectName | None = Field(
        default=None,
        description="Secret of this namespace, of type kubernetes.io/ssh-auth and annotated with tidegate.dev/git-url, "
        "whose ed25519 or RSA key signs the commits that the lane makes; a FastForward lands the source as it is.",
    )
    frozen: bool = Field(default=False, description="Whether nothing may land. The queue stays.")


class LaneCounts(ApiModel):
    """The lane's jobs."""

    queued: int = Field(default=0, ge=0, description="Waiting.")
    gating: int = Field(default=0, ge=0, description="With a candidate that gates run on.")
    merged: int = Field(default=0, ge=0, description="Landed and still there as objects.")
    failed: int = Field(default=0, ge=0, description="Ended without landing.")


class MergeLaneStatus(Status):
    """The state of a lane. Written by the operator alone."""

    head: StatusCommit | None = Field(default=None, description="Head of the branch as last seen.")
    head_time: Time | None = Field(default=None, description="When the head was last asked for.")
    ledger: StatusCommit | None = Field(default=None, description="Value of the ledger as this operator last wrote it.")
    holder: str | None = Field(
        default=None, max_length=253, description="The operator process that has taken the lane."
    )
    gate_holder: str | None = Field(
        default=None, max_length=253, description="The operator process that alone may start gates in the lane."
    )
    lane_id: str | None = Field(default=None, max_length=64, description="Name of the lane in its refs.")
    window: int | None = Field(default=None, ge=0, description="Candidates that may be gated at once now.")
    probed_credentials: str | None = Field(
        default=None, max_length=320, description="The Secret's name and resourceVersion that the probe passed with."
    )
    signing_key: str | None = Field(
        default=None, max_length=2048, description="Public key that the lane signs with, for allowed signers."
    )
    landed_commit: StatusCommit | None = Field(default=None, description="The newest commit that the lane landed.")
    candidate: StatusCommit | None = Field(default=None, description="The candidate that gates run on.")
    candidate_job: str | None = Field(default=None, max_length=253, description="The MergeJob of that candidate.")
    counts: LaneCounts | None = Field(default=None, description="Jobs by state.")
    depth: int | None = Field(default=None, ge=0, description="Jobs that have not ended.")
    reforms: int | None = Field(
        default=None, ge=0, description="Candidates formed anew in a row because others moved the branch."
    )
    fruitless: int | None = Field(
        default=None, ge=0, description="Candidates gated since the last landing or ending; too many freeze the lane."
    )
    last_landing_time: Time | None = Field(default=None, description="When the lane last landed a change.")


class MergeLane(ApiModel):
    """The merge queue of one repository and branch."""

    spec: MergeLaneSpec = Field(description="The policy of the lane.")
    status: MergeLaneStatus | None = Field(default=None, description="The state of the lane.")
