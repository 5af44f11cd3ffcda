"""GateProfile: an ordered list of gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    ApiModel,
    Command,
    EgressList,
    EnvVar,
    ImageName,
    LabelName,
    NamespaceList,
    Resources,
    map_list,
    rule,
    rules,
    text_size,
)

MAX_GATES_TEXT = 32 * 1024


class Gate(ApiModel):
    """One check on a commit, run in a Pod; its exit code is the verdict."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"{text_size('self', 'command', 'env')} <= {MAX_GATES_TEXT}",
                f"command and env of a gate may have {MAX_GATES_TEXT} characters together: put longer texts into the "
                "image or the repository",
                fieldPath=".command",
            )
        )
    )

    name: LabelName = Field(description="Name of the gate, unique in the profile.")
    image: ImageName = Field(description="Image that has the tools of the gate.")
    command: Annotated[Command, Field(min_length=1)] = Field(
        description="Command and arguments; the working directory is the checkout. Exit code 0 passes."
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


class GateProfileSpec(ApiModel):
    """The gates, and who may use them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"self.gates.map(g, {text_size('g', 'command', 'env')}).sum() <= {MAX_GATES_TEXT}",
                f"command and env of all gates may have {MAX_GATES_TEXT} characters together: put longer texts "
                "into the images or the repository",
                fieldPath=".gates",
            )
        )
    )

    gates: Annotated[list[Gate], Field(max_length=32, min_length=1, json_schema_extra=map_list("name"))] = Field(
        description="The gates in order."
    )
    allowed_namespaces: NamespaceList = Field(
        default=[], description="Namespaces whose objects may name the profile; all when empty."
    )


class GateProfile(ApiModel):
    """An ordered list of gates that candidates must pass."""

    spec: GateProfileSpec = Field(description="The gates, and who may use them.")
