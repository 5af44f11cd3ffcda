"""GateProfile: an ordered list of gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ATOMIC_LIST,
    SET_LIST,
    ApiModel,
    Command,
    EgressList,
    EnvVar,
    ImageName,
    LabelName,
    NamespaceList,
    ObjectName,
    Resources,
    ReviewSize,
    ShortObjectName,
    map_list,
    rule,
    rules,
    text_size,
)

MAX_GATES_TEXT = 32 * 1024

Percent = Annotated[
    str | int,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)$",
            "maxLength": 8,
            **rules(
                rule(
                    "type(self) == int ? self >= 0 && self <= 100 : true",
                    "must be a percentage from 0 to 100: a whole number, or a decimal one in quotes such as '84.5'",
                )
            ),
        }
    ),
]
ReportPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra=rules(
            rule(
                r"!self.startsWith('/') && !self.endsWith('/') && "
                r"!self.matches(r'(^|/)\.{0,2}(/|$)|(^|/)\.git(/|$)|[\x00-\x1f\x7f\\*?]')",
                "paths are of files, relative to the checkout: no leading /, no . or .., no .git, no pattern",
            )
        ),
    ),
]
ReportPaths = Annotated[list[ReportPath], Field(min_length=1, max_length=4, json_schema_extra=SET_LIST)]


class Coverage(ApiModel):
    """How much of the code the gate's tests must run, by reports that the gate writes into the checkout."""

    minimum_percent: Percent = Field(
        description="Least share of lines, in percent: 85, or '84.5' for a decimal number. Compared exactly."
    )
    paths: ReportPaths = Field(
        description="The reports, relative to the checkout; several are added up. What the commit has there is "
        "removed before the gate runs."
    )
    format: Literal["Cobertura", "CoveragePy", "Lcov", "Go"] | None = Field(
        default=None,
        description="Cobertura (XML), CoveragePy (JSON of coverage.py), Lcov, or Go (cover profile); recognised by "
        "the content when absent.",
    )


class TestReports(ApiModel):
    """The gate's own count of its tests, as JUnit XML that it writes into the checkout. None at all fails the gate."""

    paths: ReportPaths = Field(
        description="The reports, relative to the checkout; several are added up. What the commit has there is "
        "removed before the gate runs."
    )


class TokenSource(ApiModel):
    """A key of a Secret in the operator's namespace, one of those that the chart lists in gates.tokenSecrets."""

    secret_name: ObjectName = Field(description="Name of the Secret.")
    key: str = Field(
        default="token", pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253, description="Key in its data."
    )


class GateService(ApiModel):
    """A service that is asked, by an HTTP POST with facts about the candidate as JSON. It answers 2xx and
    {"approved": true} or {"approved": false, "message": ...}; nothing else approves."""

    url: str = Field(
        pattern=r"^https?://[A-Za-z0-9\[][^/@\s?#\\]*(/[^\s?#\\]*)?$",
        min_length=1,
        max_length=512,
        description="http:// or https:// URL, without a user part and a query. Redirects are not followed.",
    )
    timeout_seconds: int = Field(
        default=30, ge=1, le=300, description="Longest wait for one answer; there are three tries."
    )
    token: TokenSource | None = Field(default=None, description="Sent as a bearer token; none otherwise.")


class Review(ApiModel):
    """A review of the change by a model, before the change has a candidate: asked once for each change."""

    agent_class_name: ShortObjectName = Field(description="AgentClass with engine.protocol Reviewer.")
    instructions: str = Field(
        default="", max_length=1024, description="What to look at besides what every review looks at, for the model."
    )
    max_characters: ReviewSize = Field(
        default=60_000,
        description="Longest change, as a diff, that the model can read at once; a longer one is not approved.",
    )


def _gate_text(gate: str) -> str:
    """CEL: the characters in a gate's lists, all together."""
    paths = (f"(has({gate}.{part}) ? {text_size(f'{gate}.{part}', 'paths')} : 0)" for part in ("coverage", "tests"))
    return " + ".join((text_size(gate, "command", "env"), *paths))


