"""The kinds as people meet them: names, scope, columns of `kubectl get`, fields to select by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidegate.api import reasons, v1alpha1
from tidegate.api.v1alpha1.common import ApiModel


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; `wide` ones only with `-o wide`."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    description: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind of the group."""

    model: type[ApiModel]
    plural: str
    short: str
    columns: tuple[Column, ...]
    namespaced: bool = True
    has_status: bool = True
    selectable: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind's name."""
        return self.model.__name__


def _condition(name: str, type_: str, *, field: str = "status", wide: bool = False) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="{type_}")].{field}', wide=wide)


AGE = Column("Age", ".metadata.creationTimestamp", "date")
SUCCEEDED = _condition("Succeeded", reasons.SUCCEEDED)
REASON = _condition("Reason", reasons.SUCCEEDED, field="reason")
MESSAGE = _condition("Message", reasons.SUCCEEDED, field="message", wide=True)

KINDS: tuple[KindInfo, ...] = (
    KindInfo(
        v1alpha1.BuildRequest,
        "buildrequests",
        "br",
        (
            SUCCEEDED,
            REASON,
            Column("Tasks", ".status.tasksSummary", description="Tasks that ended well, and all"),
            Column("Active", ".status.tasks.active", "integer", "Tasks with an attempt that has not ended"),
            Column("Merged", ".status.merges.merged", "integer", "Changes in the target branch"),
            Column("Unmerged", ".status.unmergedTotal", "integer", "Changes that are not in the target branch"),
            AGE,
            Column("Branch", ".spec.repository.targetBranch", wide=True),
            Column("Repository", ".spec.repository.url", wide=True),
            Column("Head", ".status.headCommit", wide=True),
            MESSAGE,
        ),
    ),
    KindInfo(
        v1alpha1.AgentTask,
        "agenttasks",
        "at",
        (
            Column("Build", ".spec.buildRef.name"),
            Column("Role", ".spec.role"),
            Column("State", ".status.state"),
            REASON,
            Column("Attempt", ".status.attempts[-1:].number", "integer", "Number of the newest attempt"),
            _condition("Merged", reasons.MERGED),
            AGE,
            Column("Priority", ".spec.priority", "integer", wide=True),
            Column("Class", ".spec.agentClassName", wide=True),
            Column("Pod", ".status.attempts[-1:].pod", wide=True),
            Column("Continuations", ".status.continuations", "integer", wide=True),
            Column("Commit", ".status.commit", wide=True),
            MESSAGE,
        ),
        selectable=(".spec.buildRef.name", ".spec.role", ".status.state"),
    ),
    KindInfo(
        v1alpha1.MergeJob,
        "mergejobs",
        "mj",
        (
            Column("Task", ".spec.taskRef.name"),
            Column("Branch", ".spec.targetBranch"),
            Column("Position", ".status.position", "integer", "Place in the queue, 1 is next"),
            Column("State", ".status.state"),
            SUCCEEDED,
            REASON,
            Column("Waiting-On", ".status.waitingOn[0]", description="First of the MergeJobs that it waits for"),
            AGE,
            Column("Lane", ".status.lane", wide=True),
            Column("Strategy", ".spec.strategy", wide=True),
            Column("Source", ".spec.sourceCommit", wide=True),
            Column("Candidate", ".status.candidateCommit", wide=True),
            Column("Merged-As", ".status.mergedCommit", wide=True),
            _condition("Approved", reasons.APPROVED, wide=True),
            _condition("Bypassed", reasons.BYPASSED, wide=True),
            MESSAGE,
        ),
        selectable=(".spec.buildRef.name", ".spec.taskRef.name", ".status.lane"),
    ),
    KindInfo(
        v1alpha1.MergeLane,
        "mergelanes",
        "ml",
        (
            Column("Branch", ".spec.targetBranch"),
            _condition("Ready", reasons.READY),
            _condition("Reason", reasons.READY, field="reason"),
            Column("Queued", ".status.depth", "integer", "Jobs that have not ended"),
            Column("Gating", ".status.counts.gating", "integer", "Jobs whose candidates gates run on"),
            Column("Landing-Next", ".status.candidateJob", description="The MergeJob of the first candidate"),
            _condition("Frozen", reasons.FROZEN),
            AGE,
            Column("Head", ".status.head", wide=True),
            Column("Repository", ".spec.repository.url", wide=True),
            Column("Required", ".spec.requiredGateProfileName", wide=True),
            Column("Window", ".status.window", "integer", "Candidates that may be gated at once now", wide=True),
            Column("Candidate", ".status.candidate", wide=True),
            _condition("Frozen-By", reasons.FROZEN, field="reason", wide=True),
            _condition("Message", reasons.READY, field="message", wide=True),
        ),
    ),
    KindInfo(
        v1alpha1.GateRun,
        "gateruns",
        "gr",
        (
            Column("Gate", ".spec.gate.name"),
            Column("Purpose", ".spec.purpose"),
            Column("Commit", ".spec.commit"),
            Column("Verdict", ".status.verdict"),
            Column("Reason", ".status.reason"),
            AGE,
            Column("Lane", ".spec.laneRef.name", wide=True),
            Column("Number", ".spec.number", "integer", wide=True),
            Column("Exit-Code", ".status.exitCode", "integer", wide=True),
            Column("Message", ".status.message", wide=True),
            Column("Pod", ".status.pod", wide=True),
        ),
        selectable=(".spec.laneRef.name", ".spec.commit", ".status.verdict"),
    ),
    KindInfo(
        v1alpha1.AgentClass,
        "agentclasses",
        "ac",
        (
            Column("Engine", ".spec.engine.protocol"),
            Column("Model", ".spec.model"),
            Column("Image", ".spec.image"),
            AGE,
            Column("Runtime-Class", ".spec.runtimeClassName", wide=True),
        ),
        namespaced=False,
        has_status=False,
    ),
    KindInfo(
        v1alpha1.GateProfile,
        "gateprofiles",
        "gp",
        (
            Column("First-Gate", ".spec.gates[0].name"),
            Column("Namespaces", ".spec.allowedNamespaces", description="Namespaces that may use it; all when empty"),
            AGE,
        ),
        namespaced=False,
        has_status=False,
    ),
)
