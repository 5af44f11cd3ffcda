"""What our containers and the operator tell each other. Standard library only: the runner image has no pydantic.

Each document carries `v`; a reader takes `WIRE_VERSION` and the one before, so that Pods outlive an upgrade.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

WIRE_VERSION = 1
TERMINATION_MESSAGE_BYTES = 4096
ENV_INPUT = "TIDEGATE_INPUT"
# Linux hands over no more than 128 KiB in one variable (MAX_ARG_STRLEN of execve(2)); a character has up to 4 bytes.
PIECE = 32_000


class WireError(ValueError):
    """The text is not a document of a version this reader knows."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object with a version; unknown fields are ignored, missing ones take their defaults."""

    def dumps(self) -> str:
        """The document as one line of JSON."""
        return json.dumps({"v": WIRE_VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=True)

    def variables(self) -> dict[str, str]:
        """The document as environment variables: `TIDEGATE_INPUT`, and where it is long `TIDEGATE_INPUT_1` and on."""
        text = json.dumps({"v": WIRE_VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=False)
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        return {f"{ENV_INPUT}_{number}" if number else ENV_INPUT: piece for number, piece in enumerate(pieces)}

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Self:
        """Read a document that was handed over as `variables`; raises WireError."""
        text, number = variables.get(ENV_INPUT, ""), 1
        while (piece := variables.get(f"{ENV_INPUT}_{number}")) is not None:
            text, number = text + piece, number + 1
        return cls.loads(text)

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read a document; raises WireError."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise WireError(f"not JSON: {error}") from None
        if not isinstance(raw, dict) or raw.get("v") not in (WIRE_VERSION, WIRE_VERSION - 1):
            raise WireError("not a document of a known version")
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{k: v for k, v in raw.items() if k in known})
        except TypeError as error:
            raise WireError(str(error)) from None


@dataclass(frozen=True, slots=True)
class AgentInput(Document):
    """Given to `workspace` and `publisher` in the environment."""

    url: str
    target_branch: str
    task_uid: str
    task: str
    attempt: int
    role: str = "Worker"
    prompt: str = ""
    engine: str = "Exec"  # Exec | Script | Planner | Reviewer
    command: list[str] = field(default_factory=list)  # of the engine, with its arguments
    timeout_seconds: int = 1800
    stop_seconds: int = 10
    publish_seconds: int = 110
    checkpoint_seconds: int = 60
    scope: list[str] = field(default_factory=list)
    acceptance: list[str] = field(default_factory=list)
    author_name: str = "Tidegate agent"
    author_email: str = "agent@tidegate.dev"
    agent_class: str = ""  # named in the attempt's commit
    subject: str = ""  # first line of the attempt's commit
    publish_branch: str = ""  # `refs/heads/...` where the build asks for ordinary branches, else empty
    max_files: int = 20_000
    max_bytes: int = 512 * 1024 * 1024
    gateway_url: str = ""
    allowed_protocols: str = "https:ssh"  # for GIT_ALLOW_PROTOCOL
    merge_ref: str = ""  # of a Fixer: where the change in conflict stands
    merge_commit: str = ""  # the change, merged into the base for the workspace, conflict markers left
    review_ref: str = ""  # of a review: where the change stands
    review_commit: str = ""  # the change: its files are the workspace
    review_bases: list[str] = field(default_factory=list)  # where it left the target branch

    @property
    def handoff_only(self) -> bool:
        """Whether the handoff is all that is asked for."""
        return self.role == "Planner" or bool(self.review_commit)


@dataclass(frozen=True, slots=True)
class WorkspaceReport(Document):
    """Termination message of the init container `workspace`."""

    base: str = ""  # commit that was checked out
    error: str = ""  # a reason of tidegate.api.reasons, empty when all went well
    message: str = ""


@dataclass(frozen=True, slots=True)
class PublisherReport(Document):
    """Termination message of the sidecar `publisher`: what became of the work. At most 4 KiB."""

    handoff_status: str = ""  # Complete | Partial | Blocked | Failed, as the agent says
    handoff_valid: bool = False
    handoff_made: bool = False  # True: the agent wrote none and the publisher made one
    summary: str = ""
    commit: str = ""  # the attempt's commit, empty when the diff is empty
    base: str = ""
    ref: str = ""  # where `commit` was pushed; only work below `refs/tidegate/tasks/` is whole, good and may be merged
    handoff_commit: str = ""
    files_changed: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    out_of_scope: list[str] = field(default_factory=list)  # shortened
    held_back: list[dict[str, Any]] = field(default_factory=list)  # {file, line, rule}: secrets; never the value
    refused: list[dict[str, Any]] = field(default_factory=list)  # {path, why}: names, symlinks, limits
    markers: list[dict[str, Any]] = field(default_factory=list)  # {file, line}: conflict markers that are left
    tokens_in: int = 0
    tokens_out: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    fenced: bool = False  # another Pod holds this or a higher attempt number
    error: str = ""  # a reason, when publishing itself failed
    message: str = ""


@dataclass(frozen=True, slots=True)
class GateInput(Document):
    """Given to the init container `checkout` of a gate Pod in the environment."""

    url: str
    commit: str
    fetch_ref: str  # the ref that holds the commit
    base: str = ""
    tree_only: bool = False  # files without `.git`
    full_history: bool = False
    timeout_seconds: int = 600
    allowed_protocols: str = "https:ssh"
    reports: list[str] = field(default_factory=list)  # paths that the gate is to write: not taken from the commit


@dataclass(frozen=True, slots=True)
class CheckoutReport(Document):
    """Termination message of `checkout`."""

    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JudgeInput(Document):
    """Given to the last container of a gate Pod in the environment: which of its reports to judge, and how."""

    coverage_paths: list[str] = field(default_factory=list)  # relative to the checkout
    coverage_format: str = ""  # empty: recognised by its content
    minimum_percent: str = "0"  # a decimal number
    test_paths: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class JudgeReport(Document):
    """Termination message of `judge`."""

    reason: str = ""  # of tidegate.api.reasons; empty when the gate passes
    message: str = ""
    percent: str = ""  # decimal, cut after two places; empty when coverage was not judged
    covered: int = 0
    total: int = 0
    enough_covered: bool = True
    has_tests: bool = False
    ran: int = 0
    skipped: int = 0
    failed: int = 0