class Gate(ApiModel):
    """One check on a commit: by a command in a Pod, whose exit code and reports are the verdict, by a service, or by
    a reviewing agent."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"{_gate_text('self')} <= {MAX_GATES_TEXT}",
                f"command, env and paths of a gate may have {MAX_GATES_TEXT} characters together: put longer texts "
                "into the image or the repository",
                fieldPath=".command",
            ),
            rule(
                "has(self.http) || has(self.review) ? !has(self.image) && !has(self.command) && has(self.http) != "
                "has(self.review) : has(self.image) && has(self.command)",
                "a gate has either image and command, or http, or review: set one of the three",
                fieldPath=".image",
            ),
            rule(
                "!has(self.review) || !(has(self.env) || has(self.resources) || has(self.egress) || has(self.coverage)"
                " || has(self.tests))",
                "a gate with review has an agent's Pod: leave out env, resources, egress, coverage and tests, and look "
                "at its AgentClass",
                fieldPath=".review",
            ),
            rule(
                "!has(self.http) || !(has(self.env) || has(self.resources) || has(self.egress) || has(self.coverage)"
                " || has(self.tests))",
                "a gate with http has no Pod: leave out env, resources, egress, coverage and tests",
                fieldPath=".http",
            ),
        )
    )

    name: LabelName = Field(description="Name of the gate, unique in the profile.")
    image: ImageName | None = Field(default=None, description="Image that has the tools of the gate.")
    command: Annotated[Command, Field(min_length=1)] | None = Field(
        default=None, description="Command and arguments; the working directory is the checkout. Exit code 0 passes."
    )
    http: GateService | None = Field(
        default=None, description="Ask a service instead of running a Pod. One refusal is final."
    )
    review: Review | None = Field(
        default=None, description="Have the change reviewed by a model before it is gated. One refusal is final."
    )
    timeout_seconds: int = Field(default=600, ge=1, le=86_400, description="Longest time; over it the gate fails.")
    input: Literal["Tree", "Repository"] = Field(
        default="Tree",
        description="Tree: the files alone; the verdict holds for every commit with that tree. Repository: with .git.",
    )
    env: Annotated[list[EnvVar], Field(max_length=16, json_schema_extra=map_list("name"))] = Field(
        default=[], description="Environment variables; no secrets."
    )
    resources: Resources | None = Field(
        default=None, description="Requests and limits; the operator's default otherwise."
    )
    egress: EgressList = Field(default=[], description="What the gate's Pod may reach besides DNS; nothing when empty.")
    coverage: Coverage | None = Field(default=None, description="Judge the coverage that the gate measured, too.")
    tests: TestReports | None = Field(default=None, description="Judge how many tests the gate ran, too.")


class Requirement(ApiModel):
    """Repositories and branches for which a profile is required."""

    repository: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9*?\[][^\s:@]*$",
        description="Host and path of the repository, or a glob of them, without scheme, user and port: for example "
        "git.example.org/team/*. A plain path covers what is below it; case doesn't count.",
    )
    branch: str = Field(
        default="**",
        min_length=1,
        max_length=100,
        pattern=r"^[^\s~^:\\]+$",
        description="Target branch, or a glob of them: for example release/*.",
    )


class GateProfileSpec(ApiModel):
    """The gates, and who may use them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"self.gates.map(g, {_gate_text('g')}).sum() <= {MAX_GATES_TEXT}",
                f"command, env and paths of all gates may have {MAX_GATES_TEXT} characters together: put longer texts "
                "into the images or the repository",
                fieldPath=".gates",
            )
        )
    )

    gates: Annotated[list[Gate], Field(max_length=32, min_length=1, json_schema_extra=map_list("name"))] = Field(
        description="The gates in order."
    )
    required_for: Annotated[list[Requirement], Field(max_length=8, json_schema_extra=ATOMIC_LIST)] = Field(
        default=[],
        description="Where every candidate must pass these gates too, whatever a build, task or lane chooses; a lane "
        "there in a namespace that may not use the profile lands nothing.",
    )
    allowed_namespaces: NamespaceList = Field(
        default=[], description="Namespaces whose objects may name the profile; all when empty."
    )


class GateProfile(ApiModel):
    """An ordered list of gates that candidates must pass."""

    spec: GateProfileSpec = Field(description="The gates, and who may use them.")
