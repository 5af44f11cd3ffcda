"""GateRun: one gate on one commit: the evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from .common import REF_PATTERN, ApiModel, Commit, LocalRef, MergeBases, Remote, Status, Time, rule, rules
from .gateprofile import Gate


class Change(ApiModel):
    """The change that a commit brings, wherever it is based."""

    patch_id: str = Field(
        pattern=r"^[0-9a-f]{40}$",
        max_length=40,
        description="Stands for lines, paths and modes of the change: the evidence holds for every commit that brings "
        "the same.",
    )
    base_commits: MergeBases = Field(
        default=[], description="Where the commit left the target branch; its whole tree is the change when empty."
    )


class GateRunSpec(ApiModel):
    """Which gate is run on which commit."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self == oldSelf", "spec can't be changed: make a new GateRun", reason="FieldValueForbidden"),
            rule(
                "has(self.gate.review) == has(self.change)",
                "change is for gates with review, which need it: it says what is reviewed",
                fieldPath=".change",
            ),
        )
    )

    repository: Remote = Field(description="The repository that holds the commit.")
    lane_ref: LocalRef | None = Field(default=None, description="The MergeLane that the run belongs to.")
    commit: Commit = Field(description="The commit that is checked: 40 or 64 hexadecimal digits.")
    base_commit: Commit | None = Field(default=None, description="The head that the commit is built on.")
    tree: Commit | None = Field(
        default=None, description="The commit's tree; evidence of gates with input Tree holds for it."
    )
    fetch_ref: str = Field(
        min_length=6, max_length=256, pattern=REF_PATTERN, description="Full name of a ref that contains the commit."
    )
    job_ref: LocalRef | None = Field(default=None, description="The MergeJob that the candidate adds to its base.")
    changed_paths: int | None = Field(
        default=None, ge=0, description="Paths in which commit and base differ, for gates that are services."
    )
    purpose: Literal["Candidate", "Sweep", "Task"] = Field(
        default="Candidate",
        description="Candidate: evidence for the lane. Sweep: a check of the head, outside the queue. Task: one of a "
        "task's own gates, before it is complete.",
    )
    change: Change | None = Field(default=None, description="What a gate with review reviews.")
    number: int = Field(default=1, ge=1, description="Counts the runs of the same gate on the same commit.")
    gate: Gate = Field(description="The gate as it was when the run was made.")


class CoverageFigures(ApiModel):
    """How much of the code the gate's tests ran, as its reports say."""

    percent: str = Field(max_length=8, description="Share in percent, cut after two decimals.")
    covered: int = Field(default=0, ge=0, description="Lines that ran; 0 where the report gives only a rate.")
    total: int = Field(default=0, ge=0, description="Lines in all; 0 where the report gives only a rate.")


class TestFigures(ApiModel):
    """How many tests the gate ran, as its reports say."""

    ran: int = Field(ge=0, description="Tests that ran.")
    skipped: int = Field(ge=0, description="Tests that were skipped instead.")
    failed: int = Field(default=0, ge=0, description="Those of them that ran and failed.")


class GateRunStatus(Status):
    """What came out. Written by the operator alone."""

    verdict: str | None = Field(
        default=None, max_length=32, description="Passed, Failed, or Infra when the cluster ended the run."
    )
    reason: str | None = Field(default=None, max_length=64, description="Why, in one CamelCase word.")
    message: str | None = Field(default=None, max_length=1024, description="Why, for people.")
    start_time: Time | None = Field(default=None, description="When the Pod was created.")
    end_time: Time | None = Field(default=None, description="When the verdict was given.")
    exit_code: int | None = Field(
        default=None, description="Exit code of the gate; 1 when it passed and its reports failed it."
    )
    coverage: CoverageFigures | None = Field(default=None, description="Coverage, where the gate has it judged.")
    tests: TestFigures | None = Field(default=None, description="Number of tests, where the gate has it judged.")
    log_tail: str | None = Field(default=None, max_length=2048, description="End of the gate's output.")
    pod: str | None = Field(default=None, max_length=253, description="Name of the Pod.")
    pod_uid: str | None = Field(default=None, max_length=64, alias="podUID", description="UID of the Pod.")
    image_id: str | None = Field(
        default=None, max_length=512, alias="imageID", description="The gate's image as it was run."
    )


class GateRun(ApiModel):
    """One gate on one commit."""

    spec: GateRunSpec = Field(description="Which gate is run on which commit.")
    status: GateRunStatus | None = Field(default=None, description="What came out.")
